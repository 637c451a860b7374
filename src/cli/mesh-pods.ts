// The pods of the mesh's own programs, and which of them a command means.

import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import type { FetchFromPod } from '#k8s/pod-http.ts';
import { SYSTEM_NAMESPACE } from './cluster-options.ts';
import { didYouMean } from './suggest.ts';

const STATS_PORT = 15_020;

const refused = (message: string): MeshError => new MeshError('CONFIG_INVALID', message);

async function podsOf(client: KubeClient, app: string, namespace: string): Promise<Pod[]> {
  const { items } = await client.list(PODS, { namespace, labelSelector: `app=${app}` });
  return items
    .filter(({ status, metadata }) => status?.phase === 'Running' && metadata.deletionTimestamp === undefined)
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

export const listIstiods = (client: KubeClient, namespace = SYSTEM_NAMESPACE): Promise<Pod[]> =>
  podsOf(client, 'istiod', namespace);

/** @throws MeshError CONFIG_INVALID when there is none */
export async function listZtunnels(client: KubeClient, namespace = SYSTEM_NAMESPACE): Promise<Pod[]> {
  const pods = await podsOf(client, 'ztunnel', namespace);
  if (pods.length === 0)
    throw refused(`no ztunnel runs in namespace ${namespace}; to install the mesh: culvert install`);
  return pods;
}

export interface PodChoice {
  /** `NAME`, `NAME.NAMESPACE`, `pod/NAME` or `daemonset/ztunnel`. */
  readonly name?: string | undefined;
  readonly node?: string | undefined;
  readonly namespace?: string | undefined;
}

/** What a proxy calls itself, from its metrics: they are smaller than its dump. */
export async function ztunnelVersion(fetchFromPod: FetchFromPod, { metadata }: Pod): Promise<string> {
  const { name, namespace = '' } = metadata;
  const text = await fetchFromPod({ namespace, pod: name, port: STATS_PORT, path: '/metrics' });
  return /^istio_build\{[^}]*\btag="([^"]*)"/m.exec(text)?.[1] ?? 'unknown';
}

/** The ztunnels meant: one when a pod or node is named, else all. @throws MeshError CONFIG_INVALID */
export async function chooseZtunnels(client: KubeClient, choice: PodChoice): Promise<Pod[]> {
  const { name, namespace } = podName(
    choice.name ?? 'daemonset/ztunnel',
    choice.namespace ?? SYSTEM_NAMESPACE,
  );
  const pods = await listZtunnels(client, namespace);
  const names = pods.map(({ metadata }) => metadata.name);
  if (choice.node !== undefined) {
    const found = pods.filter(({ spec }) => spec.nodeName === choice.node);
    const nodes = pods.map(({ spec }) => spec.nodeName ?? '');
    if (found.length === 0)
      throw refused(`no ztunnel runs on node ${choice.node}${didYouMean(choice.node, nodes)}`);
    return found.slice(0, 1);
  }
  if (name === undefined) return pods;
  const found = pods.find(({ metadata }) => metadata.name === name);
  if (found === undefined)
    throw refused(
      `${name} is no ztunnel of namespace ${namespace}${didYouMean(name, names)} (there are: ${names.join(', ')})`,
    );
  return [found];
}

/** Exported for its test. */
export function podName(text: string, namespace: string): { name: string | undefined; namespace: string } {
  const [, kind, rest = ''] = /^(?:([a-z]+)\/)?(.+)$/.exec(text) ?? [];
  if (kind !== undefined && ['daemonset', 'daemonsets', 'ds'].includes(kind)) {
    if (rest.split('.')[0] !== 'ztunnel') throw refused(`${text} is no ztunnel`);
    return { name: undefined, namespace: rest.split('.')[1] ?? namespace };
  }
  if (kind !== undefined && !['pod', 'pods', 'po'].includes(kind))
    throw refused(`${text}: expected a pod's name, NAME.NAMESPACE or daemonset/ztunnel`);
  const dot = rest.lastIndexOf('.');
  return dot < 0 ? { name: rest, namespace } : { name: rest.slice(0, dot), namespace: rest.slice(dot + 1) };
}
