#!/bin/sh
# Runs the benchmarks of bench/ on the project's own Node: the data path, or `apiserver` for the embedded API server.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
PATH=$PATH:/usr/sbin:/sbin
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
script=run
if [ "${1-}" = apiserver ]; then
  script=apiserver
  shift
fi
exec "$root/node_modules/node-linux-$arch/bin/node" bench/$script.ts "$@"
