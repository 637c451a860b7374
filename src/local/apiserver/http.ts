// The HTTP side: limits, bodies, and writing answers. One function per request; who may come in: gate.ts.

import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { stringify as toYaml } from 'yaml';
import { reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { acceptedForm } from './accept.ts';
import type { ApiAnswer } from './exchange.ts';
import { type GateDeps, passGate } from './gate.ts';
import { type RouteDeps, route } from './routes.ts';
import { badRequest, StatusError } from './status.ts';

/** As etcd-backed servers take it; nothing the mesh writes comes near. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;
/** A watcher that lets more than this pile up unread is cut and comes back by itself. */
const MAX_UNSENT_BYTES = 4 * 1024 * 1024;

export interface HttpDeps extends RouteDeps, GateDeps {
  readonly log: Logger;
}

export async function handle(
  deps: HttpDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const startedAt = deps.clock.monotonicMs();
  try {
    await write(await answerTo(deps, request), request, response);
  } catch (error) {
    refuse(deps.log, request, response, error);
  }
  if (deps.log.enabled('debug'))
    deps.log.debug(`${request.method ?? ''} ${request.url ?? ''}`, {
      code: response.statusCode,
      type: request.headers['content-type'] ?? '-',
      ms: Math.round(deps.clock.monotonicMs() - startedAt),
    });
}

async function answerTo(deps: HttpDeps, request: IncomingMessage): Promise<ApiAnswer> {
  const admitted = await passGate(deps, request);
  const body = await readBody(request);
  return await route(deps, {
    ...admitted,
    accept: request.headers.accept,
    contentType: request.headers['content-type'],
    userAgent: request.headers['user-agent'],
    body,
  });
}

/** Whether a request with an `Upgrade` header is one of those that mean it; it is ignored on others (RFC 9110 §7.8). */
export function wantsUpgrade(request: IncomingMessage): boolean {
  return /^[^?]*\/(?:exec|attach|portforward)(?:\?|$)/.test(request.url ?? '');
}

/** A request that asks for another protocol; refusals are ordinary answers. */
export async function handleUpgrade(
  deps: HttpDeps,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): Promise<void> {
  const plainly = async (run: (response: ServerResponse) => unknown): Promise<void> => {
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.on('finish', () => socket.end());
    await run(response);
  };
  try {
    const answer = await answerTo(deps, request);
    if (answer.kind === 'upgrade') answer.begin({ request, socket, head });
    else await plainly((response) => write(answer, request, response));
  } catch (error) {
    await plainly((response) => refuse(deps.log, request, response, error));
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = (): StatusError =>
    new StatusError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY_BYTES}`);
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

async function write(answer: ApiAnswer, request: IncomingMessage, response: ServerResponse): Promise<void> {
  switch (answer.kind) {
    case 'json':
      return writeJson(answer, request, response);
    case 'text':
      return writeText(response, answer.code, 'text/plain; charset=utf-8', answer.text);
    case 'bytes':
      return writeBytes(response, answer.code, answer.contentType, answer.bytes);
    case 'watch':
      return writeWatch(answer, response);
    case 'stream':
      return writeStream(answer, response);
    case 'upgrade':
      throw badRequest('Upgrade request required: WebSocket, or SPDY/3.1 by POST');
  }
}

function writeJson(
  answer: ApiAnswer & { readonly kind: 'json' },
  request: IncomingMessage,
  response: ServerResponse,
): void {
  // RFC 9110 §11.6.3 as Kubernetes uses it: code 299, no agent, the text quoted.
  if (answer.warnings !== undefined && answer.warnings.length > 0)
    response.setHeader(
      'warning',
      answer.warnings.map(
        (text) => `299 - "${text.replace(/[^\x20-\x7e]/g, '?').replace(/[\\"]/g, '\\$&')}"`,
      ),
    );
  if (answer.etag !== undefined) {
    response.setHeader('etag', answer.etag);
    response.setHeader('vary', 'Accept');
    if (request.headers['if-none-match'] === answer.etag) {
      response.writeHead(304).end();
      return;
    }
  }
  if (answer.contentType === undefined && acceptedForm(request.headers.accept).yaml)
    writeText(response, answer.code, 'application/yaml', toYaml(JSON.parse(answer.text)));
  else writeText(response, answer.code, answer.contentType ?? 'application/json', answer.text);
}

function writeText(response: ServerResponse, code: number, contentType: string, text: string): void {
  writeBytes(response, code, contentType, Buffer.from(text));
}

function writeBytes(response: ServerResponse, code: number, contentType: string, bytes: Buffer): void {
  response.writeHead(code, {
    'content-type': contentType,
    'content-length': bytes.length,
    'cache-control': 'no-cache, private',
  });
  response.end(bytes);
}

function writeWatch(answer: ApiAnswer & { readonly kind: 'watch' }, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' });
  response.flushHeaders();
  let stop: (() => void) | undefined;
  let closed = false;
  response.on('close', () => {
    closed = true;
    stop?.();
  });
  // What there was at the start was asked for, however large: a reader can only fall behind what happens later.
  let maxUnsentBytes = Number.POSITIVE_INFINITY;
  stop = answer.start({
    write: (line) => {
      if (closed) return false;
      response.write(line);
      if (response.writableLength <= maxUnsentBytes) return true;
      response.destroy();
      return false;
    },
    end: () => response.end(),
  });
  maxUnsentBytes = response.writableLength + MAX_UNSENT_BYTES;
  if (closed) stop();
}

async function writeStream(
  answer: ApiAnswer & { readonly kind: 'stream' },
  response: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const begin = (): void => {
    if (!response.headersSent) {
      response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' });
      response.flushHeaders();
    }
  };
  for await (const chunk of answer.open(gone.signal)) {
    if (gone.signal.aborted) break;
    begin();
    if (!response.write(chunk)) await drained(response);
  }
  begin();
  response.end();
}

const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
    if (response.destroyed) done();
  });

function refuse(log: Logger, request: IncomingMessage, response: ServerResponse, thrown: unknown): void {
  if (response.destroyed) return;
  const error = thrown instanceof StatusError ? thrown : unexpected(log, request, thrown);
  if (response.headersSent) {
    response.destroy();
    return;
  }
  // The rest of a refused body is not read: the connection cannot be used again.
  if (!request.complete) response.setHeader('connection', 'close');
  if (error.body.code === 401) response.setHeader('www-authenticate', 'Bearer');
  writeText(response, error.body.code, 'application/json', JSON.stringify(error.body));
}

function unexpected(log: Logger, request: IncomingMessage, thrown: unknown): StatusError {
  if (request.destroyed && !request.complete) return badRequest('the request ended early');
  log.error('an API request failed unexpectedly', {
    method: request.method ?? '',
    url: request.url ?? '',
    error: reasonOf(thrown),
    ...(thrown instanceof Error && thrown.stack !== undefined ? { stack: thrown.stack } : {}),
  });
  return new StatusError(500, 'InternalError', `Internal error occurred: ${reasonOf(thrown)}`);
}
