// The protobuf table: what the Go types' struct tags say of every message, in a short notation.
//
//	"core.v1.Pod": [[1, "metadata", "meta.v1.ObjectMeta"], …]
//
// A field is [number, JSON name, type]. An empty JSON name means that the message's fields stand inline. The type is
// string, bytes, int, bool, double, strings (a message of its own that holds a list: `ExtraValue`) or the name of a
// message; `[]` before it a list, `{}` a map from strings. Before all of that: `*` a pointer (zero is a value), `?` left
// out of the JSON when empty.

package main

import (
	"log"
	"reflect"
	"strconv"
	"strings"
)

// messageName is `core.v1.Pod` for k8s.io/api/core/v1.Pod.
func messageName(goType reflect.Type) string {
	path := goType.PkgPath()
	for _, prefix := range []string{
		"k8s.io/api/", "k8s.io/apiextensions-apiserver/pkg/apis/", "k8s.io/apimachinery/pkg/apis/",
		"k8s.io/apimachinery/pkg/api/", "k8s.io/apimachinery/pkg/util/", "k8s.io/apimachinery/pkg/",
	} {
		if rest, found := strings.CutPrefix(path, prefix); found {
			return strings.ReplaceAll(rest, "/", ".") + "." + goType.Name()
		}
	}
	log.Fatalf("a type of an unexpected package: %s", goType)
	return ""
}

func messageNames(kinds []kind) map[string]any {
	names := map[string]any{}
	for _, each := range kinds {
		names[each.key()] = messageName(each.goType)
	}
	return names
}

func messagesOf(kinds []kind) map[string]any {
	messages := map[string]any{}
	var add func(goType reflect.Type)
	add = func(goType reflect.Type) {
		name := messageName(goType)
		if _, done := messages[name]; done || goType.Kind() != reflect.Struct {
			return
		}
		fields := [][]any{}
		messages[name] = fields
		for i := range goType.NumField() {
			field := goType.Field(i)
			tag := field.Tag.Get("protobuf")
			if tag == "" || tag == "-" {
				continue
			}
			parts := strings.Split(tag, ",")
			number, err := strconv.Atoi(parts[1])
			must(err)
			notation, message := typeNotation(field, parts[0])
			jsonName, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			fields = append(fields, []any{number, jsonName, notation})
			if message != nil {
				add(message)
			}
		}
		messages[name] = fields
	}
	for _, each := range kinds {
		add(each.goType)
	}
	return messages
}

func typeNotation(field reflect.StructField, wire string) (string, reflect.Type) {
	prefix := ""
	if options := field.Tag.Get("json"); strings.Contains(options, ",omitempty") || strings.Contains(options, ",omitzero") {
		prefix = "?"
	}
	goType := field.Type
	if goType.Kind() == reflect.Pointer {
		prefix += "*"
		goType = goType.Elem()
	}
	switch {
	case isMessageList(goType):
	case goType.Kind() == reflect.Slice && goType.Elem().Kind() != reflect.Uint8:
		prefix += "[]"
		goType = goType.Elem()
	case goType.Kind() == reflect.Map:
		prefix += "{}"
		goType = goType.Elem()
	}
	if isMessageList(goType) {
		return prefix + "strings", nil
	}
	if goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	switch goType.Kind() {
	case reflect.String:
		return prefix + "string", nil
	case reflect.Slice:
		return prefix + "bytes", nil
	case reflect.Bool:
		return prefix + "bool", nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return prefix + "int", nil
	case reflect.Float64:
		return prefix + "double", nil
	case reflect.Struct:
		return prefix + messageName(goType), goType
	}
	log.Fatalf("%s: no notation for %s (%s)", field.Name, goType, wire)
	return "", nil
}

// isMessageList tells named lists of strings that are messages of their own on the wire from plain ones.
func isMessageList(goType reflect.Type) bool {
	if goType.Kind() != reflect.Slice || goType.Name() == "" || goType.Elem().Kind() != reflect.String {
		return false
	}
	_, isMessage := reflect.New(goType).Interface().(interface{ Unmarshal([]byte) error })
	return isMessage
}
