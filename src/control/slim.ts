// What is kept of the two kinds of which there are many large objects: the fields that the mesh is computed from and
// certificates are given by. The rest of a pod (environment, volumes, statuses of containers) is most of it.

import type { Condition, Container, Node, ObjectMeta, Pod } from '#k8s/objects.ts';

const APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

export function slimPod({ apiVersion, kind, metadata, spec, status }: Pod): Pod {
  return {
    apiVersion,
    kind,
    metadata: slimMeta(metadata),
    spec: {
      containers: spec.containers.map(slimContainer),
      ...defined('initContainers', spec.initContainers?.filter(isSidecar).map(slimContainer)),
      ...defined('nodeName', spec.nodeName),
      ...defined('serviceAccountName', spec.serviceAccountName),
      ...defined('hostNetwork', spec.hostNetwork),
      ...defined('hostname', spec.hostname),
      ...defined('subdomain', spec.subdomain),
    },
    status: {
      ...defined('phase', status?.phase),
      ...defined('podIP', status?.podIP),
      ...defined('podIPs', status?.podIPs),
      ...defined('conditions', status?.conditions?.filter(({ type }) => type === 'Ready').map(slimCondition)),
    },
  };
}

export function slimNode({ apiVersion, kind, metadata }: Node): Node {
  return { apiVersion, kind, metadata: slimMeta(metadata) };
}

const isSidecar = ({ restartPolicy }: Container): boolean => restartPolicy === 'Always';

function slimContainer({ name, image, ports, restartPolicy }: Container): Container {
  return { name, image, ...defined('ports', ports), ...defined('restartPolicy', restartPolicy) };
}

const slimCondition = ({ type, status }: Condition): Condition => ({ type, status });

function slimMeta(metadata: ObjectMeta): ObjectMeta {
  const { annotations } = metadata;
  if (annotations?.[APPLIED] === undefined) return metadata;
  const { [APPLIED]: _, ...others } = annotations;
  return { ...metadata, annotations: others };
}

function defined<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: V });
}
