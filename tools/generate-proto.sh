#!/bin/sh
# Generates src/proto/gen from the .proto sources. Run by hand after a change; needs protoc (Debian: protobuf-compiler).
# JavaScript with declarations, because TypeScript enums cannot run by type stripping.
set -eu
cd "$(dirname "$0")/.."
command -v protoc >/dev/null || { echo "generate-proto: protoc is missing; apt-get install protobuf-compiler" >&2; exit 1; }
rm -rf src/proto/gen && mkdir -p src/proto/gen
protoc -I src/proto --plugin=node_modules/.bin/protoc-gen-es \
  --es_out=src/proto/gen --es_opt=target=js+dts,import_extension=js src/proto/*.proto
