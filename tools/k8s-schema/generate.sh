#!/bin/sh
# Generates src/local/apiserver/data and its golden objects from the modules pinned in go.mod. Run by hand after changing a version; needs Go.
set -eu
cd "$(dirname "$0")"
data=../../src/local/apiserver/data
mkdir -p "$data" ../../src/local/apiserver/testdata
api="admissionregistration/v1 apps/v1 authentication/v1 authorization/v1 autoscaling/v1 autoscaling/v2 batch/v1
certificates/v1 coordination/v1 core/v1 discovery/v1 events/v1 networking/v1 node/v1 policy/v1 rbac/v1 scheduling/v1
scheduling/v1alpha3 storage/v1"
# batch/v1 refers to scheduling/v1alpha3. Word splitting is meant: one argument for each package.
# shellcheck disable=SC2046
go tool openapi-gen --output-dir openapi --output-pkg culvert.local/k8s-schema/openapi \
  --output-file zz_generated.openapi.go --go-header-file /dev/null --report-filename /dev/null \
  $(printf 'k8s.io/api/%s ' $api) \
  k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1 \
  k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/apis/meta/v1 \
  k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/util/intstr
go run . bundle "$data"
go run . golden ../../src/local/apiserver/testdata/protobuf.tsv.gz
go run . typed ../../src/local/apiserver/testdata/typed.tsv.gz
