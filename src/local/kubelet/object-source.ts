// ConfigMaps and Secrets as the kubelets see them: one always current copy for all nodes, with notification.

import type { KubeClient } from '#k8s/client.ts';
import type { StartInformer } from '#k8s/informer.ts';
import { CONFIG_MAPS, type ConfigMap, type KubeObject, SECRETS, type Secret } from '#k8s/objects.ts';
import type { Logger } from '#telemetry/log.ts';
import type { EnvSource } from './env.ts';

export interface ObjectSource extends EnvSource {
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
  return {
    synced: Promise.all([configMaps.synced, secrets.synced]),
    configMap: (namespace, name) => configMaps.get(`${namespace}/${name}`),
    secret: (namespace, name) => secrets.get(`${namespace}/${name}`),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => {
      configMaps.close();
      secrets.close();
    },
  };
}
