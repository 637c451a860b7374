package main

import (
	"encoding/json"
	"math/rand"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

type strategicCase struct {
	Kind   string `json:"kind"`
	Target object `json:"target"`
	Patch  object `json:"patch"`
	Result object `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

func raw(text string) json.RawMessage {
	var value any
	check(json.Unmarshal([]byte(text), &value))
	short, err := json.Marshal(value)
	check(err)
	return short
}

func strategicCases() []any {
	random := maker{rand.New(rand.NewSource(53))}
	lines := []any{}
	add := func(count int, kind string, model any, make func() object) {
		for range count {
			lines = append(lines, random.settled(kind, model, make))
		}
	}
	add(150, "Service", corev1.Service{}, random.service)
	add(200, "Deployment", appsv1.Deployment{}, random.deployment)
	add(150, "Pod", corev1.Pod{}, random.pod)
	add(50, "ConfigMap", corev1.ConfigMap{}, random.configMap)
	return lines
}

// settled draws until the outcome does not hang on the order in which Go walks a map.
func (m maker) settled(kind string, model any, make func() object) strategicCase {
	for {
		drawn := m.patchCase(kind, make, model)
		first := outcome(drawn, model)
		same := true
		for range 20 {
			same = same && reflect.DeepEqual(first, outcome(drawn, model))
		}
		if same {
			return first
		}
	}
}

func outcome(drawn strategicCase, model any) strategicCase {
	merged, err := strategicpatch.StrategicMergePatch(encode(drawn.Target), encode(drawn.Patch), model)
	if err != nil {
		drawn.Error = err.Error()
		return drawn
	}
	check(json.Unmarshal(merged, &drawn.Result))
	return drawn
}

func (m maker) patchCase(kind string, make func() object, model any) strategicCase {
	target := copyOf(make())
	modified := copyOf(make())
	var patch object
	if m.chance(50) {
		// As clients write them: the difference of two objects.
		text, err := strategicpatch.CreateTwoWayMergePatch(encode(target), encode(modified), model)
		check(err)
		check(json.Unmarshal(text, &patch))
		// And then it meets an object that has moved on.
		if m.chance(60) {
			target = m.blend(target, copyOf(make())).(object)
		}
	} else {
		patch = copyOf(modified)
		delete(patch, "apiVersion")
		delete(patch, "kind")
		m.direct(patch)
	}
	return strategicCase{Kind: kind, Target: target, Patch: patch}
}

func encode(value any) []byte {
	text, err := json.Marshal(value)
	check(err)
	return text
}

// direct sprinkles directives over a patch.
func (m maker) direct(patch object) {
	for _, key := range keysOf(patch) {
		if key[0] == '$' {
			continue
		}
		switch value := patch[key].(type) {
		case object:
			switch {
			case m.chance(4):
				value["$patch"] = "replace"
			case m.chance(3):
				value["$patch"] = "delete"
			case m.chance(1):
				value["$patch"] = "jump"
			case m.chance(10):
				// Keeps what the patch holds and now and then forgets one, which is refused.
				keep := []any{}
				for _, name := range keysOf(value) {
					if !m.chance(5) {
						keep = append(keep, name)
					}
				}
				value["$retainKeys"] = keep
			}
			m.direct(value)
		case []any:
			m.directList(patch, key, value)
		default:
			if m.chance(8) {
				patch[key] = nil
			}
		}
	}
}

func (m maker) directList(patch object, key string, list []any) {
	if len(list) == 0 {
		return
	}
	if reflect.TypeOf(list[0]).Kind() != reflect.Map {
		if key == "finalizers" && m.chance(40) {
			patch["$deleteFromPrimitiveList/"+key] = []any{pick(m, "a/1", "b/2", "c/3")}
			delete(patch, key)
		}
		if key == "finalizers" && m.chance(30) {
			order := append([]any{}, list...)
			m.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			patch["$setElementOrder/"+key] = append(order, "c/3")
		}
		return
	}
	merge := map[string]string{"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath",
		"hostAliases": "ip", "imagePullSecrets": "name", "conditions": "type", "ownerReferences": "uid", "topologySpreadConstraints": "topologyKey"}[key]
	if key == "ports" {
		merge = "port"
		if _, inContainer := list[0].(object)["containerPort"]; inContainer {
			merge = "containerPort"
		}
	}
	if merge == "" {
		return
	}
	for index, each := range list {
		item := each.(object)
		switch {
		case m.chance(12):
			list[index] = object{merge: item[merge], "$patch": "delete"}
		case m.chance(2):
			delete(item, merge)
		default:
			key := item[merge]
			m.direct(item)
			item[merge] = key
		}
	}
	if m.chance(8) {
		patch[key] = append(list, object{"$patch": "replace"})
	}
	if m.chance(30) {
		order := []any{}
		for _, each := range list {
			if value, has := each.(object)[merge]; has && each.(object)["$patch"] == nil {
				order = append(order, object{merge: value})
			}
		}
		if m.chance(50) {
			order = append(order, object{merge: pick[any](m, "web", "A", "u1", "/b", "v")})
		}
		patch["$setElementOrder/"+key] = order
	}
}
