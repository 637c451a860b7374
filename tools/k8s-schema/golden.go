// Golden objects: random ones, written as protobuf by Kubernetes' own code, beside what the same code makes of those
// bytes in JSON. One line each: `v1/Pod <tab> base64 <tab> JSON`.

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"
)

const (
	objectsOfKind = 3
	// Larger ones add bytes, not cases.
	maxGoldenBytes = 3500
	maxTries       = 40
)

func writeGolden(path string) {
	known := runtime.NewScheme()
	must(scheme.AddToScheme(known))
	must(apiextensionsv1.AddToScheme(known))
	metav1.AddToGroupVersion(known, metav1.Unversioned)
	codecs := serializer.NewCodecFactory(known)
	funcs := fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, goldenFuncs)
	// Always the same objects: a new version of a module shows as a difference of the types, not of chance.
	random := fuzzer.FuzzerFor(funcs, rand.NewSource(37), codecs).NumElements(1, 2).NilChance(0.3)
	wire := protobuf.NewSerializer(known, known)
	var out bytes.Buffer
	written := 0
	for _, each := range selectKinds() {
		for made, tries := 0, 0; made < objectsOfKind && tries < maxTries; tries++ {
			object, err := known.New(each.GroupVersionKind)
			must(err)
			random.Fill(object)
			object.GetObjectKind().SetGroupVersionKind(each.GroupVersionKind)
			var encoded bytes.Buffer
			must(wire.Encode(object, &encoded))
			if encoded.Len() > maxGoldenBytes && tries < maxTries-1 {
				continue
			}
			decoded, _, err := wire.Decode(encoded.Bytes(), nil, nil)
			must(err)
			text, err := json.Marshal(decoded)
			must(err)
			fmt.Fprintf(&out, "%s\t%s\t%s\n", each.key(), base64.StdEncoding.EncodeToString(encoded.Bytes()), text)
			made++
			written++
		}
	}
	out.WriteString(quantityLines())
	content := compressed(out.Bytes())
	must(os.WriteFile(path, content, 0o644))
	fmt.Printf("%d objects, %d bytes, %d compressed\n", written, out.Len(), len(content))
}

func goldenFuncs(serializer.CodecFactory) []any {
	return []any{
		func(text *string, c randfill.Continue) { *text = words[c.Intn(len(words))] },
		func(quantity *resource.Quantity, c randfill.Continue) {
			*quantity = resource.MustParse(quantities[c.Intn(len(quantities))])
		},
		func(time *metav1.Time, c randfill.Continue) { *time = metav1.Unix(c.Int63n(1<<33), 0) },
		func(time *metav1.MicroTime, c randfill.Continue) {
			*time = metav1.NewMicroTime(metav1.Unix(c.Int63n(1<<33), c.Int63n(1e6)*1000).Time)
		},
		func(fields *metav1.FieldsV1, c randfill.Continue) {
			fields.SetRawString(`{"f:metadata":{"f:labels":{".":{}}}}`)
		},
		func(raw *runtime.RawExtension, c randfill.Continue) {
			raw.Raw = []byte(`{"apiVersion":"v1","kind":"Thing","n":[1]}`)
		},
		func(value *apiextensionsv1.JSON, c randfill.Continue) {
			value.Raw = []byte([]string{`{"a":[1,"x"]}`, `"text"`, `42`, `true`}[c.Intn(4)])
		},
		func(either *apiextensionsv1.JSONSchemaPropsOrArray, c randfill.Continue) {
			if c.Bool() {
				either.Schema = &apiextensionsv1.JSONSchemaProps{Type: "string"}
			} else {
				either.JSONSchemas = []apiextensionsv1.JSONSchemaProps{{Type: "integer"}, {Format: "int32"}}
			}
		},
		func(either *apiextensionsv1.JSONSchemaPropsOrBool, c randfill.Continue) {
			if either.Allows = c.Bool(); either.Allows && c.Bool() {
				either.Schema = &apiextensionsv1.JSONSchemaProps{Type: "string"}
			}
		},
		func(either *apiextensionsv1.JSONSchemaPropsOrStringArray, c randfill.Continue) {
			if c.Bool() {
				either.Schema = &apiextensionsv1.JSONSchemaProps{Type: "string"}
			} else {
				either.Property = []string{"a", "b"}
			}
		},
		// Deep enough to show the recursion, and no deeper.
		func(schema *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			if c.Intn(3) == 0 {
				c.FillNoCustom(schema)
			} else {
				schema.Type = "object"
				c.Fill(&schema.MaxLength)
				c.Fill(&schema.Maximum)
			}
		},
	}
}

var words = []string{"", "a", "name", "x.example.com/y", "späte Grüße", "日本", "quote \" and \\", "line\nbreak", "\u2028<&>", "😀"}
var quantities = []string{"0", "1", "1000m", "1500m", "1.5Gi", "1e3", "2E", "-250m", "1024Ki", "0.5", "12345678901234567890", "1u", "100n", "3.3"}

// quantityLines holds texts of quantities beside what Kubernetes makes of them, or its complaint behind a `!`.
func quantityLines() string {
	random := rand.New(rand.NewSource(37))
	texts := append([]string{}, quantities...)
	texts = append(texts, "", " 1 ", "+1", "-0", "1.500", "1E3", "1e-3", "01Ki", "0Ki", ".5", "5.", "1KiB", "1e", "1.5e2.5",
		"9223372036854775807", "9223372036854775808", "8Ei", "7Ei", "9Ei", "0.1Ki", "1.1Ki", "1023Ki", "1024Ki", "1048576", "0.0000000001",
		"1e-40", "1e40", "100E", "999999999999999999n", "--1", "1 Gi", "NaN", "0x10", "1_000")
	suffixes := []string{"", "n", "u", "m", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "e3", "E2", "e-2", "e+6", "x"}
	for range 400 {
		text := fmt.Sprint(random.Int63n([]int64{10, 1000, 100000, 1 << 50}[random.Intn(4)]))
		if random.Intn(2) == 0 {
			text += "." + fmt.Sprint(random.Intn(10000))
		}
		if random.Intn(8) == 0 {
			text = "-" + text
		}
		texts = append(texts, text+suffixes[random.Intn(len(suffixes))])
	}
	var out bytes.Buffer
	for _, text := range texts {
		var quantity resource.Quantity
		quoted, err := json.Marshal(text)
		must(err)
		if err := json.Unmarshal(quoted, &quantity); err != nil {
			fmt.Fprintf(&out, "quantity\t%s\t!%s\n", text, err)
			continue
		}
		fmt.Fprintf(&out, "quantity\t%s\t%s\n", text, quantity.String())
	}
	return out.String()
}
