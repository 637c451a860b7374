// Golden cases of decoding JSON into Kubernetes' types: objects with one thing wrong or odd, beside what Kubernetes' own
// strict decoder makes of them. One line each: `v1/Pod <tab> JSON <tab> error, or nothing <tab> object, or nothing`.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	kjson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	casesOfKind      = 5
	maxTypedBytes    = 2500
	maxTypedAttempts = 60
)

var replacements = []any{
	"x", "", "1000m", "1e3", "2026-01-01T01:00:00+01:00", "2026-01-01T01:00:00.123456Z", "aGk=", "aGk", json.Number("5"),
	json.Number("1.5"), json.Number("3000000000"), json.Number("-1"), true, false, nil, []any{}, map[string]any{},
	[]any{"x"}, []any{nil}, map[string]any{"x": "y"}, map[string]any{"x": json.Number("1")}, map[string]any{"x": nil},
}

func writeTyped(path string) {
	known := runtime.NewScheme()
	must(scheme.AddToScheme(known))
	must(apiextensionsv1.AddToScheme(known))
	metav1.AddToGroupVersion(known, metav1.Unversioned)
	codecs := serializer.NewCodecFactory(known)
	funcs := fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, goldenFuncs)
	fill := fuzzer.FuzzerFor(funcs, rand.NewSource(73), codecs).NumElements(1, 1).NilChance(0.4)
	random := rand.New(rand.NewSource(73))
	strict := kjson.NewSerializerWithOptions(kjson.DefaultMetaFactory, known, known, kjson.SerializerOptions{Strict: true})
	var out bytes.Buffer
	written := 0
	for _, each := range selectKinds() {
		for made, tries := 0, 0; made < casesOfKind && tries < maxTypedAttempts; tries++ {
			object, err := known.New(each.GroupVersionKind)
			must(err)
			fill.Fill(object)
			object.GetObjectKind().SetGroupVersionKind(each.GroupVersionKind)
			text, err := json.Marshal(object)
			must(err)
			if len(text) > maxTypedBytes {
				continue
			}
			var tree map[string]any
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.UseNumber()
			must(decoder.Decode(&tree))
			spoil(random, tree)
			text, err = json.Marshal(tree)
			must(err)
			decoded, _, decodeErr := strict.Decode(text, nil, nil)
			sentence, result := "", ""
			if decodeErr != nil {
				sentence = decodeErr.Error()
			}
			if decoded != nil && (decodeErr == nil || runtime.IsStrictDecodingError(decodeErr)) {
				again, err := json.Marshal(decoded)
				must(err)
				result = string(again)
			}
			fmt.Fprintf(&out, "%s\t%s\t%s\t%s\n", each.key(), text, sentence, result)
			made++
			written++
		}
	}
	content := compressed(out.Bytes())
	must(os.WriteFile(path, content, 0o644))
	fmt.Printf("%d cases, %d bytes, %d compressed\n", written, out.Len(), len(content))
}

// spoil changes one value anywhere in the object, or adds a field where there is none.
func spoil(random *rand.Rand, root map[string]any) {
	type place struct {
		parent any
		key    string
		index  int
	}
	var places []place
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, key := range sortedKeys(value) {
				if key == "apiVersion" || key == "kind" {
					continue
				}
				places = append(places, place{value, key, 0})
				walk(value[key])
			}
		case []any:
			for i, item := range value {
				places = append(places, place{value, "", i})
				walk(item)
			}
		}
	}
	walk(root)
	if len(places) == 0 {
		return
	}
	at := places[random.Intn(len(places))]
	value := replacements[random.Intn(len(replacements))]
	switch parent := at.parent.(type) {
	case map[string]any:
		if random.Intn(5) == 0 {
			parent["unheardOf"] = value
		} else {
			parent[at.key] = value
		}
	case []any:
		parent[at.index] = value
	}
}
