#!/bin/sh
# Runs a script on the project's own Node: `npm run fuzz`, `npm run soak`, `npm run faults`.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
PATH=$PATH:/usr/sbin:/sbin
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
exec "$root/node_modules/node-linux-$arch/bin/node" "$@"
