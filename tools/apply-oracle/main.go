// apply-oracle writes the golden cases of server-side apply and of strategic merge patch: random scripts, and what
// Kubernetes' own libraries make of them. Run by hand (see README.md); the output is checked in.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
)

type object = map[string]any

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . FOLDER")
		os.Exit(2)
	}
	write(filepath.Join(os.Args[1], "apply-cases.jsonl.gz"), applyCases())
	write(filepath.Join(os.Args[1], "strategic-cases.jsonl.gz"), strategicCases())
}

func write(path string, lines []any) {
	var buffer bytes.Buffer
	// No name and no time in the header: the same cases give the same bytes.
	zip, err := gzip.NewWriterLevel(&buffer, gzip.BestCompression)
	check(err)
	encoder := json.NewEncoder(zip)
	encoder.SetEscapeHTML(false)
	for _, line := range lines {
		check(encoder.Encode(line))
	}
	check(zip.Close())
	check(os.WriteFile(path, buffer.Bytes(), 0o644))
	fmt.Printf("%s: %d cases, %d bytes\n", path, len(lines), buffer.Len())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// copyOf goes through JSON, so that numbers are what a decoder makes of them.
func copyOf(value any) object {
	text, err := json.Marshal(value)
	check(err)
	var copied object
	decoder := json.NewDecoder(bytes.NewReader(text))
	check(decoder.Decode(&copied))
	return whole(copied).(object)
}

// whole turns the decoder's floats into the integers that the libraries expect.
func whole(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, each := range typed {
			typed[key] = whole(each)
		}
	case []any:
		for index, each := range typed {
			typed[index] = whole(each)
		}
	case float64:
		if typed == float64(int64(typed)) {
			return int64(typed)
		}
	}
	return value
}

// withoutNulls does what decoding into the Go type does to an object: a null is an absent field.
func withoutNulls(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, each := range typed {
			if each == nil {
				delete(typed, key)
			} else {
				typed[key] = withoutNulls(each)
			}
		}
	case []any:
		for index, each := range typed {
			typed[index] = withoutNulls(each)
		}
	}
	return value
}

// maker draws random values; one seed, one output.
type maker struct{ *rand.Rand }

func (m maker) chance(percent int) bool { return m.Intn(100) < percent }

func pick[T any](m maker, from ...T) T { return from[m.Intn(len(from))] }

// some sets a field in some of the cases.
func (m maker) some(target object, percent int, name string, make func() any) {
	if m.chance(percent) {
		target[name] = make()
	}
}

// list draws up to most items with different keys, in random order.
func (m maker) list(most int, keys []string, make func(key string) any) []any {
	order := m.Perm(len(keys))
	count := m.Intn(most + 1)
	list := []any{}
	for _, index := range order[:min(count, len(keys))] {
		list = append(list, make(keys[index]))
	}
	return list
}
