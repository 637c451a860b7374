// Names of Go types where the schema alone does not tell them (`v1.RestartPolicy` is a string there): Kubernetes' decoding
// errors name them.

package main

import (
	"reflect"
	"strings"
)

// typesByModel finds the Go type of every model that the kinds are made of.
func typesByModel(kinds []kind) map[string]reflect.Type {
	found := map[string]reflect.Type{}
	seen := map[reflect.Type]bool{}
	var walk func(goType reflect.Type)
	walk = func(goType reflect.Type) {
		switch goType.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(goType.Elem())
		case reflect.Struct:
			if seen[goType] {
				return
			}
			seen[goType] = true
			if name := modelName(goType); name != "" {
				found[name] = goType
			}
			for i := range goType.NumField() {
				if field := goType.Field(i); field.IsExported() {
					walk(field.Type)
				}
			}
		}
	}
	for _, each := range kinds {
		walk(each.goType)
	}
	return found
}

// nameGoTypes adds `x-go-type` below a struct's schema.
func nameGoTypes(node map[string]any, goType reflect.Type) {
	properties, _ := node["properties"].(map[string]any)
	for i := range goType.NumField() {
		field := goType.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" && (field.Anonymous || options == "inline") && field.Type.Kind() == reflect.Struct {
			nameGoTypes(node, field.Type)
			continue
		}
		if property, found := properties[name].(map[string]any); found {
			nameGoType(property, field.Type)
		}
	}
}

func nameGoType(node map[string]any, goType reflect.Type) {
	for goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	if goType.Name() != "" && goType.PkgPath() != "" && goType.Kind() != reflect.Struct {
		node["x-go-type"] = goType.String()
	}
	switch goType.Kind() {
	case reflect.Slice:
		if items, found := node["items"].(map[string]any); found {
			nameGoType(items, goType.Elem())
		}
	case reflect.Map:
		if values, found := node["additionalProperties"].(map[string]any); found {
			nameGoType(values, goType.Elem())
		}
	}
}
