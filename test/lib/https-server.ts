// An HTTPS server of a test's own on 127.0.0.1, with a certificate of one test root.

import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { createServer, type Server, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { createAuthority } from '#tls/issue.ts';

export const testRoot = createAuthority({ commonName: 'test root', validDays: 1 });

export interface HttpsServer {
  readonly server: Server;
  readonly port: number;
  /** Where it is, and whom to trust for it: what a client of the Kubernetes API is told. */
  readonly endpoint: { readonly server: string; readonly tls: () => { readonly caPem: string } };
  /** Ends its connections, too. */
  close(): Promise<void>;
}

/** Ends with the test. */
export async function serveHttps(
  t: TestContext,
  onRequest: RequestListener,
  options: ServerOptions = {},
  at = 0,
): Promise<HttpsServer> {
  const root = await testRoot;
  const leaf = await root.issue({
    commonName: 'api',
    ips: ['127.0.0.1'],
    server: true,
    validForMs: 3_600_000,
  });
  const server = createServer({ cert: leaf.certPem, key: leaf.keyPem!, ...options }, onRequest);
  server.listen(at, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  // Connections that were upgraded are their owners' to end.
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    server,
    port,
    endpoint: { server: `https://127.0.0.1:${port}`, tls: () => ({ caPem: root.certPem }) },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
