// Policies by key and by scope (ztunnel.md §8.1). Which of them match a connection is decided in authorize.ts.

import { type Policy, type PolicyKey, policyKey } from './policy.ts';
import type { Workload } from './workload.ts';

export class PolicyIndex {
  readonly #byKey = new Map<PolicyKey, Policy>();
  readonly #byNamespace = new Map<string, Set<PolicyKey>>();
  readonly #global = new Set<PolicyKey>();

  get(key: PolicyKey): Policy | undefined {
    return this.#byKey.get(key);
  }

  all(): Iterable<Policy> {
    return this.#byKey.values();
  }

  put(policy: Policy): void {
    const key = policyKey(policy);
    this.remove(key);
    this.#byKey.set(key, policy);
    if (policy.scope === 'Global') this.#global.add(key);
    if (policy.scope !== 'Namespace') return;
    const peers = this.#byNamespace.get(policy.namespace);
    if (peers === undefined) this.#byNamespace.set(policy.namespace, new Set([key]));
    else peers.add(key);
  }

  /** True when there was one. */
  remove(key: PolicyKey): boolean {
    const policy = this.#byKey.get(key);
    if (policy === undefined) return false;
    this.#byKey.delete(key);
    this.#global.delete(key);
    const peers = this.#byNamespace.get(policy.namespace);
    peers?.delete(key);
    if (peers?.size === 0) this.#byNamespace.delete(policy.namespace);
    return true;
  }

  /**
   * The policies that apply to a destination: by its namespace, global, and those it lists by name.
   * Names that are not known are skipped, as the field does while policies are in transit; `onMissing` hears of them.
   */
  appliesTo(
    workload: Pick<Workload, 'namespace' | 'authorizationPolicies'>,
    onMissing?: (key: PolicyKey) => void,
  ): Policy[] {
    const inNamespace = this.#byNamespace.get(workload.namespace);
    const hasNone = inNamespace === undefined && this.#global.size === 0;
    if (hasNone && workload.authorizationPolicies.length === 0) return [];
    const keys = new Set<PolicyKey>(inNamespace);
    for (const key of this.#global) keys.add(key);
    for (const name of workload.authorizationPolicies) keys.add(name as PolicyKey);
    const policies: Policy[] = [];
    for (const key of keys) {
      const policy = this.#byKey.get(key);
      if (policy !== undefined) policies.push(policy);
      else onMissing?.(key);
    }
    return policies;
  }
}
