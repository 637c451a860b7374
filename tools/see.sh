#!/bin/sh
# Shows one feature's evidence: `npm run see -- M4`. Without an id it lists those that have a script.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
PATH=$PATH:/usr/sbin:/sbin
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
exec "$root/node_modules/node-linux-$arch/bin/node" test/e2e/see.ts "$@"
