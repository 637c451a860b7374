// TCP connections as byte streams for the copy loop: one shared read buffer, writes gathered per turn of the event loop.
// How connections come to be (namespaces, marks) is the captures' matter; when to stop is the copy's.

import { GatheredWriter, SlabPool } from '#hbone/gathered-writer.ts';
import type { HboneStream, StreamOutcome, StreamSink } from '#hbone/hbone.ts';
import type { TcpHandle, TcpOwner } from '#linux/tcp-handle.ts';

const READ_BUFFER_BYTES = 256 * 1024;
/** Of writes. Bytes come from TLS by records of 16 KiB; a turn brings a few of them. */
const SLAB_BYTES = 128 * 1024;
/** What a slow application may leave with us before its peer is held back. */
const BACKLOG_BYTES = 256 * 1024;
/** Smaller pieces are written at once: they are answers someone waits for, not bulk. */
const GATHER_FROM_BYTES = 4096;
/** How a socket that the other side dropped shows; not failures of the connection (ztunnel.md §5.6). */
const ORDINARY_ERRNOS: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ENOTCONN']);

/**
 * What all TCP ends of one data plane share. The read buffer serves every connection: libuv fills it and calls back in the
 * same turn, and the sink copies what it keeps, so no connection owns a buffer while it is quiet.
 */
export class TcpIo {
  readonly readBuffer: Buffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
  readonly slabs = new SlabPool(SLAB_BYTES);
  /** Of the sessions that these bytes go to: they send when a read is dealt with. */
  readonly outboxes: SlabPool | undefined;

  constructor(outboxes?: SlabPool) {
    this.outboxes = outboxes;
  }
}

const CLEAN: StreamOutcome = { clean: true };

/**
 * Bytes both ways over one connected handle, which it owns. Nothing is read before `attach`. A reset by the peer closes it
 * as `clean`; `reset('NO_ERROR')` closes after what was written is flushed, 'CANCEL' at once, any other code with a TCP RST.
 */
export class TcpEnd implements HboneStream, TcpOwner {
  /** Runs when the connection is over, for whoever keeps count. */
  whenClosed: (() => void) | undefined;
  readonly #io: TcpIo;
  readonly #handle: TcpHandle;
  /** For bulk, and for what waits behind a write that the kernel had no room for: most connections never need one. */
  #writer: GatheredWriter | undefined;
  #sink: StreamSink | undefined;
  #outcome = CLEAN;
  #hasReadEnd = false;
  /** `asked`: a FIN follows what was written. */
  #ending: 'no' | 'asked' | 'done' = 'no';
  #closesAtEnd = false;
  #isClosing = false;
  #isClosed = false;

  constructor(io: TcpIo, handle: TcpHandle) {
    this.#io = io;
    this.#handle = handle;
    handle.serve(this, io.readBuffer);
  }

  attach(sink: StreamSink): void {
    this.#sink = sink;
    if (this.#isClosed) queueMicrotask(() => sink.close(this.#outcome));
    else this.resume();
  }

  write(chunk: Uint8Array): boolean {
    if (this.#isClosing || this.#ending !== 'no') return true;
    const isIdle = this.#writer?.isIdle !== false && !this.#handle.isWriting;
    if (chunk.length < GATHER_FROM_BYTES && isIdle) {
      this.#handle.write(Buffer.from(chunk));
      return true;
    }
    this.#writer ??= this.#newWriter();
    this.#writer.bytes(chunk);
    return !this.#writer.isBacklogged;
  }

  end(): void {
    if (this.#isClosing || this.#ending !== 'no') return;
    this.#writer?.close();
    this.#ending = 'asked';
    this.#handle.shutdown();
  }

  pause(): void {
    this.#handle.pause();
  }

  resume(): void {
    if (!this.#hasReadEnd) this.#handle.resume();
  }

  reset(code: 'NO_ERROR' | 'CANCEL' | 'INTERNAL_ERROR' | 'REFUSED_STREAM'): void {
    if (code === 'NO_ERROR' && this.#ending !== 'done') {
      this.#closesAtEnd = true;
      this.end();
      return;
    }
    this.#isClosing = true;
    if (code === 'NO_ERROR' || code === 'CANCEL') this.#handle.close();
    else this.#handle.reset();
  }

  onBytes(length: number): void {
    const { readBuffer, outboxes } = this.#io;
    outboxes?.beginCallback();
    this.#sink?.data(readBuffer.subarray(0, length));
    outboxes?.endCallback();
  }

  onEnd(): void {
    this.#hasReadEnd = true;
    const { outboxes } = this.#io;
    outboxes?.beginCallback();
    this.#sink?.end();
    this.#closeIfOver();
    outboxes?.endCallback();
  }

  onShutdown(): void {
    this.#ending = 'done';
    this.#closeIfOver();
  }

  onBroken(call: string, errno: string): void {
    if (this.#isClosing) return;
    if (!ORDINARY_ERRNOS.has(errno)) this.#outcome = { clean: false, reason: `${call} ${errno}` };
    this.#isClosing = true;
    this.#handle.close();
  }

  onClosed(): void {
    this.#isClosing = true;
    this.#isClosed = true;
    this.whenClosed?.();
    this.#sink?.close(this.#outcome);
  }

  #closeIfOver(): void {
    if (this.#ending !== 'done' || !(this.#hasReadEnd || this.#closesAtEnd)) return;
    this.#isClosing = true;
    this.#handle.close();
  }

  #newWriter(): GatheredWriter {
    const socket = {
      write: (bytes: Uint8Array, written: () => void): boolean => {
        const isDone = this.#handle.write(bytes, written);
        if (isDone) written();
        return isDone;
      },
    };
    return new GatheredWriter(this.#io.slabs, socket, BACKLOG_BYTES, () => this.#sink?.drain());
  }
}
