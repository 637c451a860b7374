// The server's side of one SPDY/3.1 connection over any byte stream: streams that the client opens, pings, flow control.
//
// Kubernetes' clients (moby/spdystream) neither send nor honour WINDOW_UPDATE. Sending therefore obeys windows only once
// the peer has shown that it keeps them, and a reader that falls behind holds up the whole connection, as it does there.

import type { Duplex } from 'node:stream';
import { MeshError } from '#base/errors.ts';
import {
  encodeFrame,
  type Frame,
  FrameDecoder,
  RST_FLOW_CONTROL_ERROR,
  RST_INVALID_STREAM,
  RST_PROTOCOL_ERROR,
  RST_REFUSED_STREAM,
  SETTINGS_INITIAL_WINDOW_SIZE,
} from '#k8s/streams/spdy-frames.ts';
import { HeaderReader, HeaderWriter } from '#k8s/streams/spdy-headers.ts';
import { SpdyStream, type StreamCarrier, WINDOW_BYTES } from './spdy-stream.ts';

export interface SpdyHandlers {
  /** A stream the client opened: to be accepted or refused. */
  readonly onStream: (stream: SpdyStream) => void;
  /** Once, after every stream is destroyed. `error` says what the peer did wrong, if it did. */
  readonly onClose: (error: Error | undefined) => void;
}

const MAX_STREAMS = 1000;
const MAX_WINDOW_BYTES = 0x7fffffff;
/** Finds out that a client is gone whose input we do not read at the moment. */
const PING_EVERY_MS = 10_000;
/** After our GOAWAY the client closes; one that does not is closed. */
const LINGER_MS = 5000;
const GOAWAY_OK = 0;
const GOAWAY_PROTOCOL_ERROR = 1;

export class SpdyConnection {
  readonly #transport: Duplex;
  readonly #handlers: SpdyHandlers;
  readonly #decoder = new FrameDecoder();
  readonly #headerReader = new HeaderReader();
  readonly #headerWriter = new HeaderWriter();
  readonly #streams = new Map<number, SpdyStream>();
  readonly #heldUp = new Set<SpdyStream>();
  readonly #pings: NodeJS.Timeout;
  readonly #carrier: StreamCarrier;
  #waiters: (() => void)[] = [];
  #isFull = false;
  #lastStreamId = 0;
  #pingId = 0;
  #busy = false;
  #state: 'open' | 'closing' | 'closed' = 'open';
  #flowControlled = false;
  #initialWindowBytes = WINDOW_BYTES;
  #sessionWindowBytes = WINDOW_BYTES;
  #sessionUncreditedBytes = 0;
  #error: Error | undefined;

  constructor(transport: Duplex, handlers: SpdyHandlers) {
    this.#transport = transport;
    this.#handlers = handlers;
    this.#carrier = this.#makeCarrier();
    this.#pings = setInterval(() => {
      this.#pingId += 2; // a server's are even
      this.#send({ type: 'ping', id: this.#pingId });
    }, PING_EVERY_MS);
    this.#pings.unref();
    transport.on('data', (chunk: Buffer) => this.#onChunk(chunk));
    transport.on('drain', () => this.#onDrain());
    transport.on('error', (error) => {
      this.#error ??= error;
    });
    transport.on('end', () => this.#finish());
    transport.on('close', () => this.#finish());
  }

  /** Says goodbye after what was written so far. */
  close(): void {
    this.#goAway(GOAWAY_OK);
  }

  #makeCarrier(): StreamCarrier {
    const isFull = (): boolean => this.#isFull;
    return {
      get isFull() {
        return isFull();
      },
      whenDrained: (run) => this.#waiters.push(run),
      sessionWindowBytes: () => (this.#flowControlled ? this.#sessionWindowBytes : Number.POSITIVE_INFINITY),
      sendData: (streamId, bytes, fin) => {
        this.#sessionWindowBytes -= bytes.length;
        this.#send({ type: 'data', streamId, bytes, fin });
      },
      sendReply: (streamId) =>
        this.#send({
          type: 'syn-reply',
          streamId,
          fin: false,
          headerBlock: this.#headerWriter.write(new Map()),
        }),
      sendReset: (streamId, status) => this.#send({ type: 'rst-stream', streamId, status }),
      sendWindowUpdate: (streamId, deltaBytes) => this.#send({ type: 'window-update', streamId, deltaBytes }),
      setHeldUp: (stream, heldUp) => {
        if (heldUp) this.#heldUp.add(stream);
        else if (!this.#heldUp.delete(stream)) return;
        this.#regulate();
      },
      forget: (stream) => {
        this.#streams.delete(stream.id);
      },
    };
  }

  #send(frame: Frame): void {
    if (this.#state === 'closed' || this.#transport.destroyed || this.#transport.writableEnded) return;
    this.#isFull = !this.#transport.write(encodeFrame(frame));
  }

  #onDrain(): void {
    this.#isFull = false;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const run of waiters) run();
  }

  /** The transport is read while no chunk is being worked on and no stream is held up. */
  #regulate(): void {
    if (this.#busy || this.#heldUp.size > 0) this.#transport.pause();
    else this.#transport.resume();
  }

  /** Chunks one after the other: header blocks are inflated elsewhere, and everything waits for them. */
  #onChunk(chunk: Buffer): void {
    this.#busy = true;
    this.#regulate();
    this.#handleAll(chunk).then(
      () => {
        this.#busy = false;
        this.#regulate();
      },
      (error: unknown) => this.#fail(MeshError.from(error, 'STREAM_PROTOCOL', 'SPDY')),
    );
  }

  async #handleAll(chunk: Buffer): Promise<void> {
    for (const frame of this.#decoder.push(chunk)) {
      if (this.#state === 'closed') return;
      if (frame.type === 'syn-stream') await this.#onSynStream(frame);
      // Read even when nobody asks: all header blocks are one zlib stream.
      else if (frame.type === 'headers' || frame.type === 'syn-reply')
        await this.#headerReader.read(frame.headerBlock);
      else this.#handle(frame);
    }
  }

  async #onSynStream(frame: Frame & { readonly type: 'syn-stream' }): Promise<void> {
    const headers = await this.#headerReader.read(frame.headerBlock);
    const { streamId } = frame;
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId)
      throw new MeshError('STREAM_PROTOCOL', `SPDY: a client cannot open stream ${streamId} now`);
    this.#lastStreamId = streamId;
    if (frame.unidirectional) {
      this.#carrier.sendReset(streamId, RST_PROTOCOL_ERROR);
      return;
    }
    if (this.#streams.size >= MAX_STREAMS || this.#state !== 'open') {
      this.#carrier.sendReset(streamId, RST_REFUSED_STREAM);
      return;
    }
    const stream = new SpdyStream(this.#carrier, streamId, headers, this.#initialWindowBytes);
    this.#streams.set(streamId, stream);
    this.#handlers.onStream(stream);
    if (frame.fin) stream.receive(Buffer.alloc(0), true);
  }

  #handle(frame: Frame): void {
    switch (frame.type) {
      case 'data':
        this.#onData(frame.streamId, frame.bytes, frame.fin);
        return;
      case 'rst-stream':
        this.#streams.get(frame.streamId)?.wasReset();
        return;
      case 'ping':
        if (frame.id % 2 === 1) this.#send(frame); // even ids are answers to ours
        return;
      case 'settings':
        this.#onSettings(frame.values.get(SETTINGS_INITIAL_WINDOW_SIZE));
        return;
      case 'window-update':
        this.#onWindowUpdate(frame.streamId, frame.deltaBytes);
        return;
      case 'goaway':
        // The client opens no more streams; it closes when the present ones are done.
        return;
    }
  }

  #onData(streamId: number, bytes: Buffer, fin: boolean): void {
    this.#creditSession(bytes.length);
    if (streamId > this.#lastStreamId)
      throw new MeshError('STREAM_PROTOCOL', `SPDY: data for stream ${streamId}, which is not open`);
    const stream = this.#streams.get(streamId); // one that ended here may still be spoken to
    if (stream !== undefined && !stream.receive(bytes, fin))
      this.#carrier.sendReset(streamId, RST_INVALID_STREAM);
  }

  /** The session's window is given back at once: each stream's own holds the peer. */
  #creditSession(lengthBytes: number): void {
    this.#sessionUncreditedBytes += lengthBytes;
    if (this.#sessionUncreditedBytes < WINDOW_BYTES / 2) return;
    this.#carrier.sendWindowUpdate(0, this.#sessionUncreditedBytes);
    this.#sessionUncreditedBytes = 0;
  }

  #onSettings(initialWindowBytes: number | undefined): void {
    if (initialWindowBytes === undefined) return;
    if (initialWindowBytes > MAX_WINDOW_BYTES)
      throw new MeshError('STREAM_PROTOCOL', `SPDY: an initial window of ${initialWindowBytes} bytes`);
    this.#flowControlled = true;
    const delta = initialWindowBytes - this.#initialWindowBytes;
    this.#initialWindowBytes = initialWindowBytes;
    for (const stream of this.#streams.values()) stream.widen(delta);
  }

  #onWindowUpdate(streamId: number, deltaBytes: number): void {
    this.#flowControlled = true;
    if (streamId === 0) {
      this.#sessionWindowBytes += deltaBytes;
      if (this.#sessionWindowBytes > MAX_WINDOW_BYTES)
        throw new MeshError('STREAM_PROTOCOL', 'SPDY: a window of more than 2 GiB');
      for (const stream of this.#streams.values()) stream.pump();
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    if (stream.sendWindowBytes + deltaBytes > MAX_WINDOW_BYTES) {
      this.#carrier.sendReset(streamId, RST_FLOW_CONTROL_ERROR);
      stream.abandon();
    } else {
      stream.widen(deltaBytes);
    }
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#goAway(GOAWAY_PROTOCOL_ERROR);
    this.#finish();
  }

  #goAway(status: number): void {
    if (this.#state !== 'open') return;
    this.#send({ type: 'goaway', lastStreamId: this.#lastStreamId, status });
    this.#state = 'closing';
    this.#transport.end();
    setTimeout(() => this.#transport.destroy(), LINGER_MS).unref();
  }

  #finish(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearInterval(this.#pings);
    this.#headerReader.close();
    for (const stream of [...this.#streams.values()]) stream.abandon();
    this.#onDrain();
    if (!this.#transport.writableEnded) this.#transport.end();
    this.#handlers.onClose(this.#error);
  }
}
