// The HTTPS connection to one API server: kept-alive requests with a deadline, streams, refusals as MeshError.
// A kept-alive connection that died under a GET is tried once more; every other retry is the caller's business.

import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { errnoOf, MeshError } from '#base/errors.ts';
import { statusError } from './status.ts';

export interface TlsMaterial {
  /** Undefined: the system's roots. */
  readonly caPem?: string | undefined;
  readonly clientCertPem?: string | undefined;
  readonly clientKeyPem?: string | undefined;
}

export interface ApiEndpoint {
  /** `https://host:port`; a path is put before every request's (some hosters reach clusters so). */
  readonly server: string;
  /** The name to verify in place of the address. */
  readonly serverName?: string;
  /** Read before every request, as `token` is: both rotate. A connection lives on with what it began with. */
  readonly tls?: () => TlsMaterial;
  readonly token?: () => string;
  readonly userAgent?: string;
  /** In place of TLS: a connection that is the server's already. */
  readonly connect?: () => Duplex;
}

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
  /** Streams only: cut when it has not ended after this long, because the connection must be dead. */
  readonly streamLimitMs?: number;
  /** Streams only: cut when nothing has come for this long. */
  readonly silenceLimitMs?: number;
}

const TCP_KEEP_ALIVE_MS = 30_000;
const ANSWER_LIMIT_BYTES = 256 * 1024 * 1024;
const MAX_FREE_CONNECTIONS = 4;

/** `json` reads the answer whole and in time; `chunks` hands on the body as it comes. */
export interface Transport {
  /** The parsed answer; undefined when it is empty. */
  json<Answer>(call: Call): Promise<Answer>;
  /** Only the head of the answer must come in time. Leaving the loop early closes the connection. */
  chunks(call: Call): AsyncGenerator<Buffer>;
  close(): void;
}

export function createTransport(endpoint: ApiEndpoint, requestTimeoutMs: number): Transport {
  const base = serverUrl(endpoint.server);
  const { agent, request: sendRequest } = connectionsTo(endpoint);
  const tls = endpoint.connect === undefined ? keptTls(endpoint) : undefined;

  const headersOf = (call: Call, payload: string | undefined): Record<string, string | number> => ({
    accept: call.accept ?? 'application/json',
    ...callerHeaders(endpoint),
    ...(payload === undefined
      ? {}
      : {
          'content-type': call.contentType ?? 'application/json',
          'content-length': Buffer.byteLength(payload),
        }),
  });

  /** Resolves with the answer's head; refusals and dead connections reject. */
  const open = (call: Call, streaming: boolean, retried = false): Promise<IncomingMessage> => {
    const payload = call.body === undefined ? undefined : JSON.stringify(call.body);
    const headers = headersOf(call, payload);
    const tlsOptions = tls?.() ?? {};
    return new Promise((resolve, reject) => {
      const request = sendRequest({
        agent,
        ...tlsOptions,
        ...targetOf(base, call.path),
        method: call.method,
        headers,
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      let response: IncomingMessage | undefined;
      request.on('response', (head) => {
        response = head;
        if (streaming) clearTimeout(timer);
        resolve(head);
      });
      request.on('error', (error) => {
        // The server closed a kept-alive connection while our request was on its way: nothing was answered yet.
        const stale = request.reusedSocket && (errnoOf(error) === 'ECONNRESET' || errnoOf(error) === 'EPIPE');
        if (stale && !retried && call.method === 'GET') resolve(open(call, streaming, true));
        else reject(unreachable(base, error));
      });
      request.on('socket', (socket: Socket) => socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS));
      const timer = setTimeout(() => {
        const late = new Error(`no complete answer to ${describe(call)} in ${requestTimeoutMs} ms`);
        // Whoever reads the body already is to learn the same reason.
        response?.destroy(late);
        request.destroy(late);
      }, requestTimeoutMs);
      request.on('close', () => clearTimeout(timer));
      request.end(payload);
    });
  };

  const openChecked = async (call: Call, streaming: boolean): Promise<IncomingMessage> => {
    const response = await open(call, streaming);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return response;
    const body = parseIfJson(await readText(response, base));
    throw statusError(status, body, describe(call), response.headers['retry-after']);
  };

  const json = async <Answer>(call: Call): Promise<Answer> => {
    const response = await openChecked(call, false);
    const text = await readText(response, base);
    if (text === '') return undefined as Answer;
    try {
      return JSON.parse(text) as Answer;
    } catch (error) {
      throw new MeshError('API_UNREACHABLE', `the answer of ${base.host} to ${describe(call)} is no JSON`, {
        cause: error,
      });
    }
  };

  return {
    json,
    async *chunks(call) {
      const response = await openChecked(call, true);
      const cutAfter = (limitMs: number | undefined, what: string) =>
        limitMs === undefined
          ? undefined
          : setTimeout(() => response.destroy(new Error(`${describe(call)} ${what} ${limitMs} ms`)), limitMs);
      const limit = cutAfter(call.streamLimitMs, 'did not end in');
      const silence = cutAfter(call.silenceLimitMs, 'was silent for');
      try {
        for await (const chunk of chunksOf(response, base)) {
          silence?.refresh();
          yield chunk;
        }
      } finally {
        clearTimeout(limit);
        clearTimeout(silence);
        response.destroy();
      }
    },
    close: () => agent.destroy(),
  };
}

function connectionsTo({ connect }: ApiEndpoint): { agent: HttpAgent; request: typeof httpRequest } {
  const kept = { keepAlive: true, maxFreeSockets: MAX_FREE_CONNECTIONS };
  if (connect === undefined) return { agent: new HttpsAgent(kept), request: httpsRequest };
  const agent = new HttpAgent(kept);
  agent.createConnection = connect;
  return { agent, request: httpRequest };
}

type TlsOptions = SecureContextOptions & {
  readonly secureContext: SecureContext;
  readonly servername?: string;
};

/** The same context for as long as the material is the same. */
function keptTls(endpoint: ApiEndpoint): () => TlsOptions {
  let kept: TlsOptions | undefined;
  return () => {
    const { caPem, clientCertPem, clientKeyPem } = endpoint.tls?.() ?? {};
    if (kept === undefined || kept.ca !== caPem || kept.cert !== clientCertPem || kept.key !== clientKeyPem)
      kept = tlsOf(endpoint, { caPem, clientCertPem, clientKeyPem });
    return kept;
  };
}

/** TLS towards the server: whom to trust, who we are. @throws MeshError CONFIG_INVALID */
export function tlsOf(
  { server, serverName, tls }: ApiEndpoint,
  { caPem: ca, clientCertPem: cert, clientKeyPem: key }: TlsMaterial = tls?.() ?? {},
): TlsOptions {
  let secureContext: SecureContext;
  try {
    secureContext = createSecureContext({ ca, cert, key });
  } catch (error) {
    throw MeshError.from(error, 'CONFIG_INVALID', `the certificates for ${server} cannot be used`);
  }
  // An agent keeps connections apart by all of these but the context.
  return { secureContext, ca, cert, key, ...(serverName === undefined ? {} : { servername: serverName }) };
}

export function callerHeaders(endpoint: ApiEndpoint): Record<string, string> {
  return {
    'user-agent': endpoint.userAgent ?? 'culvert',
    ...(endpoint.token === undefined ? {} : { authorization: `Bearer ${endpoint.token()}` }),
  };
}

export function targetOf(base: URL, path: string): { host: string; port: number; path: string } {
  return {
    host: base.hostname.replace(/^\[|\]$/g, ''),
    port: base.port === '' ? 443 : Number(base.port),
    path: `${base.pathname.replace(/\/$/, '')}${path}`,
  };
}

/** @throws MeshError CONFIG_INVALID */
export function serverUrl(server: string): URL {
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (url?.protocol !== 'https:')
    throw new MeshError(
      'CONFIG_INVALID',
      `the API server's address ${JSON.stringify(server)} is no https:// URL`,
    );
  return url;
}

const describe = (call: Call): string => `${call.method} ${call.path}`;

const unreachable = (base: URL, error: unknown): MeshError =>
  MeshError.from(error, 'API_UNREACHABLE', `no answer from the API server ${base.host}`);

async function* chunksOf(response: IncomingMessage, base: URL): AsyncGenerator<Buffer> {
  try {
    yield* response as AsyncIterable<Buffer>;
  } catch (error) {
    throw unreachable(base, error);
  }
}

async function readText(response: IncomingMessage, base: URL): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of chunksOf(response, base)) {
    sizeBytes += chunk.length;
    if (sizeBytes > ANSWER_LIMIT_BYTES)
      throw new MeshError('API_UNREACHABLE', `an answer of ${base.host} exceeds ${ANSWER_LIMIT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Refusals are JSON `Status` objects, but something in between may answer in plain text. */
export function parseIfJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const line = text.trim().slice(0, 200);
    return line === '' ? undefined : { message: line };
  }
}
