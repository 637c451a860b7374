#!/bin/sh
# Fuzzes the decoders on the project's own Node: `npm run fuzz -- --seconds 60 hpack`.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
exec "$root/node_modules/node-linux-$arch/bin/node" test/fuzz/run.ts "$@"
