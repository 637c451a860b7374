// TLS parameters of the mesh (ztunnel.md §5.3): 1.3 only, two suites, the field's groups in its order, ALPN h2, no server
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

const TLS_PARAMETERS = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256',
  // X25519MLKEM768 last: first, it would make every ClientHello 1.2 KB longer.
  ecdhCurve: 'X25519:P-256:P-384:X25519MLKEM768',
  secureOptions: constants.SSL_OP_NO_TICKET,
} as const;

export const ALPN_H2 = 'h2';

export interface ContextMaterial {
  readonly keyPem: string;
  /** Leaf first; never the root. */
  readonly chainPem: readonly string[];
  readonly rootsPem: readonly string[];
}

export function createWorkloadContext(material: ContextMaterial): SecureContext {
  return createSecureContext({
    ...TLS_PARAMETERS,
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
