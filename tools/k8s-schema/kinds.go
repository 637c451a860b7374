// Which kinds the data covers: everything of the stable API groups that a client may send.

package main

import (
	"reflect"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// groupVersions are served by the embedded API server or may be one day; alpha and beta APIs are not among them.
var groupVersions = []schema.GroupVersion{
	{Version: "v1"},
	{Group: "admissionregistration.k8s.io", Version: "v1"},
	{Group: "apiextensions.k8s.io", Version: "v1"},
	{Group: "apps", Version: "v1"},
	{Group: "authentication.k8s.io", Version: "v1"},
	{Group: "authorization.k8s.io", Version: "v1"},
	{Group: "autoscaling", Version: "v1"},
	{Group: "autoscaling", Version: "v2"},
	{Group: "batch", Version: "v1"},
	{Group: "certificates.k8s.io", Version: "v1"},
	{Group: "coordination.k8s.io", Version: "v1"},
	{Group: "discovery.k8s.io", Version: "v1"},
	{Group: "events.k8s.io", Version: "v1"},
	{Group: "networking.k8s.io", Version: "v1"},
	{Group: "node.k8s.io", Version: "v1"},
	{Group: "policy", Version: "v1"},
	{Group: "rbac.authorization.k8s.io", Version: "v1"},
	{Group: "scheduling.k8s.io", Version: "v1"},
	{Group: "storage.k8s.io", Version: "v1"},
}

// Answers and connection options travel in URLs or from the server only.
var neverSent = map[string]bool{
	"APIGroup": true, "APIVersions": true, "List": true, "Status": true, "WatchEvent": true,
	"RangeAllocation": true, "SerializedReference": true, "PodStatusResult": true,
}

type kind struct {
	schema.GroupVersionKind
	goType reflect.Type
}

func (k kind) key() string {
	if k.Group == "" {
		return k.Version + "/" + k.Kind
	}
	return k.Group + "/" + k.Version + "/" + k.Kind
}

func selectKinds() []kind {
	known := runtime.NewScheme()
	must(scheme.AddToScheme(known))
	must(apiextensionsv1.AddToScheme(known))
	kinds := []kind{{schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, reflect.TypeFor[metav1.DeleteOptions]()}}
	for _, groupVersion := range groupVersions {
		types := known.KnownTypes(groupVersion)
		for _, name := range sortedKeys(types) {
			if neverSent[name] || strings.HasSuffix(name, "List") || strings.HasSuffix(name, "Options") {
				continue
			}
			kinds = append(kinds, kind{groupVersion.WithKind(name), types[name]})
		}
	}
	return kinds
}

// modelName is the name of a type in OpenAPI documents, e.g. io.k8s.api.core.v1.Pod; empty for types without one.
func modelName(goType reflect.Type) string {
	named, ok := reflect.Zero(goType).Interface().(interface{ OpenAPIModelName() string })
	if !ok {
		return ""
	}
	return named.OpenAPIModelName()
}

func modelNames(kinds []kind) map[string]any {
	names := map[string]any{}
	for _, each := range kinds {
		names[each.key()] = modelName(each.goType)
	}
	return names
}
