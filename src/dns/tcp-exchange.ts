// One query to other servers over TCP, for an asker that came over TCP: one server after the other.

import type net from 'node:net';
import { MeshError, reasonOf } from '#base/errors.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import { isAnswerTo, type Query } from './message.ts';
import type { UpstreamSockets } from './sockets.ts';
import {
  type Exchange,
  type ExchangeOptions,
  type ExchangeResult,
  isUsable,
  noAnswer,
  unguessableId,
} from './udp-exchange.ts';

/** To connect and to answer (ztunnel.md §10.4). */
const SERVER_MS = 5_000;

export function exchangeTcp(sockets: UpstreamSockets, query: Query, options: ExchangeOptions): Exchange {
  const abort = new AbortController();
  const deadline = setTimeout(() => abort.abort('no server answered in time'), options.deadlineMs);
  const result = askAll(sockets, query, options.servers, abort.signal).finally(() => clearTimeout(deadline));
  return { result, cancel: () => abort.abort('the pod was removed') };
}

async function askAll(
  sockets: UpstreamSockets,
  query: Query,
  servers: readonly SocketAddress[],
  signal: AbortSignal,
): Promise<ExchangeResult> {
  let unusable: ExchangeResult | undefined;
  let failure: MeshError | undefined;
  for (const server of servers) {
    try {
      const result = { response: await ask(sockets, query, server, signal), server };
      if (isUsable(result.response)) return result;
      unusable ??= result;
    } catch (error) {
      failure = MeshError.from(error, 'DNS_NO_ANSWER', `asking ${formatSocketAddress(server)}`);
    }
    if (signal.aborted) break;
  }
  if (unusable !== undefined) return unusable;
  throw failure ?? noAnswer(query, 'there is no server to ask');
}

function ask(
  sockets: UpstreamSockets,
  query: Query,
  server: SocketAddress,
  signal: AbortSignal,
): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const where = formatSocketAddress(server);
  const id = unguessableId();
  const socket = sockets.tcp(server);
  const timer = setTimeout(() => fail(`${where} did not answer within ${SERVER_MS / 1000} s`), SERVER_MS);
  const finish = (): void => {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    socket.destroy();
  };
  const fail = (reason: string, cause?: unknown): void => {
    finish();
    reject(noAnswer(query, reason, cause));
  };
  const onAbort = (): void => fail(String(signal.reason));
  signal.addEventListener('abort', onAbort);
  socket.on('error', (error) => fail(`${where}: ${reasonOf(error)}`, error));
  socket.on('close', () => fail(`${where} closed the connection`));
  readOneMessage(socket, (response) => {
    if (!isAnswerTo(query, id, response)) return fail(`${where} answered another question`);
    finish();
    resolve(response);
  });
  socket.write(framed(withId(query, id)));
  return promise;
}

function withId(query: Query, id: number): Buffer {
  const bytes = Buffer.from(query.bytes);
  bytes.writeUInt16BE(id, 0);
  return bytes;
}

/** With the length in front that TCP needs (RFC 1035 §4.2.2). */
export function framed(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(2 + message.length);
  bytes.writeUInt16BE(message.length, 0);
  bytes.set(message, 2);
  return bytes;
}

/** At most 64 KiB and a read are held: the length says so. */
function readOneMessage(socket: net.Socket, onMessage: (message: Buffer) => void): void {
  let held: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    if (held.length < 2) return;
    const end = 2 + held.readUInt16BE(0);
    if (held.length >= end) onMessage(held.subarray(2, end));
  });
}
