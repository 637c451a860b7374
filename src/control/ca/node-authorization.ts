// May this caller hold a certificate in another's name? A node proxy may, for identities that run on its own node, and
// for no others: a stolen node credential is worth one node (control-plane.md §5.3). Pure.

import { parseSpiffeId, type WorkloadIdentity } from '#model/identity.ts';
import type { PodView } from './pod-view.ts';
import type { Caller } from './token-review.ts';

export type NodeAuthorization =
  | { readonly verdict: 'allow'; readonly identity: WorkloadIdentity; readonly node: string }
  | {
      readonly verdict: 'refuse';
      readonly reason:
        | 'token-not-bound'
        | 'caller-not-trusted'
        | 'identity-malformed'
        | 'foreign-trust-domain'
        | 'caller-pod-gone'
        | 'caller-pod-replaced'
        | 'caller-account-mismatch'
        | 'caller-not-scheduled'
        | 'not-on-node';
      readonly explain: string;
      /** A fresher view of the pods may decide otherwise. */
      readonly viewDependent: boolean;
    };

export interface NodeAuthorizationOptions {
  /** `namespace/account` of the node proxies. */
  readonly trustedAccounts: ReadonlySet<string>;
  readonly trustDomain: string;
}

export function authorizeNode(
  caller: Caller,
  requested: string,
  pods: PodView,
  options: NodeAuthorizationOptions,
): NodeAuthorization {
  const account = `${caller.namespace}/${caller.serviceAccount}`;
  if (caller.pod === undefined)
    return refuse('token-not-bound', `the token of ${account} is not bound to a pod`);
  if (!options.trustedAccounts.has(account))
    return refuse('caller-not-trusted', `${account} is not among the trusted node accounts`);
  const identity = parseSpiffeId(requested);
  if (identity === undefined)
    return refuse('identity-malformed', `${JSON.stringify(requested)} is no workload identity`);
  // Istio does not compare the trust domain; a name of another domain would still be signed by this root.
  if (identity.trustDomain !== options.trustDomain)
    return refuse(
      'foreign-trust-domain',
      `${requested} is not in the trust domain ${options.trustDomain} of this authority`,
    );
  const name = `${caller.namespace}/${caller.pod.name}`;
  const own = pods.pod(caller.namespace, caller.pod.name);
  if (own === undefined) return refuse('caller-pod-gone', `the caller's pod ${name} is not known`, true);
  if (own.uid !== caller.pod.uid)
    return refuse('caller-pod-replaced', `the token belongs to an earlier pod ${name}`, true);
  if (own.serviceAccount !== caller.serviceAccount)
    return refuse(
      'caller-account-mismatch',
      `the pod ${name} runs as ${own.serviceAccount}, not ${account}`,
      true,
    );
  if (own.node === '')
    return refuse('caller-not-scheduled', `the caller's pod ${name} is on no node yet`, true);
  if (!pods.runsOn(own.node, identity.namespace, identity.serviceAccount))
    return refuse(
      'not-on-node',
      `no pod of ${identity.namespace}/${identity.serviceAccount} runs on the caller's node ${own.node}`,
      true,
    );
  return { verdict: 'allow', identity, node: own.node };
}

const refuse = (
  reason: (NodeAuthorization & { verdict: 'refuse' })['reason'],
  explain: string,
  viewDependent = false,
): NodeAuthorization => ({ verdict: 'refuse', reason, explain, viewDependent });
