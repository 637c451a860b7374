// Debug pages: what the control plane believes, and who has heard of it (control-plane.md §10.1).

import { decodeAuthorization } from '#proto/authorization.ts';
import { decodeAddress } from '#proto/workload.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import type { AmbientIndex } from './ambient/ambient-index.ts';
import type { ResourceSet } from './ambient/resource-set.ts';
import type { ControlPlaneOptions } from './config.ts';
import { type Informers, notSynced } from './informers.ts';
import type { PolicyIndex } from './policies/policy-index.ts';

export interface DebugDeps {
  readonly addresses: ResourceSet;
  readonly policies: ResourceSet;
  readonly index: AmbientIndex;
  readonly policyIndex: PolicyIndex;
  readonly informers: Informers;
  readonly clients: () => readonly XdsClientInfo[];
  readonly options: ControlPlaneOptions;
}

/** By name; sorted. */
export type DebugPages = ReadonlyMap<string, () => unknown>;

export function debugPages(deps: DebugDeps): DebugPages {
  const { addresses, policies, policyIndex, informers, clients } = deps;
  const pages: Readonly<Record<string, () => unknown>> = {
    /** The names of the pages. */
    list: () => Object.keys(pages).sort(),
    /** Every client and, per type, what was sent and what it acknowledged or rejected; Istio's names, then ours. */
    syncz: () => clients().map(syncStatus),
    /** Every client as it came, and what it watches. */
    adsz: () => ({
      totalClients: clients().length,
      clients: clients().map((client) => ({
        ...connection(client),
        metadata: client.metadata,
        watches: Object.fromEntries(
          client.subscriptions.map(({ typeUrl, wildcard, names }) => [typeUrl, wildcard ? '*' : names]),
        ),
      })),
    }),
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
      const decoded = [...addresses.list()].map(({ bytes }) => decodeAddress(bytes));
      return {
        workloads: decoded.flatMap((it) => (it.kind === 'workload' ? [it.workload] : [])),
        services: decoded.flatMap((it) => (it.kind === 'service' ? [it.service] : [])),
        policies: [...policies.list()].map(({ bytes }) => decodeAuthorization(bytes)),
      };
    },
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
    /** The policies as they were applied, and the settings. */
    configz: () => ({
      options: { ...deps.options, trustedNodeAccounts: [...deps.options.trustedNodeAccounts] },
      authorizationPolicies: [...informers.authorizationPolicies.all()],
      peerAuthentications: [...informers.peerAuthentications.all()],
    }),
    /** The mesh configuration as it was applied. */
    mesh: () => [...informers.meshConfigs.all()].map(({ data }) => data?.mesh ?? ''),
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
  return new Map(Object.entries(pages).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export const debugText = (page: unknown): string => `${JSON.stringify(page, jsonValue, 2)}\n`;

/** Maps become objects; the rest is JSON already. */
function jsonValue(_key: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}

function connection({ id, node, connectedAt, peer }: XdsClientInfo): object {
  return { connectionId: `${node ?? ''}-${id}`, connectedAt, address: peer };
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
