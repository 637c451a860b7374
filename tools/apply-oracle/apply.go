package main

import (
	"errors"
	"fmt"
	"math/rand"
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	applyconfigurations "k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

type entry struct {
	Manager     string           `json:"manager"`
	Operation   string           `json:"operation"`
	APIVersion  string           `json:"apiVersion"`
	Subresource string           `json:"subresource,omitempty"`
	Timed       bool             `json:"timed"`
	Fields      *metav1.FieldsV1 `json:"fieldsV1"`
}

type cause struct {
	Message string `json:"message"`
	Field   string `json:"field"`
}

type step struct {
	// apply, update or clear (an update with an empty list of managed fields).
	Operation   string  `json:"op"`
	Manager     string  `json:"manager"`
	Force       bool    `json:"force,omitempty"`
	Subresource string  `json:"subresource,omitempty"`
	Object      object  `json:"object"`
	Live        object  `json:"live,omitempty"`
	Managed     []entry `json:"managed,omitempty"`
	Error       string  `json:"error,omitempty"`
	Causes      []cause `json:"causes,omitempty"`
}

type script struct {
	Kind   string `json:"kind"`
	Steps  []step `json:"steps,omitempty"`
	Schema any    `json:"schema,omitempty"`
}

// The objects here are JSON all the way: nothing to convert, to default or to create.
type plain struct{}

func (plain) Convert(_, _, _ any) error { return errors.New("not used") }
func (plain) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (plain) ConvertFieldLabel(_ schema.GroupVersionKind, _, _ string) (string, string, error) {
	return "", "", errors.New("not used")
}
func (plain) Default(runtime.Object) {}
func (plain) New(kind schema.GroupVersionKind) (runtime.Object, error) {
	made := &unstructured.Unstructured{Object: object{}}
	made.SetGroupVersionKind(kind)
	return made, nil
}

func managerOf(converter managedfields.TypeConverter, kind schema.GroupVersionKind, subresource string) *managedfields.FieldManager {
	version := fieldpath.APIVersion(kind.GroupVersion().String())
	reset := fieldpath.NewSet(fieldpath.MakePathOrDie("status"))
	if subresource == "status" {
		reset = fieldpath.NewSet(fieldpath.MakePathOrDie("spec"), fieldpath.MakePathOrDie("metadata"))
	}
	filter := map[fieldpath.APIVersion]fieldpath.Filter{version: fieldpath.NewExcludeSetFilter(reset)}
	manager, err := managedfields.NewDefaultFieldManager(converter, plain{}, plain{}, plain{}, kind, kind.GroupVersion(), subresource, filter)
	check(err)
	return manager
}

func applyCases() []any {
	random := maker{rand.New(rand.NewSource(37))}
	builtIn := applyconfigurations.NewTypeConverter(scheme.Scheme)
	custom := customConverter()
	lines := []any{script{Kind: "Thing", Schema: raw(customSchema)}}
	add := func(count int, converter managedfields.TypeConverter, make func() object) {
		for range count {
			lines = append(lines, random.script(converter, make))
		}
	}
	add(110, builtIn, random.service)
	add(130, builtIn, random.deployment)
	add(90, builtIn, random.pod)
	add(60, builtIn, random.configMap)
	add(130, custom, random.custom)
	return lines
}

func (m maker) script(converter managedfields.TypeConverter, make func() object) script {
	first := make()
	kind := schema.FromAPIVersionAndKind(first["apiVersion"].(string), first["kind"].(string))
	main := managerOf(converter, kind, "")
	status := managerOf(converter, kind, "status")
	empty, err := plain{}.New(kind)
	check(err)
	live := empty.(*unstructured.Unstructured)
	result := script{Kind: kind.Kind}
	clientSide := false
	hasStatus := kind.Kind != "ConfigMap" && kind.Kind != "Service"
	for index := range 3 + m.Intn(5) {
		if index == 1 && result.Steps[0].Error != "" {
			clientSide = false
		}
		next := step{Manager: pick(m, "a", "b", "c"), Operation: "apply", Object: copyOf(make()), Force: m.chance(35)}
		uses := main
		switch {
		case index > 0 && m.chance(35):
			next.Operation, next.Force = "update", false
			next.Object = m.changed(copyOf(live.Object), copyOf(make()))
		case index == 0 && m.chance(35):
			next.Operation, next.Force = "update", false
		case index > 1 && m.chance(3):
			next.Operation, next.Force = "clear", false
			next.Object = m.changed(copyOf(live.Object), copyOf(make()))
		case m.chance(4):
			next.Object = m.wrong(next.Object)
		case m.chance(20):
			// The kubectl of the field has its own rules.
			next.Manager = "kubectl"
		}
		if index == 0 && next.Operation == "update" && m.chance(40) {
			// Client-side apply, which leaves its configuration in an annotation.
			next.Manager = "kubectl-client-side-apply"
			annotate(next.Object)
			clientSide = true
		} else if clientSide && index == 1 {
			next.Operation, next.Manager, next.Force = "apply", "kubectl", false
			next.Object = m.changed(copyOf(result.Steps[0].Object), copyOf(make()))
			if annotations, has := next.Object["metadata"].(object)["annotations"].(object); has {
				delete(annotations, lastApplied)
			}
		}
		if live.GetUID() != "" && hasStatus && m.chance(25) && next.Operation != "clear" {
			next.Subresource, uses = "status", status
		}
		out, err := m.run(uses, live, next)
		if err != nil {
			next.Error, next.Causes = describe(err)
		} else {
			live = out
			next.Managed = entriesOf(live.GetManagedFields())
			next.Live = copyOf(live.Object)
			delete(next.Live["metadata"].(object), "managedFields")
			delete(next.Live["metadata"].(object), "uid")
		}
		result.Steps = append(result.Steps, next)
	}
	return result
}

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func annotate(applied object) {
	text := encode(applied)
	meta := applied["metadata"].(object)
	if _, has := meta["annotations"]; !has {
		meta["annotations"] = object{}
	}
	meta["annotations"].(object)[lastApplied] = string(text)
}

func (m maker) run(manager *managedfields.FieldManager, live *unstructured.Unstructured, next step) (*unstructured.Unstructured, error) {
	given := &unstructured.Unstructured{Object: copyOf(next.Object)}
	var out runtime.Object
	var err error
	if next.Operation == "apply" {
		out, err = manager.Apply(live.DeepCopy(), given, next.Manager, next.Force)
	} else {
		if next.Subresource == "status" {
			// As the registry does: the rest is what it was.
			whole := live.DeepCopy().Object
			delete(whole, "status")
			if status, has := given.Object["status"]; has {
				whole["status"] = status
			}
			given.Object = whole
		} else if status, has := live.Object["status"]; has {
			given.Object["status"] = copyOf(status)
		} else {
			delete(given.Object, "status")
		}
		if next.Operation == "clear" {
			given.SetManagedFields([]metav1.ManagedFieldsEntry{})
		}
		given.SetUID(live.GetUID())
		out, err = manager.Update(live.DeepCopy(), given, next.Manager)
	}
	if err != nil {
		return nil, err
	}
	stored := out.(*unstructured.Unstructured)
	if next.Operation == "apply" && next.Subresource == "" {
		keepOnly(stored.Object, live.Object, "status")
	}
	if next.Operation == "apply" && next.Subresource == "status" {
		keepOnly(stored.Object, live.Object, "spec")
		fields := stored.GetManagedFields()
		keepOnly(stored.Object, live.Object, "metadata")
		stored.SetManagedFields(fields)
	}
	withoutNulls(stored.Object)
	if stored.Object["metadata"] == nil {
		stored.Object["metadata"] = object{}
	}
	stored.SetName("x")
	stored.SetNamespace("default")
	stored.SetUID("u")
	return stored, nil
}

func keepOnly(target, from object, name string) {
	if kept, has := from[name]; has {
		target[name] = copyOf(kept)
	} else {
		delete(target, name)
	}
}

// changed is the live object with some of its parts as in another object, and now and then a doubled list item.
func (m maker) changed(live, other object) object {
	meta, exists := live["metadata"].(object)
	if !exists {
		return other
	}
	delete(meta, "managedFields")
	delete(meta, "uid")
	return m.blend(live, other).(object)
}

func (m maker) blend(mine, theirs any) any {
	left, isLeft := mine.(object)
	right, isRight := theirs.(object)
	if isLeft && isRight {
		for _, key := range keysOf(left, right) {
			a, hasA := left[key]
			b, hasB := right[key]
			fixed := key == "apiVersion" || key == "kind" || key == "name" || key == "namespace" || key == "metadata"
			switch {
			case hasA && hasB:
				left[key] = m.blend(a, b)
			case hasB && m.chance(25):
				left[key] = b
			case hasA && !fixed && m.chance(12):
				delete(left, key)
			}
		}
		return left
	}
	if list, isList := mine.([]any); isList {
		items, _ := theirs.([]any)
		switch {
		case m.chance(30) && len(list) > 0:
			for index := range list {
				if other, same := find(items, list[index]); same {
					list[index] = m.blend(list[index], other)
				}
			}
			if m.chance(8) {
				list = append(list, list[0])
			}
			return list
		case m.chance(20):
			return theirs
		}
		return list
	}
	if m.chance(25) {
		return theirs
	}
	return mine
}

func find(items []any, wanted any) (any, bool) {
	one, isObject := wanted.(object)
	for _, item := range items {
		other, alsoObject := item.(object)
		if isObject && alsoObject && one["name"] == other["name"] && one["host"] == other["host"] &&
			one["containerPort"] == other["containerPort"] && one["port"] == other["port"] && one["type"] == other["type"] {
			return other, true
		}
	}
	return nil, false
}

// wrong spoils an applied object: a doubled item or a field that the kind does not have.
func (m maker) wrong(applied object) object {
	spec, has := applied["spec"].(object)
	if !has {
		applied["unheard"] = "x"
		return applied
	}
	if ports, isList := spec["ports"].([]any); isList && len(ports) > 0 && m.chance(50) {
		spec["ports"] = append(ports, ports[0])
		return applied
	}
	spec["unheard"] = object{"of": int64(1)}
	return applied
}

func describe(err error) (string, []cause) {
	var causes []cause
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		if status.ErrStatus.Details == nil {
			return err.Error(), nil
		}
		for _, each := range status.ErrStatus.Details.Causes {
			if each.Type != metav1.CauseTypeFieldManagerConflict {
				panic(fmt.Sprintf("a cause of type %s", each.Type))
			}
			causes = append(causes, cause{Message: each.Message, Field: each.Field})
		}
		sort.Slice(causes, func(i, j int) bool {
			if causes[i].Message != causes[j].Message {
				return causes[i].Message < causes[j].Message
			}
			return causes[i].Field < causes[j].Field
		})
	}
	return err.Error(), causes
}

// entriesOf leaves the moments out: only whether an entry carries one stays.
func entriesOf(fields []metav1.ManagedFieldsEntry) []entry {
	entries := []entry{}
	for _, each := range fields {
		entries = append(entries, entry{Manager: each.Manager, Operation: string(each.Operation),
			APIVersion: each.APIVersion, Subresource: each.Subresource, Timed: each.Time != nil, Fields: each.FieldsV1})
	}
	sort.Slice(entries, func(i, j int) bool {
		a, b := entries[i], entries[j]
		return a.Operation+" "+a.Manager+" "+a.Subresource < b.Operation+" "+b.Manager+" "+b.Subresource
	})
	return entries
}

func keysOf(objects ...object) []string {
	seen := map[string]bool{}
	keys := []string{}
	for _, each := range objects {
		for key := range each {
			if !seen[key] {
				seen[key] = true
				keys = append(keys, key)
			}
		}
	}
	sort.Strings(keys)
	return keys
}
