#!/bin/sh
# Lint, types and every test. `npm test` runs this after setup; `.ci/run` runs `npm test`.
#   tools/test.sh [FILE…]   only these test files, without lint and types
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
PATH=$PATH:/usr/sbin:/sbin
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
node=$root/node_modules/node-linux-$arch/bin/node

if [ $# -gt 0 ]; then
  exec "$node" --test --test-timeout=300000 "$@"
fi

echo '--- lint'
node_modules/.bin/biome check --error-on-warnings .
echo '--- types'
node_modules/.bin/tsc --noEmit
# The netns and e2e rings run the programs as people do: from bundles.
echo '--- bundles'
"$node" tools/bundle.ts

echo '--- unit and loopback tests'
"$node" --test --test-timeout=120000 --test-concurrency=2 'src/**/*.test.ts' 'tools/**/*.test.ts' 'test/*.test.ts' 'test/loopback/*.test.ts' 'test/fuzz/*.test.ts' 'test/endurance/*.test.ts'

# One at a time: each owns ports and namespaces, and timing under a full machine tells nothing.
one_by_one() { "$node" --test --test-timeout=400000 --test-concurrency=1 "$@"; }
echo '--- netns and e2e tests'
if [ "$(id -u)" = 0 ]; then
  one_by_one 'test/netns/*.test.ts' 'test/interop/*.test.ts' 'test/e2e/*.test.ts'
  exit
fi
# An ordinary user is root in namespaces of its own; the programs themselves are started as people start them. The shell
# stays as the first process there, because Node would not reap what tests orphan.
as_root_inside() {
  unshare -Urnm --pid --fork --mount-proc --kill-child sh -c \
    'mount -t tmpfs run /run && ip link set lo up && { "$@" & wait $!; }' inside "$@"
}
as_root_inside true || {
  echo 'test: not run: test/netns and test/e2e, because this user may not make namespaces; bin/culvert up says what forbids it' >&2
  exit 1
}
as_root_inside "$node" --test --test-timeout=400000 --test-concurrency=1 'test/netns/*.test.ts' 'test/interop/*.test.ts'
one_by_one 'test/e2e/*.test.ts'
