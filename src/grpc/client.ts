// A small gRPC client over node:http2: unary calls and bidirectional streams of bytes on one shared session. What the
// bytes mean is the caller's business. In place of @connectrpc/connect-node in the node proxy, where weight counts
// (docs/decisions/0002-grpc-client.md). No retries: whoever calls knows what may be repeated.

import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import { MeshError, reasonOf } from '#base/errors.ts';
import { encodeFrame, FrameDecoder } from './frames.ts';
import { createSharedSession, type SessionDeps, type SessionOptions, type SharedSession } from './session.ts';
import {
  codeOfHttpStatus,
  codeOfReset,
  decodeGrpcMessage,
  GRPC_CANCELLED,
  GRPC_DEADLINE_EXCEEDED,
  GRPC_INTERNAL,
  GRPC_OK,
  GRPC_UNAUTHENTICATED,
  GRPC_UNAVAILABLE,
  GRPC_UNKNOWN,
  type GrpcStatus,
  grpcError,
} from './status.ts';

/** ztunnel.md §3.1. */
const MAX_MESSAGE_BYTES = 200 << 20;
const RST_CANCEL = 8;

export interface GrpcChannelOptions extends SessionOptions {
  /** Bearer token, asked for once per call so that a rotated one is seen. */
  readonly token?: () => string | Promise<string>;
  /** Sent with every call, for instance `clusterid`. Names in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly maxMessageBytes?: number;
}

export interface CallOptions {
  /** From the call to its answer, connecting included. None unless given. */
  readonly deadlineMs?: number;
}

export interface GrpcChannel {
  /** `path` is `/package.Service/Method`. Rejects with MeshError `GRPC_STATUS`, details {code, message}. */
  unary(path: string, request: Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  /** Handlers are to be set before the caller's turn ends. Failures arrive by `onEnd`; this never throws. */
  stream(path: string): GrpcStream;
  /** Ends every call with CANCELLED. */
  close(): void;
}

export interface GrpcStream {
  /** False: the server is slower than we are; stop until `onDrain`. Before the session is up, messages wait. */
  send(message: Uint8Array): boolean;
  /** Half-close: no more messages from us. */
  end(): void;
  /** Gives the call up; `onEnd` reports CANCELLED. */
  cancel(): void;
  /** Holds the server back by flow control. */
  pause(): void;
  resume(): void;
  /** The server's headers arrived. */
  onOpen(handler: () => void): void;
  onMessage(handler: (message: Uint8Array) => void): void;
  onDrain(handler: () => void): void;
  /** Always the last call, exactly once. */
  onEnd(handler: (status: GrpcStatus) => void): void;
}

export function createGrpcChannel(deps: SessionDeps, options: GrpcChannelOptions): GrpcChannel {
  const shared = createSharedSession(deps, options);
  const calls = new Set<Call>();
  const open = (path: string): Call => {
    const call = new Call(path, shared, options, () => calls.delete(call));
    calls.add(call);
    return call;
  };
  return {
    unary: (path, request, callOptions) => unary(open(path), path, request, callOptions ?? {}),
    stream: open,
    close() {
      for (const call of [...calls]) call.cancel();
      shared.close();
    },
  };
}

function unary(call: Call, path: string, request: Uint8Array, options: CallOptions): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const answers: Uint8Array[] = [];
    const timer =
      options.deadlineMs === undefined
        ? undefined
        : setTimeout(() => call.expire(options.deadlineMs!), options.deadlineMs);
    call.onMessage((message) => answers.push(message));
    call.onEnd((status) => {
      clearTimeout(timer);
      const [answer] = answers;
      if (status.code !== GRPC_OK) reject(grpcError(path, status));
      else if (answer !== undefined && answers.length === 1) resolve(answer);
      else
        reject(
          grpcError(path, {
            code: GRPC_INTERNAL,
            message: `${answers.length} answers to a call with one answer`,
          }),
        );
    });
    call.send(request);
    call.end();
  });
}

/**
 * connecting ──▶ open ──▶ ended
 *      └───────────────────▲   (no session, cancelled, deadline)
 */
type CallState =
  | { readonly at: 'connecting'; readonly queued: Uint8Array[]; ended: boolean }
  | { readonly at: 'open'; readonly http: ClientHttp2Stream; answered: boolean }
  | { readonly at: 'ended' };

class Call implements GrpcStream {
  readonly #path: string;
  readonly #options: GrpcChannelOptions;
  readonly #decoder: FrameDecoder;
  readonly #forget: () => void;
  #state: CallState = { at: 'connecting', queued: [], ended: false };
  #trailers: IncomingHttpHeaders | undefined;
  #paused = false;
  #onOpen: () => void = () => {};
  #onMessage: (message: Uint8Array) => void = () => {};
  #onDrain: () => void = () => {};
  #onEnd: (status: GrpcStatus) => void = () => {};

  constructor(path: string, shared: SharedSession, options: GrpcChannelOptions, forget: () => void) {
    this.#path = path;
    this.#options = options;
    this.#decoder = new FrameDecoder(options.maxMessageBytes ?? MAX_MESSAGE_BYTES);
    this.#forget = forget;
    this.#start(shared).catch((error) => this.#finish(GRPC_INTERNAL, reasonOf(error)));
  }

  onOpen(handler: () => void): void {
    this.#onOpen = handler;
  }
  onMessage(handler: (message: Uint8Array) => void): void {
    this.#onMessage = handler;
  }
  onDrain(handler: () => void): void {
    this.#onDrain = handler;
  }
  onEnd(handler: (status: GrpcStatus) => void): void {
    this.#onEnd = handler;
  }

  send(message: Uint8Array): boolean {
    const state = this.#state;
    if (state.at === 'connecting') state.queued.push(encodeFrame(message));
    else if (state.at === 'open' && !state.http.writableEnded) return state.http.write(encodeFrame(message));
    return false;
  }

  end(): void {
    const state = this.#state;
    if (state.at === 'connecting') state.ended = true;
    else if (state.at === 'open') state.http.end();
  }

  cancel(): void {
    this.#finish(GRPC_CANCELLED, 'cancelled by the caller');
  }

  expire(deadlineMs: number): void {
    this.#finish(GRPC_DEADLINE_EXCEEDED, `no answer within ${deadlineMs} ms`);
  }

  pause(): void {
    this.#paused = true;
    if (this.#state.at === 'open') this.#state.http.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#state.at === 'open') this.#state.http.resume();
  }

  async #start(shared: SharedSession): Promise<void> {
    let session: ClientHttp2Session;
    try {
      session = await shared.get();
    } catch (error) {
      this.#finish(GRPC_UNAVAILABLE, reasonOf(error));
      return;
    }
    let token: string | undefined;
    try {
      token = await this.#options.token?.();
      if (token === '') throw new Error('the token is empty');
    } catch (error) {
      this.#finish(GRPC_UNAUTHENTICATED, `no token: ${reasonOf(error)}`);
      return;
    }
    const state = this.#state;
    if (state.at !== 'connecting') return;
    // Throws when a header is invalid (a token with a newline) or the session went away meanwhile.
    const http = session.request({
      ':method': 'POST',
      ':path': this.#path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...this.#options.metadata,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    });
    this.#state = { at: 'open', http, answered: false };
    this.#listen(http, session, shared.callStarted(session));
    for (const frame of state.queued) http.write(frame);
    if (state.ended) http.end();
    if (this.#paused) http.pause();
  }

  #listen(http: ClientHttp2Stream, session: ClientHttp2Session, callEnded: () => void): void {
    let failure: unknown;
    http.on('error', (error) => {
      failure = error;
    });
    http.on('response', (headers) => {
      if (this.#state.at === 'open') this.#state.answered = true;
      const status = Number(headers[':status']);
      if (status !== 200) {
        this.#finish(codeOfHttpStatus(status), `HTTP status ${status}`);
        return;
      }
      // A status among the first headers: there will be no messages and no trailers.
      if (headers['grpc-status'] !== undefined) this.#trailers = headers;
      this.#onOpen();
    });
    http.on('trailers', (trailers) => {
      this.#trailers = trailers;
    });
    http.on('data', (chunk: Uint8Array) => this.#read(chunk));
    http.on('drain', () => this.#onDrain());
    http.on('close', () => {
      callEnded();
      const { code, message } =
        this.#trailers === undefined
          ? statusWithoutTrailers(http.rstCode ?? 0, session.destroyed, failure)
          : statusOfTrailers(this.#trailers, this.#decoder.atBoundary);
      this.#finish(code, message);
    });
  }

  #read(chunk: Uint8Array): void {
    let messages: Uint8Array[];
    try {
      messages = this.#decoder.push(chunk);
    } catch (error) {
      const { code, message } = MeshError.from(error, 'GRPC_STATUS', this.#path).details;
      this.#finish(Number(code), String(message));
      return;
    }
    for (const message of messages) {
      if (this.#state.at === 'ended') return;
      this.#onMessage(message);
    }
  }

  #finish(code: number, message: string): void {
    const state = this.#state;
    if (state.at === 'ended') return;
    this.#state = { at: 'ended' };
    this.#forget();
    if (state.at === 'open' && !state.http.destroyed) state.http.close(RST_CANCEL);
    const reached = state.at === 'connecting' ? 'connect' : state.answered ? 'answered' : 'request';
    this.#onEnd({ code, message, reached });
  }
}

type Outcome = Pick<GrpcStatus, 'code' | 'message'>;

function statusOfTrailers(trailers: IncomingHttpHeaders, atBoundary: boolean): Outcome {
  const code = String(trailers['grpc-status']);
  if (!/^\d{1,2}$/.test(code)) return { code: GRPC_UNKNOWN, message: `grpc-status is ${code}` };
  if (Number(code) === GRPC_OK && !atBoundary) {
    return { code: GRPC_INTERNAL, message: 'the answer ends inside a message' };
  }
  return { code: Number(code), message: decodeGrpcMessage(String(trailers['grpc-message'] ?? '')) };
}

/** A connection that ends by FIN resets its streams with CANCEL and no error: only the session tells. */
function statusWithoutTrailers(rstCode: number, sessionLost: boolean, failure: unknown): Outcome {
  if (sessionLost) {
    const why = failure === undefined ? 'the server closed the connection' : reasonOf(failure);
    return { code: GRPC_UNAVAILABLE, message: why };
  }
  if (rstCode !== 0)
    return { code: codeOfReset(rstCode), message: `the stream was reset with code ${rstCode}` };
  return { code: GRPC_UNAVAILABLE, message: 'the server ended the call without a status' };
}
