// Objects in, published resources out: the ambient index and the policy index behind one door, which lets through what
// the mesh configuration puts in view. Watching is mesh.ts's business.

import type { AuthorizationPolicy, KubeObject, PeerAuthentication } from '#k8s/objects.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { AmbientIndex } from './ambient/ambient-index.ts';
import { Discovery, type DiscoveryDeps } from './ambient/discovery.ts';
import { isOfRevision } from './ambient/labels.ts';
import { ResourceSet } from './ambient/resource-set.ts';
import type { MeshKind, MeshObjects } from './ambient/world.ts';
import type { MeshConfig } from './mesh-config.ts';
import { PolicyIndex } from './policies/policy-index.ts';

export interface ModelObjects extends MeshObjects {
  readonly authorizationPolicy: AuthorizationPolicy;
  readonly peerAuthentication: PeerAuthentication;
}
export type ModelKind = keyof ModelObjects;

export interface MeshModelDeps {
  /** Runs the flush soon; several changes of one turn share it. */
  readonly schedule: (run: () => void) => void;
  /** All objects that are held, in view or not. */
  readonly held: Pick<DiscoveryDeps<ModelKind>, 'objectsIn' | 'namespacesInUse'>;
}

export interface MeshModelOptions {
  readonly systemNamespace: string;
  readonly rootNamespace: string;
  readonly clusterId: string;
  readonly revision: string;
  readonly trustDomain: string;
  readonly domainSuffix: string;
  readonly dryRunPolicies: boolean;
  readonly allocatedVips: boolean;
  readonly onlyByWaypoint: boolean;
}

export class MeshModel {
  readonly addresses = new ResourceSet(ADDRESS_TYPE_URL);
  readonly policies = new ResourceSet(AUTHORIZATION_TYPE_URL);
  readonly index: AmbientIndex;
  readonly policyIndex: PolicyIndex;
  readonly #discovery: Discovery<ModelKind>;
  readonly #options: MeshModelOptions;

  constructor({ schedule, held }: MeshModelDeps, options: MeshModelOptions) {
    const { rootNamespace, systemNamespace, revision, trustDomain, dryRunPolicies: dryRun } = options;
    this.#options = options;
    this.policyIndex = new PolicyIndex(
      {
        policies: this.policies,
        onSelectionChange: (namespace, touches) => this.index.policiesChanged(namespace, touches),
      },
      { rootNamespace, revision, dryRun, trustDomain },
    );
    this.index = new AmbientIndex(
      { addresses: this.addresses, policies: this.policyIndex, policySet: this.policies, schedule },
      options,
    );
    this.#discovery = new Discovery<ModelKind>(
      {
        ...held,
        upsert: (kind, object) => this.#deliver(kind, object, false),
        remove: (kind, object) => this.#deliver(kind, object, true),
      },
      { always: [rootNamespace, systemNamespace] },
    );
  }

  upsert<K extends ModelKind>(kind: K, object: ModelObjects[K]): void {
    this.#discovery.upsert(kind, object);
  }

  remove<K extends ModelKind>(kind: K, object: ModelObjects[K]): void {
    this.#discovery.remove(kind, object);
  }

  /** Whether the mesh configuration puts the namespace in view. */
  sees(namespace: string | undefined): boolean {
    return this.#discovery.sees(namespace);
  }

  /** Whether the object is in view and not another revision's. */
  isOurs(object: KubeObject): boolean {
    return isOfRevision(object, this.#options.revision) && this.#discovery.sees(object.metadata.namespace);
  }

  configure({ discoverySelectors, trustDomainAliases, serviceEntryVisibility }: MeshConfig): void {
    const { trustDomain } = this.#options;
    this.#discovery.setSelectors(discoverySelectors);
    this.policyIndex.setTrustDomains([...new Set([trustDomain, ...trustDomainAliases])]);
    this.index.meshChanged({ serviceEntryVisibility });
  }

  #deliver(kind: ModelKind, object: KubeObject, removed: boolean): void {
    switch (kind) {
      case 'authorizationPolicy':
        if (removed) this.policyIndex.removeAuthorization(object as AuthorizationPolicy);
        else this.policyIndex.upsertAuthorization(object as AuthorizationPolicy);
        return;
      case 'peerAuthentication':
        if (removed) this.policyIndex.removePeerAuthentication(object as PeerAuthentication);
        else this.policyIndex.upsertPeerAuthentication(object as PeerAuthentication);
        return;
      default:
        // The kind was the object's when it came in.
        if (removed) this.index.remove(kind, object as MeshObjects[MeshKind] as never);
        else this.index.upsert(kind, object as MeshObjects[MeshKind] as never);
    }
  }
}
