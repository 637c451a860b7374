// A gRPC probe: one call of `grpc.health.v1.Health/Check` in plain HTTP/2 over a connection that stands, as a kubelet makes it.
// Both messages are one field each, so they are written and read here.

import { connect, constants, type IncomingHttpHeaders } from 'node:http2';
import type { Socket } from 'node:net';
import { reasonOf } from '#base/errors.ts';
import type { ProbeOutcome } from './probe.ts';

const CHECK = '/grpc.health.v1.Health/Check';
/** Compression flag and length before every message (gRPC over HTTP/2, "Length-Prefixed-Message"). */
const PREFIX_BYTES = 5;
/** An answer holds one small number; more than this is no health service. */
const ANSWER_LIMIT_BYTES = 4096;
const UNIMPLEMENTED = '12';
const STATUSES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];
const SERVING = 1;

export function probeGrpc(socket: Socket, service: string, timeoutMs: number): Promise<ProbeOutcome> {
  return new Promise((resolve) => {
    const session = connect('http://kubelet-probe', { createConnection: () => socket });
    const timer = setTimeout(
      () =>
        finish({ kind: 'failure', message: `timeout: health rpc did not complete within ${timeoutMs}ms` }),
      timeoutMs,
    );
    const finish = (outcome: ProbeOutcome): void => {
      clearTimeout(timer);
      resolve(outcome);
      session.destroy();
    };
    const failed = (error: unknown): void =>
      finish({ kind: 'failure', message: `error: health rpc failed: ${reasonOf(error)}` });
    session.on('error', failed);
    session.on('close', () => failed(new Error('the connection was closed')));
    const call = session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: CHECK,
      'content-type': 'application/grpc',
      'user-agent': 'kube-probe/1.37',
      te: 'trailers',
    });
    let head: IncomingHttpHeaders = {};
    const parts: Buffer[] = [];
    let bytes = 0;
    call.on('error', failed);
    call.on('response', (headers) => {
      head = headers;
    });
    // A refusal comes as headers alone, an answer with its status in the trailers.
    call.on('trailers', (trailers) => {
      head = { ...head, ...trailers };
    });
    call.on('data', (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes > ANSWER_LIMIT_BYTES) failed(new Error('the answer is too large for a health service'));
    });
    call.on('end', () => finish(outcomeOf(head, Buffer.concat(parts))));
    call.end(checkRequest(service));
  });
}

/** `HealthCheckRequest { string service = 1; }`, empty for the server as a whole. */
function checkRequest(service: string): Buffer {
  const name = Buffer.from(service);
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([0x0a]), varint(name.length), name]);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}

function outcomeOf(head: IncomingHttpHeaders, answer: Buffer): ProbeOutcome {
  const failure = (message: string): ProbeOutcome => ({ kind: 'failure', message });
  const code = head['grpc-status'];
  const why = String(head['grpc-message'] ?? '');
  if (code === UNIMPLEMENTED)
    return failure(
      `error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ${why}`,
    );
  if (head[constants.HTTP2_HEADER_STATUS] !== undefined && Number(head[':status']) !== 200)
    return failure(`error: health rpc failed: HTTP status ${head[':status']}`);
  if (code !== '0') return failure(`error: health rpc failed: grpc-status ${code ?? 'missing'}: ${why}`);
  const status = servingStatus(answer.subarray(PREFIX_BYTES));
  if (status === SERVING) return { kind: 'success' };
  return failure(`service unhealthy (responded with ${JSON.stringify(STATUSES[status] ?? String(status))})`);
}

/** `HealthCheckResponse { ServingStatus status = 1; }`: an absent field is UNKNOWN, the last one counts. */
function servingStatus(message: Buffer): number {
  let status = 0;
  for (let at = 0; at + 1 < message.length && message[at] === 0x08; at += 2) status = message[at + 1]!;
  return status;
}
