// Namespaces: what every namespace has (the default ServiceAccount, the API server's root certificate), and its end:
// everything in it is deleted before the namespace itself may go.

import type { DiscoveredResource } from '#k8s/discovery.ts';
import { discoverAll } from '#k8s/discovery.ts';
import {
  CONFIG_MAPS,
  type ConfigMap,
  type KubeObject,
  NAMESPACES,
  type Namespace,
  SERVICE_ACCOUNTS,
} from '#k8s/objects.ts';
import { isAlreadyExists, isConflict, isNotFound } from '#k8s/status.ts';
import type { ControllerContext } from './context.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';

const DEFAULT_ACCOUNT = 'default';
const ROOT_CA_MAP = 'kube-root-ca.crt';
const ROOT_CA_KEY = 'ca.crt';
const FINALIZER = 'kubernetes';
/** How often an ending namespace is looked through again: pods take their grace period. */
const EMPTY_POLL_MS = 250;
/** Owners first, so that nothing is made anew meanwhile. */
const WORKLOADS: readonly string[] = ['deployments', 'daemonsets', 'statefulsets', 'replicasets', 'jobs'];

export interface NamespaceOptions {
  /** The API server's root certificate, which every namespace carries. */
  readonly caPem: string;
}

export function createNamespaceController(context: ControllerContext, options: NamespaceOptions): WorkQueue {
  const { client, informers, log } = context;
  const namespaces = informers.of(NAMESPACES);
  const accounts = informers.of(SERVICE_ACCOUNTS);
  const configMaps = informers.of(CONFIG_MAPS);

  const furnish = async (namespace: string): Promise<void> => {
    if (accounts.get(`${namespace}/${DEFAULT_ACCOUNT}`) === undefined)
      await createIfMissing(() =>
        client.create(SERVICE_ACCOUNTS, {
          apiVersion: 'v1',
          kind: SERVICE_ACCOUNTS.kind,
          metadata: { name: DEFAULT_ACCOUNT, namespace },
        }),
      );
    const rootCa = configMaps.get(`${namespace}/${ROOT_CA_MAP}`);
    const data = { [ROOT_CA_KEY]: options.caPem };
    if (rootCa === undefined)
      await createIfMissing(() =>
        client.create(CONFIG_MAPS, {
          apiVersion: 'v1',
          kind: CONFIG_MAPS.kind,
          metadata: { name: ROOT_CA_MAP, namespace },
          data,
        }),
      );
    else if (rootCa.data?.[ROOT_CA_KEY] !== options.caPem)
      await client.patch(CONFIG_MAPS, ROOT_CA_MAP, 'merge', { data }, { namespace });
  };

  /** Asks for the end of everything; returns how much is still there. */
  const empty = async (namespace: string): Promise<number> => {
    const kinds = (await discoverAll(client)).filter(isEmptiable).sort(workloadsFirst);
    let left = 0;
    for (const kind of kinds) {
      const { items } = await client.list(kind, { namespace });
      left += items.length;
      await Promise.all(items.map((object) => requestEnd(kind, object, namespace)));
    }
    return left;
  };

  const requestEnd = async (
    kind: DiscoveredResource,
    object: KubeObject,
    namespace: string,
  ): Promise<void> => {
    if (object.metadata.deletionTimestamp !== undefined) return;
    try {
      await client.delete(kind, object.metadata.name, { namespace, propagation: 'Background' });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  };

  const finish = async (namespace: Namespace): Promise<void> => {
    const finalizers = (namespace.spec?.finalizers ?? []).filter((finalizer) => finalizer !== FINALIZER);
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace.metadata.name)}/finalize`;
    try {
      await client.request('PUT', path, { ...namespace, spec: { ...namespace.spec, finalizers } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  };

  const reconcile = async (name: string): Promise<void> => {
    const namespace = namespaces.get(name);
    if (namespace === undefined) return;
    if (namespace.metadata.deletionTimestamp === undefined) return furnish(name);
    if (!(namespace.spec?.finalizers ?? []).includes(FINALIZER)) return;
    if ((await empty(name)) > 0) queue.addAfter(name, EMPTY_POLL_MS);
    else await finish(namespace);
  };

  const queue = createWorkQueue({ log }, { name: 'namespaces', concurrency: 2 }, reconcile);
  namespaces.addHandlers({ upsert: ({ metadata }) => queue.add(metadata.name), remove: () => {} });
  const enqueueOf = ({ metadata }: KubeObject): void => {
    if (metadata.name === DEFAULT_ACCOUNT || metadata.name === ROOT_CA_MAP)
      queue.add(metadata.namespace ?? '');
  };
  accounts.addHandlers({ upsert: () => {}, remove: enqueueOf });
  configMaps.addHandlers({ upsert: (map: ConfigMap) => enqueueOf(map), remove: enqueueOf });
  return queue;
}

async function createIfMissing(create: () => Promise<unknown>): Promise<void> {
  try {
    await create();
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
  }
}

const isEmptiable = ({ namespaced, verbs }: DiscoveredResource): boolean =>
  namespaced && verbs.includes('list') && verbs.includes('delete');

const workloadsFirst = (a: DiscoveredResource, b: DiscoveredResource): number =>
  rankOf(a) - rankOf(b) || a.plural.localeCompare(b.plural);

function rankOf({ plural }: DiscoveredResource): number {
  const rank = WORKLOADS.indexOf(plural);
  return rank < 0 ? WORKLOADS.length : rank;
}
