// Writes what the embedded API server knows of Kubernetes' built-in kinds, from the public Go types of the modules
// pinned in go.mod: schemas, protobuf field numbers, descriptions, the OpenAPI v2 document. See README.md.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
)

const usage = "usage: k8s-schema bundle FOLDER | golden FILE | typed FILE"

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal(usage)
	}
	switch os.Args[1] {
	case "bundle":
		writeBundle(os.Args[2])
	case "golden":
		writeGolden(os.Args[2])
	case "typed":
		writeTyped(os.Args[2])
	default:
		log.Fatal(usage)
	}
}

func writeBundle(folder string) {
	kinds := selectKinds()
	schemas, descriptions := schemasOf(kinds)
	files := map[string][]byte{
		"schemas.json":      lines("kinds", modelNames(kinds), "schemas", schemas),
		"protobuf.json":     lines("kinds", messageNames(kinds), "messages", messagesOf(kinds)),
		"descriptions.json": compressed(lines("notice", notice, "descriptions", descriptions)),
	}
	files["descriptions.json.gz"] = files["descriptions.json"]
	delete(files, "descriptions.json")
	hashes := map[string]string{}
	for name, content := range files {
		must(os.WriteFile(filepath.Join(folder, name), content, 0o644))
		sum := sha256.Sum256(content)
		hashes[name] = hex.EncodeToString(sum[:])
		fmt.Printf("%-24s %8d bytes\n", name, len(content))
	}
	manifest, err := json.MarshalIndent(map[string]any{"modules": moduleVersions(), "sha256": hashes}, "", "  ")
	must(err)
	must(os.WriteFile(filepath.Join(folder, "manifest.json"), append(manifest, '\n'), 0o644))
}

var notice = []string{
	"Descriptions of fields are taken from the comments of Kubernetes' Go types (k8s.io/api, k8s.io/apimachinery, k8s.io/apiextensions-apiserver).",
	"Copyright The Kubernetes Authors. Licensed under the Apache License, Version 2.0; see LICENSE.",
}

// moduleVersions reads what this program was linked with, so that the record cannot differ from the source of the data.
func moduleVersions() map[string]string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		log.Fatal("this program was built without module information")
	}
	found := map[string]string{}
	for _, module := range info.Deps {
		switch module.Path {
		case "k8s.io/api", "k8s.io/apimachinery", "k8s.io/apiextensions-apiserver", "k8s.io/kube-openapi":
			found[module.Path] = module.Version
		}
	}
	return found
}

// lines is JSON with one line for each entry of each map, sorted, so that a new release shows as a readable difference.
func lines(pairs ...any) []byte {
	var out bytes.Buffer
	out.WriteString("{")
	for i := 0; i < len(pairs); i += 2 {
		if i > 0 {
			out.WriteString(",")
		}
		fmt.Fprintf(&out, "\n%q:", pairs[i])
		entries, isMap := pairs[i+1].(map[string]any)
		if !isMap {
			out.Write(compact(pairs[i+1]))
			continue
		}
		out.WriteString("{")
		for j, name := range sortedKeys(entries) {
			if j > 0 {
				out.WriteString(",")
			}
			fmt.Fprintf(&out, "\n%q:%s", name, compact(entries[name]))
		}
		out.WriteString("}")
	}
	out.WriteString("}\n")
	return out.Bytes()
}

func compact(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	must(encoder.Encode(value))
	return bytes.TrimRight(out.Bytes(), "\n")
}

// compressed leaves time and name out, so that equal content gives equal bytes.
func compressed(content []byte) []byte {
	var out bytes.Buffer
	writer, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	must(err)
	_, err = writer.Write(content)
	must(err)
	must(writer.Close())
	return out.Bytes()
}

func sortedKeys[V any](entries map[string]V) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
