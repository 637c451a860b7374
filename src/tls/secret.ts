// A workload's certificate as a client of the authority sees it, and who hands it out.

import type { SecureContext } from 'node:tls';
import type { SpiffeId } from '#model/identity.ts';

export interface WorkloadSecret {
  readonly identity: SpiffeId;
  /** Leaf first, then intermediates; never the root. */
  readonly chainPem: readonly string[];
  /** Trust anchors for peers of this identity's connections; one certificate per element. */
  readonly rootsPem: readonly string[];
  readonly serialNumber: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** One context serves both roles and every connection: making one costs 0.6 ms. */
  readonly context: SecureContext;
}

/** Asks an authority to sign. Rejects with MeshError `CA_REFUSED` or `GRPC_STATUS`. */
export interface CertificateAuthorityClient {
  /** `csrPem` is PKCS#10 PEM. The answer's last element is the root bundle (control-plane.md §5.1). */
  sign(identity: SpiffeId, csrPem: string, ttlSeconds: number): Promise<readonly string[]>;
}

export type SecretState =
  | { readonly state: 'Initializing' }
  | { readonly state: 'Available'; readonly secret: WorkloadSecret }
  | { readonly state: 'Unavailable'; readonly error: string };

export interface SecretManager {
  /** Waits for the first result only. Rejects with MeshError `IDENTITY_UNAVAILABLE` (ztunnel.md §4.4). */
  get(identity: SpiffeId): Promise<WorkloadSecret>;
  /** Fetches ahead of need; never rejects. */
  prefetch(identity: SpiffeId): void;
  forget(identity: SpiffeId): void;
  /** For the config dump. */
  entries(): ReadonlyMap<SpiffeId, SecretState>;
  close(): void;
}
