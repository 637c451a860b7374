#!/bin/sh
# Runs the benchmarks of bench/ on the project's own Node: the data path, or `apiserver` for the embedded API server,
# `enrol` for the CNI agent, or `convergence` for the control plane.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
PATH=$PATH:/usr/sbin:/sbin
case $(uname -m) in x86_64) arch=x64 ;; *) arch=arm64 ;; esac
script=run
case ${1-} in
  apiserver | enrol | convergence)
    script=$1
    shift
    ;;
esac
exec "$root/node_modules/node-linux-$arch/bin/node" bench/$script.ts "$@"
