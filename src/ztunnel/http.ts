// The small HTTP servers of ztunnel (admin, metrics, readiness): routing, methods and limits. What they say is elsewhere.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Logger } from '#telemetry/log.ts';
import type { DescriptorGuard } from './capture/descriptor-guard.ts';

export interface HttpAnswer {
  readonly status?: number;
  readonly contentType?: string;
  readonly body: string | Uint8Array;
  /** Sent with gzip to whoever takes it. */
  readonly compressible?: boolean;
}

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly accept: string;
  /** Of the content codings only gzip is offered: every scraper takes it. */
  readonly acceptsGzip: boolean;
}

export type HttpRoutes = Readonly<Record<string, (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>>>;

export interface HttpListen {
  readonly name: string;
  /** Undefined: every address, of both families where the kernel has them. */
  readonly host: string | undefined;
  readonly port: number;
}

/** Serves until the scope closes. Resolves with the bound port. @throws MeshError PORT_IN_USE */
export function serveHttp(
  deps: { readonly log: Logger; readonly scope: Scope; readonly descriptors?: DescriptorGuard | undefined },
  listen: HttpListen,
  routes: HttpRoutes,
): Promise<number> {
  const server = createServer(
    { headersTimeout: 2_000, maxHeaderSize: 8_192, keepAliveTimeout: 60_000 },
    (request, response) => {
      answer(deps.log, routes, request, response).catch((error) => {
        deps.log.error('answering failed', { error: reasonOf(error) });
        response.destroy();
      });
    },
  );
  deps.descriptors?.watch(server, { isAttendant: true });
  deps.scope.onClose(() => {
    server.close();
    server.closeIdleConnections();
  });
  return bound(server, listen);
}

function bound(server: Server, listen: HttpListen): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const where = `${listen.host ?? '*'}:${listen.port}`;
      const isTaken = errnoOf(error) === 'EADDRINUSE';
      reject(
        isTaken
          ? new MeshError(
              'PORT_IN_USE',
              `the ${listen.name} port ${where} is taken by another process; stop it first`,
            )
          : new MeshError(
              'CONFIG_INVALID',
              `the ${listen.name} port ${where} cannot be bound: ${reasonOf(error)}`,
              {
                cause: error,
              },
            ),
      );
    });
    server.listen({ port: listen.port, ...(listen.host === undefined ? {} : { host: listen.host }) }, () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : listen.port);
    });
  });
}

async function answer(
  log: Logger,
  routes: HttpRoutes,
  message: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = URL.parse(message.url ?? '/', 'http://ztunnel');
  const route = url === null ? undefined : routes[url.pathname];
  // A body that nobody reads must not hold the connection.
  message.resume();
  if (url === null || route === undefined)
    return write(response, message, { status: 404, body: 'Not Found\n' });
  const request: HttpRequest = {
    method: message.method ?? 'GET',
    path: url.pathname,
    query: url.searchParams,
    accept: message.headers.accept ?? '',
    acceptsGzip: acceptsGzip(message.headers['accept-encoding']),
  };
  let reply: HttpAnswer;
  try {
    reply = await route(request);
  } catch (error) {
    log.error('request failed', { path: url.pathname, error: reasonOf(error) });
    reply = { status: 500, body: `${reasonOf(error)}\n` };
  }
  if (reply.compressible !== true) return write(response, message, reply);
  response.setHeader('vary', 'accept-encoding');
  if (request.acceptsGzip) {
    const { gzip } = await import('#telemetry/gzip.ts');
    response.setHeader('content-encoding', 'gzip');
    reply = { ...reply, body: gzip(reply.body) };
  }
  write(response, message, reply);
}

function write(response: ServerResponse, { method }: IncomingMessage, reply: HttpAnswer): void {
  response.writeHead(reply.status ?? 200, {
    'content-type': reply.contentType ?? 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(reply.body),
  });
  response.end(method === 'HEAD' ? '' : reply.body);
}

/** `gzip` or `*`, unless its weight is 0 (RFC 9110 §12.5.3). */
function acceptsGzip(header: string | string[] | undefined): boolean {
  const codings = String(header ?? '')
    .toLowerCase()
    .split(',')
    .map((item) => {
      const [name = '', ...parameters] = item.split(';').map((part) => part.trim());
      const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice('q='.length);
      return [name, weight === undefined ? 1 : Number(weight)] as const;
    });
  const [, weight = 0] =
    codings.find(([name]) => name === 'gzip') ?? codings.find(([name]) => name === '*') ?? [];
  return weight > 0;
}

/** 405 with help for a path that changes something and was asked otherwise. */
export function onlyPost(request: HttpRequest, help: string): HttpAnswer | undefined {
  return request.method === 'POST' ? undefined : { status: 405, body: help };
}
