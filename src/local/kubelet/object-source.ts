// ConfigMaps, Secrets, claims and volumes as the kubelets see them: one always current copy for all nodes, with notification.

import type { KubeClient } from '#k8s/client.ts';
import type { StartInformer } from '#k8s/informer.ts';
import { CONFIG_MAPS, type ConfigMap, type KubeObject, SECRETS, type Secret } from '#k8s/objects.ts';
import {
  PERSISTENT_VOLUME_CLAIMS,
  PERSISTENT_VOLUMES,
  type PersistentVolume,
  type PersistentVolumeClaim,
} from '#k8s/storage.ts';
import type { Logger } from '#telemetry/log.ts';
import type { ClaimSource } from './claim-volume.ts';
import type { EnvSource } from './env.ts';

export interface ObjectSource extends EnvSource, ClaimSource {
  readonly synced: Promise<unknown>;
  /** Called after any change in the namespace. */
  onChange(listener: (namespace: string) => void): () => void;
  close(): void;
}

export function startObjectSource(deps: {
  readonly client: KubeClient;
  readonly log: Logger;
  readonly startInformer: StartInformer;
}): ObjectSource {
  const listeners = new Set<(namespace: string) => void>();
  const changed = (object: KubeObject): void => {
    for (const listener of listeners) listener(object.metadata.namespace ?? '');
  };
  const configMaps = deps.startInformer<ConfigMap>(deps, CONFIG_MAPS);
  const secrets = deps.startInformer<Secret>(deps, SECRETS);
  configMaps.addHandlers({ upsert: changed, remove: changed });
  secrets.addHandlers({ upsert: changed, remove: changed });
  const claims = deps.startInformer<PersistentVolumeClaim>(deps, PERSISTENT_VOLUME_CLAIMS);
  const volumes = deps.startInformer<PersistentVolume>(deps, PERSISTENT_VOLUMES);
  claims.addHandlers({ upsert: changed, remove: changed });
  // What a volume is for its pods does not change; its claim says when it is theirs.

  return {
    synced: Promise.all([configMaps, secrets, claims, volumes].map(({ synced }) => synced)),
    configMap: (namespace, name) => configMaps.get(`${namespace}/${name}`),
    secret: (namespace, name) => secrets.get(`${namespace}/${name}`),
    claim: (namespace, name) => claims.get(`${namespace}/${name}`),
    persistentVolume: (name) => volumes.get(name),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => {
      for (const informer of [configMaps, secrets, claims, volumes]) informer.close();
    },
  };
}
