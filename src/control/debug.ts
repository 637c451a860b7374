// Debug pages: what the control plane believes, and who has heard of it (control-plane.md §10.1).

import { parse as parseYaml } from 'yaml';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { readableJson } from '#proto/resource-json.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import type { AmbientIndex } from './ambient/ambient-index.ts';
import type { ResourceSet } from './ambient/resource-set.ts';
import type { Stage } from './ambient/stages.ts';
import type { MeshKind } from './ambient/world.ts';
import type { ControlPlaneOptions } from './config.ts';
import type { DebugAnswer, DebugPages, DebugQuery } from './debug-page.ts';
import { clientsAsked, configDump, connectionId, forceDisconnect, type Proxies } from './debug-proxies.ts';
import { type Informers, notSynced } from './informers.ts';
import type { PolicyIndex } from './policies/policy-index.ts';

export interface DebugDeps {
  readonly addresses: ResourceSet;
  readonly policies: ResourceSet;
  readonly index: AmbientIndex;
  readonly policyIndex: PolicyIndex;
  readonly informers: Informers;
  readonly proxies: Proxies;
  readonly options: ControlPlaneOptions;
}

export function debugPages(deps: DebugDeps): DebugPages {
  const { addresses, policies, policyIndex, informers, proxies, options } = deps;
  const { clients } = proxies;
  const asked: Readonly<Record<string, (query: DebugQuery) => DebugAnswer>> = {
    /** The names of the pages. */
    list: ({ besides }) => shown([...pages.keys(), ...besides].sort()),
    adsz: (query) => adsz(proxies, query),
    config_dump: (query) => configDump(proxies, query),
    ...(options.unsafeAdminPages
      ? { force_disconnect: (query: DebugQuery) => forceDisconnect(proxies, query) }
      : {}),
    /** Every client and, per type, what was sent and what it acknowledged or rejected; Istio's names, then ours. */
    syncz: ({ parameters }) => {
      const namespace = parameters.get('namespace') || undefined;
      return shown(
        clients()
          .filter(({ caller }) => namespace === undefined || caller.namespace === namespace)
          .map(syncStatus),
      );
    },
  };
  const plain: Readonly<Record<string, () => unknown>> = {
    connections: () => ({ totalClients: clients().length, clients: clients().map(connection) }),
    /** What clients refuse, in their words. */
    push_status: () =>
      clients().flatMap(({ node, subscriptions }) =>
        subscriptions.flatMap(({ typeUrl, rejected }) =>
          rejected === undefined ? [] : [{ proxy: node, type: typeUrl, ...rejected }],
        ),
      ),
    /** The mesh as node proxies get it. */
    ambientz: () => {
      const told = [...addresses.list()].map(({ bytes }) => readableJson(ADDRESS_TYPE_URL, bytes));
      return {
        workloads: told.flatMap(({ workload }) => workload ?? []),
        services: told.flatMap(({ service }) => service ?? []),
        policies: [...policies.list()].map(({ bytes }) => readableJson(AUTHORIZATION_TYPE_URL, bytes)),
      };
    },
    /** What the stages of the ambient index hold, and what of. */
    krtz: () => deps.index.stages().map((stage) => collection(stage, informers)),
    /** The one cluster that is watched, as one that could be among several. */
    clusterz: () => [
      {
        id: options.clusterId,
        secretName: '',
        syncStatus: notSynced(informers).length === 0 ? 'synced' : 'syncing',
      },
    ],
    /** Through which addresses other networks are reached. */
    networkz: () =>
      deps.index.networkGateways().map(({ network, address, port, namespace, serviceAccount }) => ({
        Network: network,
        Cluster: options.clusterId,
        Addr: address,
        Port: port,
        HBONEPort: port,
        ServiceAccount: { Namespace: namespace, Name: serviceAccount },
      })),
    /** How each AuthorizationPolicy was understood: what is enforced, what is not, and why. */
    authorizationz: () =>
      [...policyIndex.conversions()].map(([name, { kind, explain }]) => ({ name, kind, explain })),
    /** Services and ServiceEntries that name a waypoint: through which they go, or why not. */
    waypointz: () =>
      [...deps.index.bindings()].map(([kind, object, { waypoint, error }]) => ({
        kind,
        object,
        waypoint: waypoint === undefined ? null : `${waypoint.namespace}/${waypoint.name}`,
        ...(error === undefined ? {} : { problem: error.reason, with: error.waypoint }),
      })),
    /** The mesh's own objects, as far as they are kept. */
    configz: () => CONFIG_KINDS.flatMap((kind): unknown[] => [...informers[kind].all()]),
    /** The mesh configuration as it was applied; of one that cannot be read the text. */
    mesh: () => [...informers.meshConfigs.all()].map(({ data }) => meshConfigOf(data?.mesh ?? ''))[0] ?? {},
    /** What flags and environment came to. */
    settings: () => ({ ...options, trustedNodeAccounts: [...options.trustedNodeAccounts] }),
    /** How many objects of each kind are held, and which kinds have not been listed yet. */
    informerz: () => {
      const waiting = new Set(notSynced(informers));
      return Object.fromEntries(
        Object.entries(informers).map(([kind, informer]) => [
          kind,
          { synced: !waiting.has(kind), objects: [...informer.all()].length },
        ]),
      );
    },
  };
  const entries = [
    ...Object.entries(asked),
    ...Object.entries(plain).map(([name, content]) => [name, () => shown(content())] as const),
  ];
  const pages: DebugPages = new Map(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  return pages;
}

const shown = (content: unknown): DebugAnswer => ({ status: 200, content });

const CONFIG_KINDS = [
  'authorizationPolicies',
  'peerAuthentications',
  'serviceEntries',
  'workloadEntries',
  'gatewayClasses',
  'gateways',
] as const satisfies readonly (keyof Informers)[];

function meshConfigOf(text: string): unknown {
  try {
    return parseYaml(text) ?? {};
  } catch {
    return text;
  }
}

/** Every client as it came, and what it watches. */
function adsz(proxies: Proxies, query: DebugQuery): DebugAnswer {
  if (query.parameters.has('push'))
    return {
      status: 404,
      explain:
        'nothing is pushed on demand: every proxy is sent what changes, and catches up when it reconnects',
    };
  const clients = clientsAsked(proxies, 'adsz', query);
  if ('status' in clients) return clients;
  return shown({
    totalClients: clients.length,
    clients: clients.map((client) => ({
      ...connection(client),
      metadata: client.metadata,
      watches: Object.fromEntries(
        client.subscriptions.map(({ typeUrl, wildcard, names }) => [typeUrl, wildcard ? '*' : names]),
      ),
    })),
  });
}

/** In the form in which Istio shows a collection. */
function collection({ name, inputCollection, inputs, outputs, kinds, marked }: Stage, informers: Informers) {
  const waiting = new Set(notSynced(informers));
  return {
    name,
    state: {
      inputCollection,
      inputs,
      outputs,
      synced: marked === 0 && kinds.every((kind) => !waiting.has(INFORMER_OF[kind])),
    },
  };
}

const INFORMER_OF: Readonly<Record<MeshKind, keyof Informers>> = {
  namespace: 'namespaces',
  node: 'nodes',
  pod: 'pods',
  service: 'services',
  slice: 'slices',
  serviceEntry: 'serviceEntries',
  workloadEntry: 'workloadEntries',
  gateway: 'gateways',
  gatewayClass: 'gatewayClasses',
};

function connection(client: XdsClientInfo): object {
  const { connectedAt, peer } = client;
  return { connectionId: connectionId(client), connectedAt, address: peer };
}

function syncStatus(client: XdsClientInfo): object {
  const { node = '', metadata, subscriptions } = client;
  return {
    cluster_id: metadata.CLUSTER_ID,
    proxy: node.split('~')[2],
    proxy_type: node.split('~')[0],
    istio_version: metadata.ISTIO_VERSION,
    resources: Object.fromEntries(
      subscriptions.map(({ typeUrl, sentNonce, ackedNonce, sentAt, rejected }) => [
        typeUrl,
        { sent: sentNonce, acked: ackedNonce, sentTime: sentAt, lastError: rejected?.message },
      ]),
    ),
    ...client,
  };
}
