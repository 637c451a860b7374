// The mesh as the informers tell it: feeds every watched object to the model, and the mesh configuration.

import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Informer } from '#k8s/informer.ts';
import type { KubeObject } from '#k8s/objects.ts';
import type { Logger } from '#telemetry/log.ts';
import type { AmbientIndex } from './ambient/ambient-index.ts';
import type { ResourceSet } from './ambient/resource-set.ts';
import { informedPodView, type PodView } from './ca/pod-view.ts';
import type { ControlPlaneOptions } from './config.ts';
import type { Informers } from './informers.ts';
import { DEFAULT_MESH_CONFIG, type MeshConfig, parseMeshConfig } from './mesh-config.ts';
import { MeshModel, type ModelKind, type ModelObjects } from './mesh-model.ts';
import type { PolicyIndex } from './policies/policy-index.ts';

export interface Mesh {
  readonly addresses: ResourceSet;
  readonly policies: ResourceSet;
  readonly index: AmbientIndex;
  readonly policyIndex: PolicyIndex;
  readonly podView: PodView;
  /** Whether the object is in view and not another revision's. */
  readonly isOurs: (object: KubeObject) => boolean;
  readonly sees: (namespace: string | undefined) => boolean;
  /** What is in force. */
  readonly config: () => MeshConfig;
}

/** Changes of one turn of the event loop are announced together. */
export function createMesh(
  informers: Informers,
  options: ControlPlaneOptions,
  scope: Scope,
  log: Logger,
): Mesh {
  const sources: { readonly [K in ModelKind]: Informer<ModelObjects[K]> } = {
    namespace: informers.namespaces,
    node: informers.nodes,
    gatewayClass: informers.gatewayClasses,
    gateway: informers.gateways,
    service: informers.services,
    serviceEntry: informers.serviceEntries,
    slice: informers.slices,
    workloadEntry: informers.workloadEntries,
    authorizationPolicy: informers.authorizationPolicies,
    peerAuthentication: informers.peerAuthentications,
    pod: informers.pods,
  };
  const kinds = Object.keys(sources) as ModelKind[];
  function* held(): Iterable<readonly [ModelKind, KubeObject]> {
    for (const kind of kinds) for (const object of sources[kind].all()) yield [kind, object];
  }
  const model = new MeshModel(
    {
      schedule: (run) => {
        setImmediate(() => {
          if (!scope.closed) run();
        });
      },
      held: {
        *objectsIn(namespace) {
          for (const entry of held()) if (entry[1].metadata.namespace === namespace) yield entry;
        },
        *namespacesInUse() {
          for (const [, { metadata }] of held())
            if (metadata.namespace !== undefined) yield metadata.namespace;
        },
      },
    },
    options,
  );
  let inForce = DEFAULT_MESH_CONFIG;
  const configure = (text: string | undefined): void => {
    const config = readMeshConfig(text, log);
    if (config?.trustDomain !== undefined && config.trustDomain !== options.trustDomain)
      log.warn('the trust domain of the mesh configuration is not used: TRUST_DOMAIN decides', {
        configured: config.trustDomain,
        used: options.trustDomain,
      });
    if (config === undefined) return;
    inForce = config;
    model.configure(config);
  };
  informers.meshConfigs.addHandlers({
    upsert: ({ data }) => configure(data?.mesh),
    remove: () => configure(undefined),
  });
  const podView = informedPodView(informers.pods);
  const tell = <K extends ModelKind>(kind: K): void => {
    const informer: Informer<ModelObjects[K]> = sources[kind];
    informer.addHandlers({
      upsert: (object) => model.upsert(kind, object),
      remove: (object) => model.remove(kind, object),
    });
  };
  for (const kind of kinds) tell(kind);
  const { addresses, policies, index, policyIndex } = model;
  return {
    addresses,
    policies,
    index,
    policyIndex,
    podView,
    isOurs: (object) => model.isOurs(object),
    sees: (namespace) => model.sees(namespace),
    config: () => inForce,
  };
}

/** Undefined when it cannot be read: what was in force stays in force. */
function readMeshConfig(text: string | undefined, log: Logger): MeshConfig | undefined {
  if (text === undefined) return DEFAULT_MESH_CONFIG;
  try {
    return parseMeshConfig(text);
  } catch (error) {
    log.error('the mesh configuration is not used; what was in force stays', { error: reasonOf(error) });
    return undefined;
  }
}
