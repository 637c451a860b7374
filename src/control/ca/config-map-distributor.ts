// Keeps a ConfigMap of the authority in every namespace (control-plane.md §5.5): made, made again when deleted, overwritten
// when it drifts. `istio-ca-root-cert` holds the roots: pods cannot start without it, node proxies verify the control plane
// with it. `istio-ca-crl` holds the revocation lists, where there are any.

import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import { CONFIG_MAPS, type ConfigMap, type Namespace } from '#k8s/objects.ts';
import { isAlreadyExists, isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { WorkQueue } from '../work-queue.ts';

export interface DistributedFile {
  readonly name: string;
  readonly key: string;
  /** What it is in log lines. */
  readonly what: string;
}

export const ROOT_CONFIG_MAP: DistributedFile = {
  name: 'istio-ca-root-cert',
  key: 'root-cert.pem',
  what: 'root',
};
export const CRL_CONFIG_MAP: DistributedFile = {
  name: 'istio-ca-crl',
  key: 'ca-crl.pem',
  what: 'revocation lists',
};

const LABEL_KEY = 'istio.io/config';

/** Nothing meshed runs there. kube-system is not among them: node proxies may be installed in it. */
const WITHOUT: ReadonlySet<string> = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);

export interface DistributorDeps {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  readonly namespaces: Informer<Namespace>;
  /** Must hold the ConfigMaps of this name; others are ignored. */
  readonly configMaps: Informer<ConfigMap>;
  /** Undefined while there is nothing to distribute; what was distributed before stays. */
  readonly content: () => string | undefined;
  readonly log: Logger;
  readonly scope: Scope;
}

export interface Distributor {
  /** The content changed: look at every namespace again. */
  refresh(): void;
}

export function startDistributor(file: DistributedFile, deps: DistributorDeps): Distributor {
  const { client, namespaces, configMaps, log, scope } = deps;
  const queue = new WorkQueue(
    { log, scope, work: (namespace) => reconcile(namespace) },
    { retryInitialMs: 200, retryMaxMs: 30_000 },
  );

  const isRight = (map: ConfigMap, wanted: string): boolean =>
    map.data?.[file.key] === wanted && map.metadata.labels?.[LABEL_KEY] === 'true';

  async function reconcile(namespace: string): Promise<void> {
    const home = namespaces.get(namespace);
    if (home === undefined || isTerminating(home) || WITHOUT.has(namespace)) return;
    const wanted = deps.content();
    if (wanted === undefined) return;
    const held = configMaps.get(`${namespace}/${file.name}`);
    if (held !== undefined) {
      if (isRight(held, wanted)) return;
      return update(held, wanted);
    }
    try {
      await client.create(CONFIG_MAPS, configMapOf(file, namespace, wanted), namespace);
      log.info(`distributed the ${file.what}`, { namespace });
    } catch (error) {
      if (isAlreadyExists(error)) {
        const found = await client.get(CONFIG_MAPS, file.name, namespace);
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
      data: { ...found.data, [file.key]: wanted },
    });
    log.info(`corrected the distributed ${file.what}`, { namespace: metadata.namespace });
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
    if (map.metadata.name === file.name) changed(map.metadata.namespace ?? '');
  };
  configMaps.addHandlers({ upsert: mapChanged, remove: mapChanged });
  Promise.all([namespaces.synced, configMaps.synced]).then(refresh, (error: unknown) => {
    if (!scope.closed)
      log.error(`distribution of the ${file.what} could not start`, { error: String(error) });
  });
  return { refresh };
}

const isTerminating = (namespace: Namespace): boolean =>
  namespace.metadata.deletionTimestamp !== undefined || namespace.status?.phase === 'Terminating';

function configMapOf({ name, key }: DistributedFile, namespace: string, content: string): ConfigMap {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace, labels: { [LABEL_KEY]: 'true' } },
    data: { [key]: content },
  };
}
