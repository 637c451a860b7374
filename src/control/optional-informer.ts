// An informer of a kind that the cluster may not have, such as those of the Gateway API: empty, and synced, until the
// kind's definition comes; empty again when the definition goes.

import type { Informer, InformerDeps, InformerHandlers, StartInformer } from '#k8s/informer.ts';
import { CUSTOM_RESOURCE_DEFINITIONS, type CustomResourceDefinition } from '#k8s/mesh-objects.ts';
import type { KubeObject, Resource } from '#k8s/objects.ts';

export function startWhenDefined<T extends KubeObject>(
  start: StartInformer,
  deps: InformerDeps,
  resource: Resource<T>,
): Informer<T> {
  const definitions = start(deps, CUSTOM_RESOURCE_DEFINITIONS, {
    fieldSelector: `metadata.name=${resource.plural}.${resource.group}`,
  });
  const handlers: InformerHandlers<T>[] = [];
  let objects: Informer<T> | undefined;
  let closed = false;

  const begin = (): void => {
    if (objects !== undefined || closed) return;
    objects = start(deps, resource);
    for (const handler of handlers) objects.addHandlers(handler);
  };
  const end = (): void => {
    if (objects === undefined) return;
    const held = [...objects.all()];
    objects.close();
    objects = undefined;
    for (const object of held) for (const handler of handlers) handler.remove(object);
  };
  definitions.addHandlers({
    upsert: (definition) => (isServed(definition, resource.version) ? begin() : end()),
    remove: end,
  });
  return {
    get: (key) => objects?.get(key),
    all: () => objects?.all() ?? [].values(),
    synced: definitions.synced.then(() => objects?.synced),
    get hasSynced() {
      return definitions.hasSynced && (objects === undefined || objects.hasSynced);
    },
    addHandlers: (handler) => {
      handlers.push(handler);
      objects?.addHandlers(handler);
    },
    close: () => {
      closed = true;
      definitions.close();
      objects?.close();
    },
  };
}

/** Served, and accepted by the API server: before that a list would be answered by "not found". */
function isServed({ spec, status }: CustomResourceDefinition, version: string): boolean {
  return (
    spec?.versions?.some(({ name, served }) => name === version && served) === true &&
    status?.conditions?.some(
      (condition) => condition.type === 'Established' && condition.status === 'True',
    ) === true
  );
}
