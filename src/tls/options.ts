// TLS parameters of the mesh (ztunnel.md §5.3): 1.3 (and 1.2 on request), AES-GCM suites, the field's groups, ALPN h2, no server
// name, no resumption. One SecureContext per certificate serves both roles.

import { constants } from 'node:crypto';
import {
  type ConnectionOptions,
  createSecureContext,
  type SecureContext,
  Server,
  type TlsOptions,
} from 'node:tls';
import { MeshError } from '#base/errors.ts';
import type { WorkloadSecret } from './secret.ts';

/** What an operator may choose; of every connection, those to the control plane included. */
export interface TlsPolicy {
  /** `TLS12_ENABLED`: 1.2 in addition to 1.3. */
  readonly allowsTls12: boolean;
  /** `COMPLIANCE_POLICY=pqc`: the hybrid post-quantum group and no other. */
  readonly requiresPostQuantum: boolean;
}

export const DEFAULT_TLS_POLICY: TlsPolicy = { allowsTls12: false, requiresPostQuantum: false };

const TLS13_CIPHERS = ['TLS_AES_256_GCM_SHA384', 'TLS_AES_128_GCM_SHA256'];
const TLS12_CIPHERS = [
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES128-GCM-SHA256',
];
const POST_QUANTUM_GROUP = 'X25519MLKEM768';
/**
 * The hybrid first: what is recorded today stays closed to the quantum computers of tomorrow. A key share of each (`*`), so that
 * a peer without it, or one that prefers X25519, needs no second flight. A hello has 1.4 KB; the time of a handshake is the same.
 */
const GROUPS = `*${POST_QUANTUM_GROUP}:*X25519:P-256:P-384`;

/** Versions and suites in the field's order, and groups. */
export function tlsParameters({ allowsTls12, requiresPostQuantum }: TlsPolicy) {
  return {
    minVersion: allowsTls12 ? 'TLSv1.2' : 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    ciphers: (allowsTls12 ? [...TLS13_CIPHERS, ...TLS12_CIPHERS] : TLS13_CIPHERS).join(':'),
    ecdhCurve: requiresPostQuantum ? POST_QUANTUM_GROUP : GROUPS,
    // Renegotiation is 1.2's: a session would change hands after its peer was checked.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  } as const;
}

export const ALPN_H2 = 'h2';

export interface ContextMaterial {
  readonly keyPem: string;
  /** Leaf first; never the root. */
  readonly chainPem: readonly string[];
  readonly rootsPem: readonly string[];
}

export function createWorkloadContext(
  material: ContextMaterial,
  policy: TlsPolicy = DEFAULT_TLS_POLICY,
): SecureContext {
  return createSecureContext({
    ...tlsParameters(policy),
    key: material.keyPem,
    cert: material.chainPem.join('\n'),
    ca: [...material.rootsPem],
  });
}

/** For `tls.connect`; `checkServer` judges the names after the chain was accepted. */
export function clientTlsOptions(
  secret: WorkloadSecret,
  checkServer: (subjectAltName: string | undefined) => Error | undefined,
): ConnectionOptions {
  return {
    secureContext: secret.context,
    ALPNProtocols: [ALPN_H2],
    rejectUnauthorized: true,
    // Empty: no server name is sent (ztunnel.md §5.3).
    servername: '',
    checkServerIdentity: (_host, certificate) => checkServer(certificate.subjectaltname),
  };
}

export function createWorkloadTlsServer(secret: WorkloadSecret, handshakeTimeoutMs: number): Server {
  const options: TlsOptions = {
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: [ALPN_H2],
    handshakeTimeout: handshakeTimeoutMs,
    // For the context that Node makes here and we replace: without `ca` it would load the public web's roots.
    ca: [...secret.rootsPem],
  };
  const server = new Server(options);
  // Node offers no option to give a server a context made before; its own field is the only way to share one.
  if (!('_sharedCreds' in server)) {
    throw new MeshError('CONFIG_INVALID', 'this Node cannot share a TLS context with a server; use Node 26');
  }
  server._sharedCreds = secret.context;
  return server;
}
