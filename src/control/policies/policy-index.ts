// All policies of the mesh, kept current one event at a time: publishes what node proxies get and answers which
// selector-scoped policies a workload lists (control-plane.md §2.16). How one object becomes one policy stands beside.

import { objectKey } from '#k8s/informer.ts';
import { hasSelector, inheritedMode } from '#k8s/mutual-tls.ts';
import type { AuthorizationPolicy, KubeObject, LabelSelector, PeerAuthentication } from '#k8s/objects.ts';
import { matchesLabels } from '#k8s/selectors.ts';
import { type Policy, policyKey } from '#model/policy.ts';
import { encodeAuthorization } from '#proto/authorization.ts';
import { GroupIndex } from '../ambient/group-index.ts';
import { isOfRevision, type Labels, selectsLabels } from '../ambient/labels.ts';
import type { ResourceSet } from '../ambient/resource-set.ts';
import type { PolicySelection } from '../ambient/workloads.ts';
import { type Conversion, convertAuthorizationPolicy } from './authorization-policy.ts';
import {
  convertedKey,
  convertPeerAuthentication,
  peerAuthenticationFor,
  staticStrictPolicy,
} from './peer-authentication.ts';

export interface PolicyIndexDeps {
  readonly policies: ResourceSet;
  /** Workloads whose labels match may list other policies now; without a namespace: in the whole mesh. */
  readonly onSelectionChange: (namespace: string | undefined, touches: (labels: Labels) => boolean) => void;
}

export interface PolicyIndexOptions {
  readonly rootNamespace: string;
  /** Objects labelled for another revision of the control plane are not ours (§1.2). */
  readonly revision: string;
  readonly dryRun: boolean;
  readonly trustDomain: string;
}

interface Known {
  readonly object: AuthorizationPolicy;
  readonly conversion: Conversion;
}

export class PolicyIndex implements PolicySelection {
  readonly #deps: PolicyIndexDeps;
  readonly #options: PolicyIndexOptions;
  readonly #authorization = new Map<string, Known>();
  readonly #authorizationByNamespace = new GroupIndex();
  readonly #peers = new Map<string, PeerAuthentication>();
  readonly #peersByNamespace = new GroupIndex();
  /** Ours and its other names. */
  #trustDomains: readonly string[];

  constructor(deps: PolicyIndexDeps, options: PolicyIndexOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#trustDomains = [options.trustDomain];
  }

  upsertAuthorization(object: AuthorizationPolicy): void {
    if (!this.#isOurs(object)) {
      this.removeAuthorization(object);
      return;
    }
    const key = objectKey(object);
    const old = this.#authorization.get(key);
    const conversion = this.#convert(object);
    this.#authorization.set(key, { object, conversion });
    this.#authorizationByNamespace.add(object.metadata.namespace ?? '', key);
    if (conversion.kind === 'enforced') this.#publish(conversion.policy);
    else this.#deps.policies.delete(key);
    this.#authorizationChanged(object, old?.object);
  }

  /** Ours first, then its aliases. */
  setTrustDomains(trustDomains: readonly string[]): void {
    if (JSON.stringify(trustDomains) === JSON.stringify(this.#trustDomains)) return;
    this.#trustDomains = trustDomains;
    for (const [key, { object }] of this.#authorization) {
      const conversion = this.#convert(object);
      this.#authorization.set(key, { object, conversion });
      // Names change neither whether a policy is sent nor whom it selects.
      if (conversion.kind === 'enforced') this.#publish(conversion.policy);
    }
    this.#deps.policies.announce();
  }

  removeAuthorization(object: AuthorizationPolicy): void {
    const key = objectKey(object);
    const old = this.#authorization.get(key);
    if (old === undefined) return;
    this.#authorization.delete(key);
    this.#authorizationByNamespace.remove(object.metadata.namespace ?? '', key);
    this.#deps.policies.delete(key);
    this.#authorizationChanged(undefined, old.object);
  }

  upsertPeerAuthentication(object: PeerAuthentication): void {
    if (!this.#isOurs(object)) {
      this.removePeerAuthentication(object);
      return;
    }
    const key = objectKey(object);
    const old = this.#peers.get(key);
    this.#peers.set(key, object);
    this.#peersByNamespace.add(object.metadata.namespace ?? '', key);
    this.#peersChanged(object, old);
  }

  removePeerAuthentication(object: PeerAuthentication): void {
    const key = objectKey(object);
    const old = this.#peers.get(key);
    if (old === undefined) return;
    this.#peers.delete(key);
    this.#peersByNamespace.remove(object.metadata.namespace ?? '', key);
    this.#withdrawConverted(old);
    this.#peersChanged(undefined, old);
  }

  policiesFor(namespace: string, labels: Labels): readonly string[] {
    const names: string[] = [];
    for (const group of this.#groupsOf(namespace))
      for (const key of this.#authorizationByNamespace.get(group)) {
        const known = this.#authorization.get(key);
        if (known?.conversion.kind !== 'enforced') continue;
        if (selectsWorkload(known.object.spec?.selector, labels)) names.push(key);
      }
    const { rootNamespace } = this.#options;
    return [
      ...names.sort(),
      ...peerAuthenticationFor(this.#peersAround(namespace), namespace, labels, rootNamespace),
    ];
  }

  /** How every AuthorizationPolicy was understood, for the debug page. */
  *conversions(): IterableIterator<readonly [string, Conversion]> {
    for (const [key, { conversion }] of this.#authorization) yield [key, conversion];
  }

  #authorizationChanged(now: AuthorizationPolicy | undefined, old: AuthorizationPolicy | undefined): void {
    const selectors = [now, old]
      .map((object) => object?.spec?.selector)
      .filter((selector) => selector !== undefined);
    const namespace = (now ?? old)?.metadata.namespace ?? '';
    if (selectors.length > 0)
      this.#deps.onSelectionChange(this.#reach(namespace), (labels) =>
        selectors.some((selector) => selectsWorkload(selector, labels)),
      );
    this.#deps.policies.announce();
  }

  #peersChanged(now: PeerAuthentication | undefined, old: PeerAuthentication | undefined): void {
    const namespace = (now ?? old)?.metadata.namespace ?? '';
    const { rootNamespace } = this.#options;
    const everywhere = namespace === rootNamespace;
    // What a selector-scoped object with an unset mode means depends on what its namespace and the mesh say.
    for (const key of everywhere ? this.#peers.keys() : this.#peersByNamespace.get(namespace)) {
      const object = this.#peers.get(key);
      if (object === undefined) continue;
      const home = object.metadata.namespace ?? '';
      const inherited = inheritedMode(this.#peersAround(home), home, rootNamespace);
      const policy = convertPeerAuthentication(object, inherited, rootNamespace);
      if (policy === undefined) this.#withdrawConverted(object);
      else this.#publish(policy);
    }
    const strict = staticStrictPolicy(rootNamespace);
    if (this.#peers.size > 0) this.#publish(strict);
    else this.#deps.policies.delete(policyKey(strict));

    const selectors = [now, old].flatMap((object) => (object === undefined ? [] : [object]));
    this.#deps.onSelectionChange(this.#reach(namespace), (labels) =>
      selectors.some(
        (object) => !hasSelector(object) || selectsLabels(object.spec?.selector?.matchLabels, labels),
      ),
    );
    this.#deps.policies.announce();
  }

  #convert(object: AuthorizationPolicy): Conversion {
    return convertAuthorizationPolicy(object, { ...this.#options, trustDomains: this.#trustDomains });
  }

  #withdrawConverted(object: PeerAuthentication): void {
    this.#deps.policies.delete(convertedKey(object));
  }

  #publish(policy: Policy): void {
    this.#deps.policies.set(policyKey(policy), encodeAuthorization(policy));
  }

  #peersAround(namespace: string): PeerAuthentication[] {
    return this.#groupsOf(namespace).flatMap((group) =>
      [...this.#peersByNamespace.get(group)].flatMap((key) => this.#peers.get(key) ?? []),
    );
  }

  #groupsOf(namespace: string): readonly string[] {
    const { rootNamespace } = this.#options;
    return namespace === rootNamespace ? [namespace] : [namespace, rootNamespace];
  }

  #reach(namespace: string): string | undefined {
    return namespace === this.#options.rootNamespace ? undefined : namespace;
  }

  #isOurs(object: KubeObject): boolean {
    return isOfRevision(object, this.#options.revision);
  }
}

/** Without a selector a policy holds by its scope and is listed on nobody; an empty one selects everybody. */
function selectsWorkload(selector: LabelSelector | undefined, labels: Labels): boolean {
  return selector !== undefined && matchesLabels(selector.matchLabels ?? {}, labels);
}
