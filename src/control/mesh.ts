// The mesh as the informers tell it: feeds every watched object to the index that understands it.

import type { Scope } from '#base/scope.ts';
import type { Informer, InformerHandlers } from '#k8s/informer.ts';
import type { KubeObject } from '#k8s/objects.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { AmbientIndex } from './ambient/ambient-index.ts';
import { ResourceSet } from './ambient/resource-set.ts';
import type { MeshKind, MeshObjects } from './ambient/world.ts';
import { informedPodView, type PodView } from './ca/pod-view.ts';
import type { ControlPlaneOptions } from './config.ts';
import type { Informers } from './informers.ts';
import { PolicyIndex } from './policies/policy-index.ts';

export interface Mesh {
  readonly addresses: ResourceSet;
  readonly policies: ResourceSet;
  readonly index: AmbientIndex;
  readonly policyIndex: PolicyIndex;
  readonly podView: PodView;
}

/** Changes of one turn of the event loop are announced together. */
export function createMesh(informers: Informers, options: ControlPlaneOptions, scope: Scope): Mesh {
  const addresses = new ResourceSet(ADDRESS_TYPE_URL);
  const policies = new ResourceSet(AUTHORIZATION_TYPE_URL);
  const schedule = (run: () => void): void => {
    setImmediate(() => {
      if (!scope.closed) run();
    });
  };
  const policyIndex = new PolicyIndex(
    { policies, onSelectionChange: (namespace, touches) => index.policiesChanged(namespace, touches) },
    { rootNamespace: options.rootNamespace, revision: options.revision, dryRun: options.dryRunPolicies },
  );
  const index: AmbientIndex = new AmbientIndex({ addresses, policies: policyIndex, schedule }, options);
  follow(informers.authorizationPolicies, {
    upsert: (object) => policyIndex.upsertAuthorization(object),
    remove: (object) => policyIndex.removeAuthorization(object),
  });
  follow(informers.peerAuthentications, {
    upsert: (object) => policyIndex.upsertPeerAuthentication(object),
    remove: (object) => policyIndex.removePeerAuthentication(object),
  });
  const podView = informedPodView(informers.pods);
  const tell = <K extends MeshKind>(kind: K, informer: Informer<MeshObjects[K]>): void =>
    follow<MeshObjects[K]>(informer, {
      upsert: (object) => index.upsert(kind, object),
      remove: (object) => index.remove(kind, object),
    });
  tell('namespace', informers.namespaces);
  tell('node', informers.nodes);
  tell('gatewayClass', informers.gatewayClasses);
  tell('gateway', informers.gateways);
  tell('service', informers.services);
  tell('serviceEntry', informers.serviceEntries);
  tell('slice', informers.slices);
  tell('workloadEntry', informers.workloadEntries);
  tell('pod', informers.pods);
  return { addresses, policies, policyIndex, index, podView };
}

function follow<T extends KubeObject>(
  informer: Informer<T>,
  handlers: { upsert(object: T): void; remove(object: T): void },
): void {
  const adapted: InformerHandlers<T> = {
    upsert: (object) => handlers.upsert(object),
    remove: (object) => handlers.remove(object),
  };
  informer.addHandlers(adapted);
}
