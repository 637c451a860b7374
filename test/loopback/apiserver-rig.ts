// For the API server's loopback tests: a server on a free port with a state directory of its own, and raw HTTPS.

import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { ApiEndpoint } from '#k8s/rest-transport.ts';
import {
  type ApiLimits,
  type ApiServer,
  type ApiServerDeps,
  createApiServer,
} from '#local/apiserver/server.ts';
import { silentLogger } from '#telemetry/log.ts';

const CRD_FOLDER = join(import.meta.dirname, '../../deploy/crds');

export interface Answer {
  readonly code: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The text read as JSON. */
  readonly body: Json;
}

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely, and a wrong shape fails the test.
export type Json = any;

export interface CallOptions {
  readonly body?: unknown;
  readonly type?: string;
  readonly headers?: OutgoingHttpHeaders;
  /** `admin` unless told otherwise. */
  readonly as?:
    | 'admin'
    | 'nobody'
    | { readonly token: string }
    | { readonly cert: string; readonly key: string };
}

export interface ApiRig {
  readonly server: ApiServer;
  readonly port: number;
  readonly url: string;
  readonly folder: string;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** The answer as it begins to arrive (watches, logs). */
  open(method: string, path: string, options?: CallOptions): Promise<IncomingMessage>;
}

export async function withApiServer(
  run: (rig: ApiRig) => Promise<void>,
  deps: Partial<ApiServerDeps> = {},
  limits: Partial<ApiLimits> = {},
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-api-'));
  try {
    await withServerIn(folder, run, deps, limits);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export async function withServerIn(
  folder: string,
  run: (rig: ApiRig) => Promise<void>,
  deps: Partial<ApiServerDeps> = {},
  limits: Partial<ApiLimits> = {},
): Promise<void> {
  const crds = readdirSync(CRD_FOLDER).map((name) => readFileSync(join(CRD_FOLDER, name), 'utf8'));
  const server = await createApiServer({ log: silentLogger, ...deps }, { stateDir: folder, crds, limits });
  const agent = new Agent({ keepAlive: true });
  try {
    const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
    await run(rigOf(server, port, folder, agent));
  } finally {
    agent.destroy();
    await server.close();
  }
}

/** For clients that are to be the administrator. */
export const adminEndpoint = (server: ApiServer, port: number): ApiEndpoint => ({
  server: `https://127.0.0.1:${port}`,
  tls: () => ({
    caPem: server.caPem,
    clientCertPem: server.adminCertPem,
    clientKeyPem: server.adminKeyPem,
  }),
});

/** The administrator's connection, for bytes that no client sends. */
export async function tlsTo({ server, port }: Pick<ApiRig, 'server' | 'port'>): Promise<TLSSocket> {
  const socket = connectTls({
    host: '127.0.0.1',
    port,
    ca: server.caPem,
    cert: server.adminCertPem,
    key: server.adminKeyPem,
    servername: 'localhost',
  });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}

function rigOf(server: ApiServer, port: number, folder: string, agent: Agent): ApiRig {
  const open: ApiRig['open'] = (method, path, { body, type, headers = {}, as = 'admin' } = {}) =>
    new Promise((resolve, reject) => {
      const text =
        body === undefined
          ? undefined
          : typeof body === 'string' || Buffer.isBuffer(body)
            ? body
            : JSON.stringify(body);
      const request = httpsRequest(
        {
          host: '127.0.0.1',
          port,
          method,
          path,
          ca: server.caPem,
          // The name that is checked, whatever Host a test sends.
          servername: 'localhost',
          agent,
          ...(as === 'admin' ? { cert: server.adminCertPem, key: server.adminKeyPem } : {}),
          ...(typeof as === 'object' && 'cert' in as ? as : {}),
          headers: {
            ...(text === undefined
              ? {}
              : { 'content-type': type ?? 'application/json', 'content-length': Buffer.byteLength(text) }),
            ...(typeof as === 'object' && 'token' in as ? { authorization: `Bearer ${as.token}` } : {}),
            ...headers,
          },
        },
        resolve,
      );
      request.on('error', reject);
      request.end(text);
    });
  return {
    server,
    port,
    url: `https://127.0.0.1:${port}`,
    folder,
    open,
    call: async (method, path, options) => {
      const response = await open(method, path, options);
      let text = '';
      for await (const chunk of response) text += String(chunk);
      return {
        code: response.statusCode ?? 0,
        headers: response.headers,
        text,
        get body() {
          return JSON.parse(text) as unknown;
        },
      };
    },
  };
}
