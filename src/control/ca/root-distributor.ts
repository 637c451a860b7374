// Keeps the ConfigMap `istio-ca-root-cert` in every namespace (control-plane.md §5.5): made, made again when deleted,
// overwritten when it drifts. Pods cannot start without it, node proxies verify the control plane with it.

import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import { CONFIG_MAPS, type ConfigMap, type Namespace } from '#k8s/objects.ts';
import { isAlreadyExists, isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { WorkQueue } from '../work-queue.ts';

export const ROOT_CONFIG_MAP = 'istio-ca-root-cert';
const KEY = 'root-cert.pem';
const LABEL_KEY = 'istio.io/config';

/** Nothing meshed runs there. kube-system is not among them: node proxies may be installed in it. */
const WITHOUT_ROOT: ReadonlySet<string> = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);

export interface RootDistributorDeps {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  readonly namespaces: Informer<Namespace>;
  /** Must hold the ConfigMaps named `istio-ca-root-cert`; others are ignored. */
  readonly configMaps: Informer<ConfigMap>;
  readonly rootsPem: () => string;
  readonly log: Logger;
  readonly scope: Scope;
}

export interface RootDistributor {
  /** The root changed: look at every namespace again. */
  refresh(): void;
}

export function startRootDistributor(deps: RootDistributorDeps): RootDistributor {
  const { client, namespaces, configMaps, log, scope } = deps;
  const queue = new WorkQueue(
    { log, scope, work: (namespace) => reconcile(namespace) },
    { retryInitialMs: 200, retryMaxMs: 30_000 },
  );

  async function reconcile(namespace: string): Promise<void> {
    const home = namespaces.get(namespace);
    if (home === undefined || isTerminating(home) || WITHOUT_ROOT.has(namespace)) return;
    const wanted = deps.rootsPem();
    const held = configMaps.get(`${namespace}/${ROOT_CONFIG_MAP}`);
    if (held !== undefined) {
      if (isRight(held, wanted)) return;
      return update(held, wanted);
    }
    try {
      await client.create(CONFIG_MAPS, configMapOf(namespace, wanted), namespace);
      log.info('distributed the root', { namespace });
    } catch (error) {
      if (isAlreadyExists(error)) {
        const found = await client.get(CONFIG_MAPS, ROOT_CONFIG_MAP, namespace);
        if (!isRight(found, wanted)) await update(found, wanted);
        return;
      }
      // The namespace went away in between.
      if (isNotFound(error)) return;
      throw error;
    }
  }

  async function update(found: ConfigMap, wanted: string): Promise<void> {
    const { metadata } = found;
    const labels = { ...metadata.labels, [LABEL_KEY]: 'true' };
    await client.update(CONFIG_MAPS, {
      ...found,
      metadata: { ...metadata, labels },
      data: { ...found.data, [KEY]: wanted },
    });
    log.info('corrected the distributed root', { namespace: metadata.namespace });
  }

  // Both lists must be complete first, or every restart would try to create what is there.
  const refresh = (): void => {
    if (!namespaces.hasSynced || !configMaps.hasSynced) return;
    for (const namespace of namespaces.all()) queue.add(namespace.metadata.name);
  };
  const changed = (namespace: string): void => {
    if (namespaces.hasSynced && configMaps.hasSynced) queue.add(namespace);
  };
  namespaces.addHandlers({ upsert: (object) => changed(objectKey(object)), remove: () => {} });
  const mapChanged = (map: ConfigMap): void => {
    if (map.metadata.name === ROOT_CONFIG_MAP) changed(map.metadata.namespace ?? '');
  };
  configMaps.addHandlers({ upsert: mapChanged, remove: mapChanged });
  Promise.all([namespaces.synced, configMaps.synced]).then(refresh, (error: unknown) => {
    if (!scope.closed) log.error('root distribution could not start', { error: String(error) });
  });
  return { refresh };
}

const isTerminating = (namespace: Namespace): boolean =>
  namespace.metadata.deletionTimestamp !== undefined || namespace.status?.phase === 'Terminating';

const isRight = (map: ConfigMap, wanted: string): boolean =>
  map.data?.[KEY] === wanted && map.metadata.labels?.[LABEL_KEY] === 'true';

function configMapOf(namespace: string, rootsPem: string): ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: ROOT_CONFIG_MAP, namespace, labels: { [LABEL_KEY]: 'true' } },
    data: { [KEY]: rootsPem },
  };
}
