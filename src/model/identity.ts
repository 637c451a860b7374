// SPIFFE identities of workloads: spiffe://<trust domain>/ns/<namespace>/sa/<service account>.

export type SpiffeId = string & { readonly __brand: 'SpiffeId' };

export interface WorkloadIdentity {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export const DEFAULT_TRUST_DOMAIN = 'cluster.local';

export function formatSpiffeId(identity: WorkloadIdentity): SpiffeId {
  return `spiffe://${identity.trustDomain}/ns/${identity.namespace}/sa/${identity.serviceAccount}` as SpiffeId;
}

/** Exactly five segments after the scheme, with `ns` and `sa` literal (ztunnel.md §4.1); undefined otherwise. */
export function parseSpiffeId(text: string): WorkloadIdentity | undefined {
  const scheme = 'spiffe://';
  if (!text.startsWith(scheme)) return undefined;
  const segments = text.slice(scheme.length).split('/');
  if (segments.length !== 5 || segments.some((segment) => segment === '')) return undefined;
  const [trustDomain, ns, namespace, sa, serviceAccount] = segments as [
    string,
    string,
    string,
    string,
    string,
  ];
  return ns === 'ns' && sa === 'sa' ? { trustDomain, namespace, serviceAccount } : undefined;
}
