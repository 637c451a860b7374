package main

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// A structural schema with every form of list and map. The test reads it from the first line of the cases.
const customSchema = `{
  "type": "object",
  "properties": {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "properties": {
      "name": {"type": "string"}, "namespace": {"type": "string"}, "uid": {"type": "string"},
      "labels": {"type": "object", "additionalProperties": {"type": "string"}},
      "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
      "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
      "ownerReferences": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
        "items": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
          "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "name": {"type": "string"}, "uid": {"type": "string"}}}},
      "managedFields": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
    }},
    "spec": {"type": "object", "properties": {
      "mode": {"type": "string"},
      "numbers": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set"},
      "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
      "routes": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["host", "port"],
        "items": {"type": "object", "properties": {
          "host": {"type": "string"}, "port": {"type": "integer", "default": 80}, "weight": {"type": "number"},
          "headers": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}}}
        }}},
      "groups": {"type": "object", "additionalProperties": {"type": "object", "properties": {
        "size": {"type": "integer"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}}}}},
      "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
        "a": {"type": "string"}, "b": {"type": "object", "additionalProperties": {"type": "string"}}}},
      "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
      "either": {"x-kubernetes-int-or-string": true},
      "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
    }},
    "status": {"type": "object", "properties": {
      "conditions": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {"type": "object", "properties": {
          "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"}}}}
    }}
  }
}`

func customConverter() managedfields.TypeConverter {
	var schema spec.Schema
	check(json.Unmarshal([]byte(customSchema), &schema))
	// The API server writes "integer or string" without a type for this converter.
	schema.Extensions = spec.Extensions{"x-kubernetes-group-version-kind": []any{
		map[string]any{"group": "example.com", "version": "v1", "kind": "Thing"}}}
	converter, err := managedfields.NewTypeConverter(map[string]*spec.Schema{"com.example.v1.Thing": &schema}, false)
	check(err)
	return converter
}
