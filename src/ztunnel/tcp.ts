// TCP sockets as byte streams for the copy loop: one shared read buffer, writes gathered per turn of the event loop.
// How sockets come to be (namespaces, marks) is the captures' matter; when to stop is the copy's.

import net from 'node:net';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { GatheredWriter, SlabPool } from '#hbone/gathered-writer.ts';
import type { HboneStream, StreamOutcome, StreamSink } from '#hbone/hbone.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';

const READ_BUFFER_BYTES = 256 * 1024;
/** Of writes. Bytes come from TLS by records of 16 KiB; a turn brings a few of them. */
const SLAB_BYTES = 128 * 1024;
/** What a slow application may leave with us before its peer is held back. */
const BACKLOG_BYTES = 128 * 1024;
/** Smaller pieces are written at once: they are answers someone waits for, not bulk. */
const GATHER_FROM_BYTES = 4096;
/** How a socket that the other side dropped shows; not failures of the connection (ztunnel.md §5.6). */
const ORDINARY_ERRNOS: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ENOTCONN']);

/**
 * What all TCP ends of one data plane share. The read buffer serves every socket: libuv fills it and calls back in the
 * same turn, and the sink copies what it keeps, so no connection owns a buffer while it is quiet.
 */
export class TcpIo {
  readonly readBuffer: Buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  readonly slabs = new SlabPool(SLAB_BYTES);
}

/** The part of net.Socket's options that decides how bytes arrive; the maker of the socket adds the rest. */
export interface SocketInit {
  readonly allowHalfOpen: true;
  readonly onread?: { readonly buffer: Buffer; readonly callback: (length: number) => boolean };
}

/**
 * Bytes both ways over one TCP socket. Nothing is read before `attach`. A reset by the peer closes it as `clean`;
 * `reset('NO_ERROR')` closes after what was written is flushed, 'CANCEL' at once, any other code with a TCP RST.
 */
export class TcpEnd implements HboneStream {
  readonly socket: net.Socket;
  readonly #writer: GatheredWriter;
  #sink: StreamSink | undefined;
  #outcome: StreamOutcome = { clean: true };
  #closed = false;

  /** `make` gets the options that must be known when the socket is created, and returns it connected or not. */
  constructor(io: TcpIo, make: (init: SocketInit) => net.Socket) {
    const buffer = io.readBuffer;
    const callback = (length: number): boolean => {
      this.#sink?.data(buffer.subarray(0, length), true);
      return true;
    };
    this.socket = make({ allowHalfOpen: true, onread: { buffer, callback } });
    this.#writer = new GatheredWriter(io.slabs, this.socket, BACKLOG_BYTES, () => this.#sink?.drain());
    this.socket.pause();
    this.socket.on('error', (error) => {
      if (!ORDINARY_ERRNOS.has(errnoOf(error) ?? ''))
        this.#outcome = { clean: false, reason: reasonOf(error) };
    });
    this.socket.on('end', () => this.#sink?.end());
    this.socket.on('drain', () => {
      if (!this.#writer.isBacklogged) this.#sink?.drain();
    });
    this.socket.on('close', () => {
      this.#closed = true;
      this.#sink?.close(this.#outcome);
    });
  }

  attach(sink: StreamSink): void {
    this.#sink = sink;
    if (this.#closed) queueMicrotask(() => sink.close(this.#outcome));
    else this.socket.resume();
  }

  write(chunk: Uint8Array, isBorrowed = false): boolean {
    if (chunk.length < GATHER_FROM_BYTES && this.#writer.isIdle)
      return this.socket.write(isBorrowed ? Buffer.from(chunk) : chunk);
    this.#writer.bytes(chunk);
    return !this.#writer.isBacklogged;
  }

  end(): void {
    this.#writer.close();
    this.socket.end();
  }

  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  reset(code: 'NO_ERROR' | 'CANCEL' | 'INTERNAL_ERROR' | 'REFUSED_STREAM'): void {
    if (code === 'NO_ERROR') {
      this.#writer.close();
      this.socket.destroySoon();
    } else if (code === 'CANCEL') this.socket.destroy();
    else this.socket.resetAndDestroy();
  }
}

/** The handle behind a socket: moving it is the only way to give an accepted connection its own read buffer. */
interface WithHandle {
  _handle: unknown;
}

/** Takes over a connection accepted by a server with `pauseOnConnect`; `accepted` must not be used afterwards. */
export function adoptAccepted(io: TcpIo, accepted: net.Socket): TcpEnd {
  const from = accepted as unknown as WithHandle;
  const handle = from._handle;
  from._handle = null;
  accepted.destroy();
  return new TcpEnd(
    io,
    (init) => new net.Socket({ ...init, handle, pauseOnCreate: true } as net.SocketConstructorOpts),
  );
}

/** Waits until a socket that is connecting is connected. The socket is destroyed on failure and at the deadline. */
export function connected(socket: net.Socket, destination: SocketAddress, deadlineMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: MeshError): void => {
      clearTimeout(timer);
      socket.off('connect', onConnect);
      socket.off('error', onError);
      socket.off('close', onClose);
      if (error === undefined) {
        resolve();
      } else {
        socket.destroy();
        reject(error);
      }
    };
    const where = formatSocketAddress(destination);
    const fail = (reason: string, cause?: unknown): MeshError =>
      new MeshError('CONNECT_FAILED', `connecting to ${where} failed: ${reason}`, { cause });
    const onConnect = (): void => settle();
    const onError = (error: Error): void => settle(fail(errnoOf(error) ?? reasonOf(error), error));
    const onClose = (): void => settle(fail('closed before it was connected'));
    const timer = setTimeout(
      () =>
        settle(
          new MeshError('CONNECT_TIMEOUT', `connecting to ${where} took longer than ${deadlineMs / 1000} s`),
        ),
      deadlineMs,
    );
    socket.on('connect', onConnect);
    socket.on('error', onError);
    socket.on('close', onClose);
    if (!socket.connecting && socket.readyState === 'open') settle();
  });
}
