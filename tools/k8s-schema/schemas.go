// Schemas: openapi-gen's definitions, reduced to what the API server reads, references kept by name.

package main

import (
	"encoding/json"
	"log"

	"culvert.local/k8s-schema/openapi"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// special types are written by Go code of their own, which OpenAPI describes loosely.
var special = map[string]map[string]any{
	"io.k8s.apimachinery.pkg.api.resource.Quantity":                                         {"type": "string", "format": "quantity"},
	"io.k8s.apimachinery.pkg.util.intstr.IntOrString":                                       {"x-kubernetes-int-or-string": true},
	"io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime":                                        {"type": "string", "format": "date-time", "x-go-type": "v1.MicroTime"},
	"io.k8s.apimachinery.pkg.runtime.RawExtension":                                          {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "x-go-type": "runtime.RawExtension"},
	"io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1":                                         {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON":                         {"x-kubernetes-preserve-unknown-fields": true},
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray":       {"x-kubernetes-preserve-unknown-fields": true},
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool":        {"x-kubernetes-preserve-unknown-fields": true},
	"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": {"x-kubernetes-preserve-unknown-fields": true},
}

// schemasOf answers the closure of the kinds' schemas and, apart from them, their descriptions.
func schemasOf(kinds []kind) (map[string]any, map[string]any) {
	definitions := openapi.GetOpenAPIDefinitions(func(name string) spec.Ref { return spec.MustCreateRef(name) })
	schemas, descriptions := map[string]any{}, map[string]any{}
	goTypes := typesByModel(kinds)
	var add func(name string)
	add = func(name string) {
		if _, done := schemas[name]; done {
			return
		}
		definition, found := definitions[name]
		if !found {
			log.Fatalf("no OpenAPI definition of %s: generate.sh must name its package", name)
		}
		text := described{Self: definition.Schema.Description, Fields: map[string]string{}}
		for field, property := range definition.Schema.Properties {
			text.Fields[field] = property.Description
		}
		descriptions[name] = text
		node, isSpecial := special[name]
		if !isSpecial {
			node = reduce(generic(definition.Schema)).(map[string]any)
			if goType, found := goTypes[name]; found {
				nameGoTypes(node, goType)
			}
		}
		schemas[name] = node
		for _, reference := range references(node) {
			add(reference)
		}
	}
	for _, each := range kinds {
		add(modelName(each.goType))
	}
	return schemas, descriptions
}

type described struct {
	Self   string            `json:"self,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

func generic(schema spec.Schema) any {
	text, err := json.Marshal(schema)
	must(err)
	var value any
	must(json.Unmarshal(text, &value))
	return value
}

// reduce drops descriptions, what the generator adds for Go's sake (`default: {}` of every embedded struct, "" of every
// plain string), and what only documentation tools read.
func reduce(value any) any {
	node, isObject := value.(map[string]any)
	if !isObject {
		return value
	}
	kept := map[string]any{}
	for name, child := range node {
		switch name {
		case "description", "x-kubernetes-unions", "x-kubernetes-group-version-kind":
		case "default":
			if !isZero(child) {
				kept[name] = child
			}
		case "properties":
			properties := map[string]any{}
			for field, property := range child.(map[string]any) {
				properties[field] = reduce(property)
			}
			kept[name] = properties
		case "items", "additionalProperties":
			kept[name] = reduce(child)
		case "allOf":
			// {allOf: [{$ref}]} is how a reference gets neighbours in v3.
			for _, part := range child.([]any) {
				for inner, each := range reduce(part).(map[string]any) {
					kept[inner] = each
				}
			}
		default:
			kept[name] = child
		}
	}
	return kept
}

func isZero(value any) bool {
	switch value := value.(type) {
	case string:
		return value == ""
	case float64:
		return value == 0
	case bool:
		return !value
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return value == nil
}

func references(value any) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		if reference, ok := value["$ref"].(string); ok {
			found = append(found, reference)
		}
		for _, child := range value {
			found = append(found, references(child)...)
		}
	case []any:
		for _, child := range value {
			found = append(found, references(child)...)
		}
	}
	return found
}
