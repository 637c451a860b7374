// A connection to a port inside a pod, through the API server: the client's side of `portforward.k8s.io` over SPDY/3.1, the
// form that every kubelet since 1.5 serves. One connection carries one pair of streams, which is all that our commands need.

import { request as httpsRequest } from 'node:https';
import { Duplex } from 'node:stream';
import { MeshError, reasonOf } from '#base/errors.ts';
import { PODS } from './objects.ts';
import { objectPath } from './path.ts';
import {
  type ApiEndpoint,
  callerHeaders,
  parseIfJson,
  serverUrl,
  targetOf,
  tlsOf,
} from './rest-transport.ts';
import { statusError } from './status.ts';
import { encodeFrame, type Frame, FrameDecoder } from './streams/spdy-frames.ts';
import { HeaderWriter } from './streams/spdy-headers.ts';

const PROTOCOL = 'portforward.k8s.io';
const OPEN_LIMIT_MS = 30_000;
const REFUSAL_LIMIT_BYTES = 64 * 1024;
/** Frames of this size leave room for others on the API server's side. */
const MAX_DATA_BYTES = 16 * 1024;

export interface PodPort {
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
}

/** Resolves when the pod's node has taken the streams. @throws MeshError API_STATUS, API_UNREACHABLE */
export async function openPortForward(endpoint: ApiEndpoint, target: PodPort): Promise<Duplex> {
  const transport = await upgrade(endpoint, target);
  const stream = new ForwardedPort(transport, target);
  await stream.opened;
  return stream;
}

function upgrade(endpoint: ApiEndpoint, { namespace, pod }: PodPort): Promise<Duplex> {
  const base = serverUrl(endpoint.server);
  const path = objectPath(PODS, pod, namespace, 'portforward');
  return new Promise((resolve, reject) => {
    const unreachable = (error: unknown): void =>
      reject(MeshError.from(error, 'API_UNREACHABLE', `no answer from the API server ${base.host}`));
    const request = httpsRequest({
      ...targetOf(base, path),
      ...tlsOf(endpoint),
      agent: false,
      method: 'POST',
      headers: {
        ...callerHeaders(endpoint),
        connection: 'Upgrade',
        upgrade: 'SPDY/3.1',
        'x-stream-protocol-version': PROTOCOL,
        'content-length': 0,
      },
      timeout: OPEN_LIMIT_MS,
    });
    request.on('timeout', () => request.destroy(new Error(`no answer in ${OPEN_LIMIT_MS / 1000} s`)));
    request.on('error', unreachable);
    request.on('upgrade', (_response, socket: Duplex, head: Buffer) => {
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    request.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        if (text.length < REFUSAL_LIMIT_BYTES) text += chunk;
      });
      response.on('error', unreachable);
      response.on('end', () =>
        reject(statusError(response.statusCode ?? 0, parseIfJson(text), `port-forward to pod ${pod}`)),
      );
    });
    request.end();
  });
}

const ERROR_STREAM = 1;
const DATA_STREAM = 3;

class ForwardedPort extends Duplex {
  /** Rejects when the node refuses the streams. */
  readonly opened: Promise<void>;
  readonly #transport: Duplex;
  readonly #target: PodPort;
  readonly #decoder = new FrameDecoder();
  readonly #replied = Promise.withResolvers<void>();
  #failure = '';
  #dataEnded = false;

  constructor(transport: Duplex, target: PodPort) {
    super({ allowHalfOpen: true });
    this.#transport = transport;
    this.#target = target;
    this.opened = this.#replied.promise;
    transport.on('data', (chunk: Buffer) => this.#onChunk(chunk));
    transport.on('error', (error) => this.destroy(this.#broken(reasonOf(error))));
    transport.on('close', () => this.#onClose());
    const headers = new HeaderWriter();
    for (const [streamId, type] of [
      [ERROR_STREAM, 'error'],
      [DATA_STREAM, 'data'],
    ] as const)
      this.#send({
        type: 'syn-stream',
        streamId,
        // Nothing is sent on the error stream.
        fin: type === 'error',
        unidirectional: false,
        headerBlock: headers.write(
          new Map([
            ['streamtype', [type]],
            ['port', [String(target.port)]],
            ['requestid', ['0']],
          ]),
        ),
      });
  }

  #send(frame: Frame): boolean {
    return this.#transport.destroyed || this.#transport.write(encodeFrame(frame));
  }

  #onChunk(chunk: Buffer): void {
    try {
      for (const frame of this.#decoder.push(chunk)) this.#onFrame(frame);
    } catch (error) {
      this.destroy(this.#broken(reasonOf(error)));
    }
  }

  #onFrame(frame: Frame): void {
    switch (frame.type) {
      case 'syn-reply':
        if (frame.streamId === DATA_STREAM) this.#replied.resolve();
        return;
      case 'data':
        if (frame.streamId === DATA_STREAM) this.#onData(frame.bytes, frame.fin);
        else if (frame.streamId === ERROR_STREAM) this.#onError(frame.bytes, frame.fin);
        return;
      case 'rst-stream':
        // After a sentence on the error stream, that is the reason.
        if (frame.streamId === DATA_STREAM) setImmediate(() => this.#onClose());
        return;
      case 'ping':
        // Ours would be odd; a server's are even and want an answer.
        if (frame.id % 2 === 0) this.#send(frame);
        return;
      default:
        return;
    }
  }

  #onData(bytes: Buffer, fin: boolean): void {
    if (bytes.length > 0 && !this.push(bytes)) this.#transport.pause();
    if (!fin) return;
    this.#dataEnded = true;
    this.push(null);
  }

  #onError(bytes: Buffer, fin: boolean): void {
    if (this.#failure.length < REFUSAL_LIMIT_BYTES) this.#failure += bytes.toString('utf8');
    if (fin && this.#failure !== '') this.destroy(this.#broken(this.#failure.trim()));
  }

  #onClose(): void {
    if (this.#dataEnded || this.destroyed) return;
    this.destroy(this.#broken(this.#failure === '' ? 'the connection ended' : this.#failure.trim()));
  }

  #broken(reason: string): MeshError {
    const { namespace, pod, port } = this.#target;
    return new MeshError('API_UNREACHABLE', `port ${port} of pod ${namespace}/${pod}: ${reason}`);
  }

  override _read(): void {
    this.#transport.resume();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    let isRoomy = true;
    for (let at = 0; at < chunk.length; at += MAX_DATA_BYTES)
      isRoomy = this.#send({
        type: 'data',
        streamId: DATA_STREAM,
        bytes: chunk.subarray(at, at + MAX_DATA_BYTES),
        fin: false,
      });
    if (isRoomy) callback();
    else this.#transport.once('drain', () => callback());
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#send({ type: 'data', streamId: DATA_STREAM, bytes: Buffer.alloc(0), fin: true });
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#replied.reject(error ?? this.#broken('the connection was closed'));
    // Nobody may wait for `opened` any more; the error itself travels with the stream.
    this.opened.catch(() => {});
    this.#transport.destroy();
    callback(error);
  }
}
