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

# Every test file is a process of its own: what one has compiled of the sources is kept for the next. Not for the e2e tests,
# whose programs are started as people start them.
compiled=$(mktemp -d)
trap 'rm -rf "$compiled"' EXIT

# Only against a ring that hangs: `--test-timeout` ends a test, not a file whose process something holds after its tests.
at_most='timeout --foreground --kill-after=20'

echo '--- unit and loopback tests'
$at_most 15m env NODE_COMPILE_CACHE="$compiled" "$node" --test --test-timeout=120000 --test-concurrency=2 'src/**/*.test.ts' 'tools/**/*.test.ts' 'test/*.test.ts' 'test/loopback/*.test.ts' 'test/fuzz/*.test.ts' 'test/endurance/*.test.ts'

# Mostly waits for the kernel, each file in namespaces of its own: several at a time.
netns_tests() {
  "$@" $at_most 10m env NODE_COMPILE_CACHE="$compiled" \
    "$node" --test --test-timeout=400000 --test-concurrency=3 'test/netns/*.test.ts' 'test/interop/*.test.ts'
}
# A whole mesh each: one at a time.
e2e_tests() { $at_most 20m "$node" --test --test-timeout=400000 --test-concurrency=1 'test/e2e/*.test.ts'; }

if [ "$(id -u)" = 0 ]; then
  echo '--- netns tests'
  netns_tests
  echo '--- e2e tests'
  e2e_tests
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
echo '--- netns tests'
netns_tests as_root_inside
echo '--- e2e tests'
e2e_tests
