// Every ztunnel pod beside what the control planes say of it. A proxy that no control plane knows is listed, too: that is
// what the command is asked for.

import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Pod } from '#k8s/objects.ts';
import type { FetchFromPod } from '#k8s/pod-http.ts';
import { listIstiods, listZtunnels, ztunnelVersion } from './mesh-pods.ts';
import { didYouMean } from './suggest.ts';
import { renderTable } from './table.ts';

const DEBUG_PORT = 8080;

/** What `/debug/syncz` of our control plane answers, as far as it is shown. */
interface XdsClient {
  readonly node?: string;
  readonly caller?: {
    readonly pod?: { readonly name: string; readonly uid: string };
    readonly namespace?: string;
  };
  readonly connectedAt?: string;
  readonly subscriptions?: readonly {
    readonly typeUrl: string;
    readonly pending: number;
    readonly sentNonce: string;
    readonly ackedNonce: string;
    readonly rejected?: { readonly message: string };
  }[];
}

export interface TypeStatus {
  /** istioctl's short name: WDS for workloads and services together or workloads alone, WADS for policies. */
  readonly type: string;
  readonly state: 'SYNCED' | 'STALE' | 'REJECTED';
  readonly message?: string;
}

export interface ProxyStatus {
  readonly name: string;
  readonly cluster: string;
  readonly node: string;
  /** The control plane that serves it; undefined when none does. */
  readonly istiod: string | undefined;
  readonly version: string;
  readonly connectedAt: string | undefined;
  readonly types: readonly TypeStatus[];
}

export async function readProxyStatus(
  client: KubeClient,
  fetchFromPod: FetchFromPod,
  wanted: string | undefined,
): Promise<ProxyStatus[]> {
  const [ztunnels, istiods] = await Promise.all([listZtunnels(client), listIstiods(client)]);
  if (istiods.length === 0)
    throw new MeshError(
      'CONFIG_INVALID',
      'no control plane runs in this cluster; look with: kubectl get pods -n istio-system',
    );
  const served = new Map<string, readonly XdsClient[]>();
  await Promise.all(
    istiods.map(async ({ metadata: { name, namespace = '' } }) => {
      const text = await fetchFromPod({ namespace, pod: name, port: DEBUG_PORT, path: '/debug/syncz' });
      served.set(name, parseClients(text, name));
    }),
  );
  const all = await Promise.all(
    ztunnels.map(async (pod) => statusOf(pod, await ztunnelVersion(fetchFromPod, pod), served)),
  );
  if (wanted === undefined) return all;
  const found = all.filter(({ name }) => name === wanted || name.startsWith(`${wanted}.`));
  if (found.length === 0)
    throw new MeshError(
      'CONFIG_INVALID',
      `${wanted} is no ztunnel of this cluster${didYouMean(
        wanted,
        all.map(({ name }) => name),
      )}`,
    );
  return found;
}

/** Of our control plane, or of an istiod. Exported for its test. @throws MeshError API_UNREACHABLE */
export function parseClients(text: string, pod: string): XdsClient[] {
  try {
    const clients: unknown = JSON.parse(text);
    if (Array.isArray(clients)) return (clients as (XdsClient & IstiodClient)[]).map(fromIstiod);
  } catch {
    // Said below.
  }
  throw new MeshError('API_UNREACHABLE', `${pod} gave no list of its proxies`);
}

/** An istiod names the proxy and, by type, the nonces it sent and got back. */
interface IstiodClient {
  readonly proxy?: string;
  readonly resources?: Readonly<
    Record<string, { readonly sent?: string; readonly acked?: string; readonly lastError?: string }>
  >;
}

function fromIstiod(client: XdsClient & IstiodClient): XdsClient {
  const { proxy, resources = {} } = client;
  if (proxy === undefined) return client;
  return {
    node: proxy,
    subscriptions: Object.entries(resources).map(([typeUrl, { sent = '', acked = '', lastError = '' }]) => ({
      typeUrl,
      pending: 0,
      sentNonce: sent,
      ackedNonce: acked,
      ...(lastError === '' ? {} : { rejected: { message: lastError } }),
    })),
  };
}

/** Exported for its test. */
export function statusOf(
  pod: Pod,
  version: string,
  served: ReadonlyMap<string, readonly XdsClient[]>,
): ProxyStatus {
  const { name, namespace = '' } = pod.metadata;
  const container = pod.spec.containers.find((one) => one.name === 'istio-proxy') ?? pod.spec.containers[0];
  const status = {
    name: `${name}.${namespace}`,
    cluster: container?.env?.find((variable) => variable.name === 'CLUSTER_ID')?.value ?? 'Kubernetes',
    node: pod.spec.nodeName ?? '',
    version,
  };
  for (const [istiod, clients] of served) {
    const found = clients.find(
      ({ caller, node }) =>
        caller?.pod?.uid === pod.metadata.uid || (node ?? '').includes(`${name}.${namespace}`),
    );
    if (found !== undefined)
      return {
        ...status,
        istiod,
        connectedAt: found.connectedAt,
        types: (found.subscriptions ?? []).map((subscription) => ({
          type: shortType(subscription.typeUrl),
          ...stateOf(subscription),
        })),
      };
  }
  return { ...status, istiod: undefined, connectedAt: undefined, types: [] };
}

function stateOf(subscription: NonNullable<XdsClient['subscriptions']>[number]): Omit<TypeStatus, 'type'> {
  const { rejected, pending, sentNonce, ackedNonce } = subscription;
  if (rejected !== undefined) return { state: 'REJECTED', message: rejected.message };
  return { state: pending === 0 && sentNonce === ackedNonce ? 'SYNCED' : 'STALE' };
}

function shortType(typeUrl: string): string {
  if (/(Address|Workload)$/.test(typeUrl)) return 'WDS';
  if (/Authorization$/.test(typeUrl)) return 'WADS';
  return typeUrl.replace(/^.*[./]/, '');
}

/** Connected to nobody, or holding back what it was sent. */
export const isBehind = ({ istiod, types }: ProxyStatus): boolean =>
  istiod === undefined || types.some(({ state }) => state === 'REJECTED');

export function proxyStatusTable(proxies: readonly ProxyStatus[], wide: boolean): string {
  const header = ['NAME', 'CLUSTER', 'ISTIOD', 'VERSION', 'SUBSCRIBED TYPES'];
  const rows = proxies.map((proxy) => [
    proxy.name,
    proxy.cluster,
    proxy.istiod ?? 'NOT CONNECTED',
    proxy.version,
    `${proxy.types.length} (${proxy.types
      .map(({ type, state }) => (state === 'SYNCED' ? type : `${type} ${state}`))
      .sort()
      .join(',')})`,
    ...(wide
      ? [
          proxy.node,
          proxy.connectedAt ?? '',
          proxy.types.map(({ message }) => message ?? '').find((text) => text !== '') ?? '',
        ]
      : []),
  ]);
  return renderTable(wide ? [...header, 'NODE', 'CONNECTED', 'REJECTED BECAUSE'] : header, rows, 5);
}
