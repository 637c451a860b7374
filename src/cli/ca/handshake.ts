// A real TLS handshake over loopback between two holders of certificates, with the parameters of the mesh.

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { reasonOf } from '#base/errors.ts';
import { clientTlsOptions, createWorkloadTlsServer } from '#tls/options.ts';
import { peerIdentity } from '#tls/peer.ts';
import type { WorkloadSecret } from '#tls/secret.ts';

const LIMIT_MS = 10_000;

/** What the end that refused said; undefined when both accepted each other. */
export function meshHandshake(client: WorkloadSecret, server: WorkloadSecret): Promise<string | undefined> {
  const accept = (names: string | undefined): Error | undefined =>
    peerIdentity(names) === server.identity ? undefined : new Error(`the server is ${names}`);
  return handshake(createWorkloadTlsServer(server, LIMIT_MS), clientTlsOptions(client, accept));
}

/** As a proxy dials its control plane: it verifies, and shows no certificate. */
export function controlHandshake(
  rootsPem: string,
  serving: { readonly certPem: string; readonly keyPem: string; readonly host: string },
): Promise<string | undefined> {
  const server = tls.createServer({ cert: serving.certPem, key: serving.keyPem });
  return handshake(server, { ca: rootsPem, servername: serving.host });
}

async function handshake(server: tls.Server, options: tls.ConnectionOptions): Promise<string | undefined> {
  // In TLS 1.3 the client is done before the server has judged its certificate: both must say yes.
  const accepted = new Promise<string | undefined>((resolve) => {
    server.on('tlsClientError', (error, { authorizationError }) =>
      resolve(`the server refuses the client: ${shortReason(authorizationError ?? error)}`),
    );
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {});
      socket.end();
      resolve(undefined);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = tls.connect({ ...options, host: '127.0.0.1', port });
  const refused = new Promise<string>((resolve) => {
    socket.setTimeout(LIMIT_MS, () => socket.destroy(new Error(`no handshake in ${LIMIT_MS} ms`)));
    // Once it is satisfied, what ends the session is the server's judgement, which says more at its own end.
    let isSatisfied = false;
    socket.on('secureConnect', () => {
      isSatisfied = true;
    });
    socket.on('error', (error) => {
      if (!isSatisfied) resolve(`the client refuses the server: ${shortReason(error)}`);
    });
  });
  const verified = once(socket, 'secureConnect').then(
    () => accepted,
    () => refused,
  );
  try {
    return await Promise.race([refused, verified]);
  } finally {
    socket.destroy();
    server.close();
  }
}

/** Without Node's advice about its own command line. */
const shortReason = (error: unknown): string => reasonOf(error).replace(/; if the root CA .*$/, '');
