// What of the watched objects is held (control-plane.md §1.1): most of a pod is of no interest here, and all pods are
// held. Who reads another field adds it below.

import type { KubeObject, Node, Pod } from '#k8s/objects.ts';

/** What somebody applied, once more, as text; and what injectors of sidecars leave behind. */
const UNREAD_ANNOTATIONS = ['kubectl.kubernetes.io/last-applied-configuration', 'proxy.istio.io/overrides'];

/** The object without the annotations that can be as large as all the rest of it. */
export function withoutBallast<T extends KubeObject>(object: T): T {
  const { annotations } = object.metadata;
  if (annotations !== undefined) for (const name of UNREAD_ANNOTATIONS) delete annotations[name];
  return object;
}

export function keptOfPod(pod: Pod): Pod {
  const { apiVersion, kind } = pod;
  const { containers, initContainers = [], nodeName, serviceAccountName, hostNetwork } = pod.spec;
  const { phase, podIP, podIPs, conditions = [] } = pod.status ?? {};
  const sidecars = initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return present<Pod>({
    apiVersion,
    kind,
    metadata: keptOfMetadata(pod),
    spec: present<Pod['spec']>({
      // Named ports are found in containers, and in sidecars among those that start first.
      containers: containers.flatMap(portsOf),
      initContainers: sidecars.length === 0 ? undefined : sidecars.flatMap(portsOf),
      nodeName,
      serviceAccountName,
      hostNetwork,
    }),
    status: present<NonNullable<Pod['status']>>({
      phase,
      podIP,
      podIPs,
      conditions: conditions.flatMap(({ type, status }) => (type === 'Ready' ? [{ type, status }] : [])),
    }),
  });
}

function keptOfMetadata(pod: Pod): Pod['metadata'] {
  const { name, namespace, uid, resourceVersion, creationTimestamp, deletionTimestamp, generateName } =
    pod.metadata;
  const { labels, annotations, ownerReferences } = withoutBallast(pod).metadata;
  return present<Pod['metadata']>({
    name,
    namespace,
    uid,
    resourceVersion,
    creationTimestamp,
    deletionTimestamp,
    generateName,
    labels,
    annotations,
    ownerReferences,
  });
}

function portsOf({
  name,
  image,
  ports,
  restartPolicy,
}: Pod['spec']['containers'][number]): Pod['spec']['containers'] {
  return ports === undefined || ports.length === 0
    ? []
    : [present<Pod['spec']['containers'][number]>({ name, image, ports, restartPolicy })];
}

/** Labels tell where a node is, taints whether its CNI agent is awaited; it reports all the rest every few seconds. */
export function keptOfNode(node: Node): Node {
  const { apiVersion, kind, spec } = node;
  return present<Node>({
    apiVersion,
    kind,
    metadata: withoutBallast(node).metadata,
    spec: spec?.taints === undefined ? undefined : { taints: spec.taints },
  });
}

/** Without the fields that are undefined: each would take its place in every object. */
function present<T>(fields: { readonly [Name in keyof T]: T[Name] | undefined }): T {
  const made = {} as Record<string, unknown>;
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) made[name] = value;
  return made as T;
}
