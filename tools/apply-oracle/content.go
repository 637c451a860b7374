package main

// Random objects of a few kinds: few names and few values, so that managers meet on the same fields.

func (m maker) words(names ...string) object {
	words := object{}
	for _, name := range names {
		if m.chance(40) {
			words[name] = pick(m, "1", "2", "3")
		}
	}
	return words
}

func (m maker) metadata() object {
	meta := object{"name": "x", "namespace": "default"}
	m.some(meta, 50, "labels", func() any { return m.words("app", "tier", "constructor") })
	m.some(meta, 30, "annotations", func() any { return m.words("note", "example.com/a b", "z") })
	m.some(meta, 15, "finalizers", func() any {
		return m.list(3, []string{"a/1", "b/2", "c/3"}, func(key string) any { return key })
	})
	m.some(meta, 10, "ownerReferences", func() any {
		return m.list(2, []string{"u1", "u2"}, func(key string) any {
			return object{"apiVersion": "v1", "kind": "Node", "name": pick(m, "n", "o"), "uid": key}
		})
	})
	return meta
}

func (m maker) port(number string) any {
	numbers := map[string]int64{"80": 80, "443": 443, "8080": 8080}
	port := object{"port": numbers[number]}
	m.some(port, 60, "name", func() any { return pick(m, "http", "web", "https") })
	m.some(port, 40, "protocol", func() any { return pick(m, "TCP", "TCP", "UDP") })
	m.some(port, 50, "targetPort", func() any { return pick[any](m, int64(8080), "web", int64(80)) })
	return port
}

func (m maker) service() object {
	spec := object{}
	m.some(spec, 60, "type", func() any { return pick(m, "ClusterIP", "NodePort") })
	m.some(spec, 60, "selector", func() any { return m.words("app", "tier") })
	m.some(spec, 80, "ports", func() any { return m.list(3, []string{"80", "443", "8080"}, m.port) })
	m.some(spec, 20, "externalIPs", func() any {
		return m.list(2, []string{"1.1.1.1", "2.2.2.2"}, func(key string) any { return key })
	})
	m.some(spec, 20, "sessionAffinityConfig", func() any {
		return object{"clientIP": object{"timeoutSeconds": pick[int64](m, 10, 20)}}
	})
	m.some(spec, 20, "publishNotReadyAddresses", func() any { return m.chance(50) })
	return object{"apiVersion": "v1", "kind": "Service", "metadata": m.metadata(), "spec": spec}
}

func (m maker) container(name string) any {
	container := object{"name": name}
	m.some(container, 80, "image", func() any { return pick(m, "a:1", "a:2", "b") })
	m.some(container, 40, "args", func() any {
		return m.list(2, []string{"-v", "-x", "run"}, func(key string) any { return key })
	})
	m.some(container, 50, "env", func() any {
		return m.list(3, []string{"A", "B", "C"}, func(key string) any {
			variable := object{"name": key}
			m.some(variable, 80, "value", func() any { return pick(m, "1", "2") })
			return variable
		})
	})
	m.some(container, 40, "ports", func() any {
		return m.list(2, []string{"80", "443"}, func(key string) any {
			port := m.port(key).(object)
			port["containerPort"] = port["port"]
			delete(port, "port")
			delete(port, "targetPort")
			return port
		})
	})
	m.some(container, 30, "resources", func() any {
		return object{"limits": m.words("cpu", "memory"), "requests": m.words("cpu")}
	})
	m.some(container, 30, "volumeMounts", func() any {
		return m.list(2, []string{"/a", "/b"}, func(key string) any {
			return object{"mountPath": key, "name": pick(m, "v", "w")}
		})
	})
	m.some(container, 20, "securityContext", func() any {
		return object{"privileged": m.chance(50), "capabilities": object{"add": []any{pick(m, "A", "B")}}}
	})
	m.some(container, 20, "readinessProbe", func() any {
		return object{"httpGet": object{"path": pick(m, "/", "/ready"), "port": pick[any](m, int64(80), "web")}}
	})
	return container
}

func (m maker) podSpec() object {
	spec := object{"containers": m.list(3, []string{"web", "log", "db"}, m.container)}
	m.some(spec, 30, "volumes", func() any {
		return m.list(2, []string{"v", "w"}, func(key string) any {
			volume := object{"name": key}
			if m.chance(50) {
				volume["emptyDir"] = object{}
			} else {
				volume["configMap"] = object{"name": pick(m, "c", "d")}
			}
			return volume
		})
	})
	m.some(spec, 30, "nodeSelector", func() any { return m.words("zone", "disk") })
	m.some(spec, 30, "tolerations", func() any {
		return m.list(2, []string{"t", "u"}, func(key string) any { return object{"key": key, "operator": "Exists"} })
	})
	m.some(spec, 20, "imagePullSecrets", func() any {
		return m.list(2, []string{"s", "t"}, func(key string) any { return object{"name": key} })
	})
	m.some(spec, 20, "hostAliases", func() any {
		return m.list(2, []string{"1.2.3.4", "4.3.2.1"}, func(key string) any {
			return object{"ip": key, "hostnames": []any{pick(m, "h", "i")}}
		})
	})
	m.some(spec, 20, "topologySpreadConstraints", func() any {
		return m.list(2, []string{"zone", "host"}, func(key string) any {
			return object{"topologyKey": key, "maxSkew": pick[int64](m, 1, 2),
				"whenUnsatisfiable": pick(m, "DoNotSchedule", "ScheduleAnyway")}
		})
	})
	m.some(spec, 30, "terminationGracePeriodSeconds", func() any { return pick[int64](m, 1, 30) })
	m.some(spec, 20, "serviceAccountName", func() any { return pick(m, "a", "b") })
	return spec
}

func (m maker) conditions() any {
	return m.list(2, []string{"Ready", "Available", "Other"}, func(key string) any {
		condition := object{"type": key, "status": pick(m, "True", "False")}
		m.some(condition, 40, "reason", func() any { return pick(m, "Because", "Why") })
		return condition
	})
}

func (m maker) pod() object {
	pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": m.metadata(), "spec": m.podSpec()}
	m.some(pod, 30, "status", func() any {
		status := object{"conditions": m.conditions()}
		m.some(status, 50, "phase", func() any { return pick(m, "Pending", "Running") })
		m.some(status, 30, "podIPs", func() any { return []any{object{"ip": pick(m, "1.1.1.1", "2.2.2.2")}} })
		return status
	})
	return pod
}

func (m maker) deployment() object {
	spec := object{"template": object{"spec": m.podSpec()}}
	m.some(spec["template"].(object), 50, "metadata", func() any { return object{"labels": m.words("app", "tier")} })
	m.some(spec, 60, "replicas", func() any { return pick[int64](m, 0, 1, 3) })
	m.some(spec, 60, "selector", func() any { return object{"matchLabels": m.words("app", "tier")} })
	m.some(spec, 40, "strategy", func() any {
		strategy := object{}
		m.some(strategy, 70, "type", func() any { return pick(m, "Recreate", "RollingUpdate") })
		m.some(strategy, 50, "rollingUpdate", func() any {
			rolling := object{}
			m.some(rolling, 60, "maxSurge", func() any { return pick[any](m, int64(1), "25%") })
			m.some(rolling, 60, "maxUnavailable", func() any { return pick[any](m, int64(0), "50%") })
			return rolling
		})
		return strategy
	})
	deployment := object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": m.metadata(), "spec": spec}
	m.some(deployment, 20, "status", func() any {
		return object{"replicas": pick[int64](m, 1, 2), "conditions": m.conditions()}
	})
	return deployment
}

func (m maker) configMap() object {
	config := object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": m.metadata()}
	m.some(config, 80, "data", func() any { return m.words("a", "b.conf", "c_d", "constructor") })
	m.some(config, 20, "immutable", func() any { return m.chance(50) })
	return config
}

// custom is an object of the made-up definition in custom.go.
func (m maker) custom() object {
	spec := object{}
	m.some(spec, 60, "mode", func() any { return pick(m, "on", "off") })
	m.some(spec, 50, "numbers", func() any {
		return m.list(3, []string{"1", "20", "3"}, func(key string) any {
			return map[string]int64{"1": 1, "20": 20, "3": 3}[key]
		})
	})
	m.some(spec, 50, "tags", func() any {
		return m.list(3, []string{"a", "b \"q\"", "c"}, func(key string) any { return key })
	})
	m.some(spec, 60, "routes", func() any {
		return m.list(3, []string{"a", "b", "c"}, func(key string) any {
			route := object{"host": key}
			m.some(route, 50, "port", func() any { return pick[int64](m, 80, 443) })
			m.some(route, 60, "weight", func() any { return pick[any](m, int64(1), 0.5) })
			m.some(route, 30, "headers", func() any {
				return m.list(2, []string{"h", "i"}, func(name string) any {
					return object{"name": name, "value": pick(m, "x", "y")}
				})
			})
			return route
		})
	})
	m.some(spec, 40, "groups", func() any {
		groups := object{}
		for _, name := range []string{"p", "q"} {
			m.some(groups, 50, name, func() any {
				group := object{}
				m.some(group, 60, "size", func() any { return pick[int64](m, 1, 2) })
				m.some(group, 40, "labels", func() any { return m.words("k", "l") })
				return group
			})
		}
		return groups
	})
	m.some(spec, 40, "whole", func() any { return object{"a": pick(m, "1", "2"), "b": m.words("x")} })
	m.some(spec, 40, "free", func() any {
		return object{"deep": object{"n": pick[int64](m, 1, 2), "list": []any{pick(m, "u", "v")}}, "s": pick(m, "1", "2")}
	})
	m.some(spec, 30, "either", func() any { return pick[any](m, int64(5), "five") })
	m.some(spec, 20, "grid", func() any { return []any{[]any{pick[int64](m, 1, 2)}, []any{}} })
	thing := object{"apiVersion": "example.com/v1", "kind": "Thing", "metadata": m.metadata(), "spec": spec}
	m.some(thing, 30, "status", func() any { return object{"conditions": m.conditions()} })
	return thing
}
