// One HTTP/2 session for CONNECT streams (RFC 9113), either end of it. Takes bytes from a socket and gives bytes to it;
// who the peer is and what a request means is decided above (client.ts, server.ts), how a stream behaves in stream.ts,
// what the peer may send in receive-window.ts.

import type { Duplex } from 'node:stream';
import { type MeshError, reasonOf } from '#base/errors.ts';
import type { BufferPool } from '../buffer-pool.ts';
import type { SlabPool } from '../gathered-writer.ts';
import { readInto } from '../read-into.ts';
import { WriteThrough } from '../write-through.ts';
import {
  checkPing,
  checkPriority,
  onSessionOnly,
  onStreamOnly,
  readGoaway,
  readReset,
  readWindowUpdate,
  wrongSize,
} from './control-frames.ts';
import {
  ENHANCE_YOUR_CALM,
  errorName,
  FLOW_CONTROL_ERROR,
  NO_ERROR,
  PROTOCOL_ERROR,
  REFUSED_STREAM,
  SessionError,
  STREAM_CLOSED,
} from './errors.ts';
import { FloodGuard } from './flood-guard.ts';
import {
  ACK,
  CONTINUATION,
  DATA,
  END_STREAM,
  type FrameHandler,
  FrameReader,
  GOAWAY,
  HEADERS,
  MAX_FRAME_BYTES,
  PING,
  PREFACE,
  PRIORITY,
  PUSH_PROMISE,
  RST_STREAM,
  SETTINGS,
  WINDOW_UPDATE,
} from './frame-reader.ts';
import { writeGoaway, writeHeaders, writePing, writePong, writeReset } from './frame-writer.ts';
import { type HeaderBlock, HeaderBlocks } from './header-blocks.ts';
import { areTrailersWellFormed, judgeRequest, statusOf } from './header-rules.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import { Outbox } from './outbox.ts';
import { MAX_STREAM_WINDOW_BYTES, type ReceiveBudget } from './receive-budget.ts';
import { ReceiveWindow } from './receive-window.ts';
import { SendWindow } from './send-window.ts';
import { readSettings, SettingId, writeSettings } from './settings-frame.ts';
import { Stream, type StreamOwner, type StreamSession } from './stream.ts';
import { StreamTable } from './stream-table.ts';

/** What all sessions of one data plane share. */
export interface SessionShared {
  readonly outboxes: SlabPool;
  /** For bytes that wait to be read, or for a window. */
  readonly blocks: BufferPool;
  readonly budget: ReceiveBudget;
  /** Where TLS sockets read into; what is kept of it is copied. */
  readonly readBuffer: Buffer;
  readonly monotonicMs: () => number;
}

export interface SessionOptions {
  readonly role: 'client' | 'server';
  /** MAX_HEADER_LIST_SIZE (ztunnel.md §5.4). */
  readonly maxListBytes: number;
  /** Server: streams at once; more are refused one by one. */
  readonly maxStreams?: number;
}

export interface SessionEvents {
  /** Server: a request, which waits for `respond`; without an authority it is no CONNECT. */
  request?(stream: Stream, authority: string | undefined, headers: readonly string[]): void;
  /** The peer's first SETTINGS came. */
  ready?(): void;
  /** A stream is over on the wire. */
  streamClosed?(): void;
  /** Nothing goes over the session any more; always the last call, exactly once. */
  closed(reason: string): void;
}

const MAX_STREAM_ID = 0x7fffffff;
/** How long a socket may take to send what is left before it is destroyed. */
const LINGER_MS = 1000;
/** Why a PING was sent stands in its eight bytes. */
const KEEPALIVE_PING = 1;
const DRAIN_PING = 2;

export class Session implements StreamSession, FrameHandler {
  readonly blocks: BufferPool;
  readonly #socket: Duplex;
  readonly #writing: WriteThrough;
  readonly #role: 'client' | 'server';
  readonly #maxStreams: number;
  readonly #budget: ReceiveBudget;
  readonly #events: SessionEvents;
  readonly #reader: FrameReader;
  readonly #decoder: HpackDecoder;
  readonly #encoder = new HpackEncoder();
  readonly #outboxes: SlabPool;
  readonly #outbox: Outbox;
  readonly #guard: FloodGuard;
  readonly #streams = new StreamTable<Stream>();
  readonly #receive: ReceiveWindow;
  readonly #send: SendWindow;
  #peerMaxStreams: number | undefined;
  #nextId: number;
  #lastPeerId = 0;
  readonly #blocks = new HeaderBlocks();
  #dataStream: Stream | undefined;
  #isDataEmpty = false;
  #goawayReceived = false;
  /** `asked`: no final id yet. `final`: streams above `#lastPeerId` are ignored. */
  #goawaySent: 'no' | 'asked' | 'final' = 'no';
  #because: string | undefined;
  #failure: MeshError | undefined;
  #isOver = false;
  #onPong: (() => void) | undefined;

  constructor(socket: Duplex, shared: SessionShared, options: SessionOptions, events: SessionEvents) {
    const isClient = options.role === 'client';
    this.blocks = shared.blocks;
    this.#socket = socket;
    this.#role = options.role;
    this.#maxStreams = options.maxStreams ?? Number.POSITIVE_INFINITY;
    this.#budget = shared.budget;
    this.#events = events;
    this.#nextId = isClient ? 1 : 2;
    this.#reader = new FrameReader(this, !isClient);
    this.#decoder = new HpackDecoder(options.maxListBytes);
    this.#guard = new FloodGuard(shared.monotonicMs);
    this.#writing = new WriteThrough(socket);
    this.#outboxes = shared.outboxes;
    this.#outbox = new Outbox(shared.outboxes, this.#writing, () => this.#send.wake());
    this.#send = new SendWindow(this.#outbox, this.#streams);
    this.#receive = new ReceiveWindow(this.#outbox, shared.budget, this.#streams);

    if (isClient) this.#outbox.bytes(PREFACE);
    writeSettings(this.#outbox, [
      isClient ? [SettingId.enablePush, 0] : [SettingId.maxConcurrentStreams, this.#maxStreams],
      [SettingId.initialWindowSize, MAX_STREAM_WINDOW_BYTES],
      [SettingId.maxFrameSize, MAX_FRAME_BYTES],
      [SettingId.maxHeaderListSize, options.maxListBytes],
    ]);
    this.#receive.grantTunnel();
    this.#outbox.flush();

    readInto(socket, shared.readBuffer, (chunk) => this.#read(chunk));
    socket.on('error', (error: Error) => {
      this.#because ??= reasonOf(error);
    });
    socket.on('end', () => this.#finish());
    socket.on('close', () => this.#finish());
  }

  /** Streams open on the wire. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /** New requests make sense: no GOAWAY either way, and the connection stands. */
  get isUsable(): boolean {
    return (
      !this.#isOver && !this.#goawayReceived && this.#goawaySent === 'no' && this.#nextId <= MAX_STREAM_ID
    );
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** What the peer allows at once; undefined until its SETTINGS came. */
  get peerMaxStreams(): number | undefined {
    return this.#peerMaxStreams;
  }

  /** An operator's words for why the session ended. */
  get reason(): string {
    return this.#because ?? 'the peer closed the connection';
  }

  /** Client: a CONNECT request. `headers`: name, value, …, pseudo-headers first. The session must be usable. */
  request(headers: readonly string[], owner?: StreamOwner): Stream {
    const stream = this.#open(this.#nextId);
    this.#nextId += 2;
    stream.owner = owner;
    stream.isUnanswered = true;
    this.#headers(stream.id, headers, false);
    return stream;
  }

  /** Server: the answer, with END_STREAM or with the stream staying open. */
  respond(stream: Stream, headers: readonly string[], endsStream: boolean): void {
    if (stream.isOver || this.#isOver) return;
    this.#headers(stream.id, headers, endsStream);
    if (endsStream) stream.endedByHeaders();
  }

  ping(onPong: () => void): void {
    if (this.#isOver) return;
    this.#onPong = onPong;
    writePing(this.#outbox, KEEPALIVE_PING);
  }

  /**
   * No new streams; open ones may finish, then the connection is closed. A server says so twice (RFC 9113 §6.8): streams
   * that were on their way when the first word left are still served.
   */
  drain(): void {
    if (this.#isOver || this.#goawaySent !== 'no') return;
    if (this.#role === 'server') {
      this.#goawaySent = 'asked';
      writeGoaway(this.#outbox, MAX_STREAM_ID, NO_ERROR);
      writePing(this.#outbox, DRAIN_PING);
      return;
    }
    this.#goawaySent = 'final';
    writeGoaway(this.#outbox, this.#lastPeerId, NO_ERROR);
    this.#closeWhenIdle();
  }

  /** Ends the session and its streams at once: GOAWAY with NO_ERROR, then close (ztunnel.md §5.4). */
  cut(because: string | MeshError): void {
    if (this.#isOver) return;
    this.#because ??= reasonOf(because);
    if (typeof because !== 'string') this.#failure = because;
    writeGoaway(this.#outbox, this.#lastPeerId, NO_ERROR);
    this.#finish();
  }

  // ---- StreamSession: what streams ask for ----

  get isBacklogged(): boolean {
    return this.#outbox.isBacklogged;
  }

  sendData(stream: Stream, chunk: Uint8Array): number {
    return this.#isOver ? 0 : this.#send.send(stream, chunk);
  }

  sendEnd(stream: Stream): void {
    if (!this.#isOver) this.#outbox.frame(DATA, END_STREAM, stream.id, 0);
  }

  sendReset(stream: Stream, code: number): void {
    if (!this.#isOver) writeReset(this.#outbox, stream.id, code);
  }

  wait(stream: Stream): void {
    this.#send.wait(stream);
  }

  countUnread(bytes: number): void {
    this.#receive.countUnread(bytes);
    if (bytes > 0 && this.#budget.isExceeded) this.#dropLargest('the proxy holds too much unread data');
  }

  grant(stream: Stream): void {
    if (this.#isOver) return;
    this.#receive.reconsider();
    this.#receive.grantStream(stream);
    this.#receive.grantTunnel();
  }

  forget(stream: Stream): void {
    this.#send.forget(stream);
    if (!this.#streams.delete(stream.id)) return;
    if (this.#isOver) return;
    this.#events.streamClosed?.();
    this.#closeWhenIdle();
  }

  /**
   * To be called now and then: if the tunnel's window is used up by streams that nobody reads while others wait, the one
   * that holds most is reset. Windows that shrink make that rare (receive-budget.ts), but no stream may stop the others
   * for good.
   */
  relieve(): void {
    if (
      this.#streams.size > 1 &&
      this.#receive.tunnelWindow < MAX_FRAME_BYTES &&
      this.#receive.unreadBytes > 0
    )
      this.#dropLargest('it left the whole window of the tunnel unread');
  }

  // ---- FrameHandler: what the peer sends ----

  dataBegins(streamId: number, length: number): void {
    this.#expectSettings(DATA);
    this.#blocks.expectNone();
    onStreamOnly('DATA', streamId);
    if (!this.#receive.takeFromTunnel(length))
      throw new SessionError(FLOW_CONTROL_ERROR, 'more DATA than the window of the session allows');
    const stream = this.#streams.get(streamId);
    this.#dataStream = undefined;
    if (stream === undefined) {
      this.#mustHaveBeen(streamId, 'DATA');
      return;
    }
    if (stream.remoteEnded) {
      stream.fail(STREAM_CLOSED, { clean: false, reason: 'the peer sent DATA behind its END_STREAM' });
    } else if (length > stream.receiveWindow) {
      stream.fail(FLOW_CONTROL_ERROR, { clean: false, reason: 'the peer ignores the window of the stream' });
    } else {
      stream.receiveWindow -= length;
      this.#dataStream = stream;
    }
    this.#isDataEmpty = length === 0;
  }

  data(chunk: Buffer): void {
    this.#dataStream?.receive(chunk);
  }

  dataEnds(isLast: boolean): void {
    const stream = this.#dataStream;
    // One ends each stream, and there may be thousands of those in a second.
    if (this.#isDataEmpty && !(isLast && stream !== undefined)) this.#guard.take('empty DATA frames');
    if (stream !== undefined) {
      if (isLast) stream.receiveEnd();
      else this.#receive.grantStream(stream);
    }
    this.#receive.grantTunnel();
    this.#receive.reconsider();
  }

  unknownFrame(): void {
    this.#blocks.expectNone();
    this.#guard.take('frames of unknown types');
  }

  frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (type !== SETTINGS) this.#expectSettings(type);
    if (type !== CONTINUATION) this.#blocks.expectNone();
    switch (type) {
      case HEADERS:
        onStreamOnly('HEADERS', streamId);
        this.#onBlock(this.#blocks.headers(flags, streamId, payload));
        break;
      case CONTINUATION:
        this.#onBlock(this.#blocks.continuation(flags, streamId, payload));
        break;
      case WINDOW_UPDATE:
        this.#onWindowUpdate(streamId, payload);
        break;
      case RST_STREAM:
        this.#onReset(streamId, payload);
        break;
      case SETTINGS:
        this.#onSettings(flags, streamId, payload);
        break;
      case PING:
        this.#onPing(flags, streamId, payload);
        break;
      case GOAWAY:
        this.#onGoaway(streamId, payload);
        break;
      case PRIORITY:
        checkPriority(streamId, payload);
        this.#guard.take('PRIORITY frames');
        break;
      case PUSH_PROMISE:
        throw new SessionError(PROTOCOL_ERROR, 'PUSH_PROMISE, which we do not allow');
    }
  }

  /** The block is decoded whatever becomes of the stream: the tables of both ends must stay in step. */
  #onBlock(block: HeaderBlock | undefined): void {
    if (block === undefined) return;
    const { streamId, endsStream } = block;
    const list = this.#decoder.decode(block.bytes);
    const stream = this.#streams.get(streamId);
    if (this.#role === 'client') {
      if (stream !== undefined) this.#onAnswer(stream, endsStream, list);
      else this.#mustHaveBeen(streamId, 'HEADERS');
    } else if (stream !== undefined) this.#onTrailers(stream, endsStream, list);
    else this.#onRequest(streamId, endsStream, list);
  }

  #onRequest(streamId: number, endsStream: boolean, list: string[] | undefined): void {
    if (streamId % 2 === 0) throw new SessionError(PROTOCOL_ERROR, `a client opens stream ${streamId}`);
    if (streamId <= this.#lastPeerId) {
      // A stream that we reset may still get its trailers.
      this.#guard.take('HEADERS on closed streams');
      return;
    }
    if (this.#goawaySent === 'final') return;
    this.#lastPeerId = streamId;
    if (this.#streams.size >= this.#maxStreams) {
      this.#guard.take('streams above the limit', 10);
      writeReset(this.#outbox, streamId, REFUSED_STREAM);
      return;
    }
    const verdict = list === undefined ? undefined : judgeRequest(list);
    if (list === undefined || verdict === undefined || verdict.kind === 'malformed') {
      this.#guard.take('malformed requests', 10);
      writeReset(this.#outbox, streamId, PROTOCOL_ERROR);
      return;
    }
    const stream = this.#open(streamId);
    if (endsStream) stream.receiveEnd();
    this.#events.request?.(stream, verdict.kind === 'connect' ? verdict.authority : undefined, list);
  }

  #onAnswer(stream: Stream, endsStream: boolean, list: string[] | undefined): void {
    if (!stream.isUnanswered) {
      this.#onTrailers(stream, endsStream, list);
      return;
    }
    const status = list === undefined ? undefined : statusOf(list);
    if (list === undefined || status === undefined || (status < 200 && endsStream)) {
      stream.fail(PROTOCOL_ERROR, { clean: false, reason: 'the peer sent a malformed answer' });
      return;
    }
    if (status < 200) {
      this.#guard.take('interim answers');
      return;
    }
    stream.isUnanswered = false;
    stream.owner?.answered?.(stream, status, list);
    if (endsStream) stream.receiveEnd();
  }

  #onTrailers(stream: Stream, endsStream: boolean, list: string[] | undefined): void {
    if (stream.remoteEnded)
      stream.fail(STREAM_CLOSED, { clean: false, reason: 'the peer sent HEADERS behind its END_STREAM' });
    else if (!endsStream || list === undefined || !areTrailersWellFormed(list))
      stream.fail(PROTOCOL_ERROR, { clean: false, reason: 'the peer sent malformed trailers' });
    else stream.receiveEnd();
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    const bytes = readWindowUpdate(payload);
    if (streamId === 0) {
      this.#send.widenTunnel(bytes);
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) this.#mustHaveBeen(streamId, 'WINDOW_UPDATE');
    else this.#send.widenStream(stream, bytes);
  }

  #onReset(streamId: number, payload: Buffer): void {
    const code = readReset(streamId, payload);
    this.#guard.take('resets');
    const stream = this.#streams.get(streamId);
    if (stream === undefined) this.#mustHaveBeen(streamId, 'RST_STREAM');
    else stream.receiveReset(code);
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    onSessionOnly('SETTINGS', streamId);
    if ((flags & ACK) !== 0) {
      if (payload.length > 0) throw wrongSize('SETTINGS with ACK', payload);
      this.#receive.acknowledged();
      return;
    }
    this.#guard.take('SETTINGS frames', 10);
    const settings = readSettings(payload);
    if (this.#role === 'client' && settings.get(SettingId.enablePush) === 1)
      throw new SessionError(PROTOCOL_ERROR, 'a server that enables push');
    const isFirst = this.#peerMaxStreams === undefined;
    this.#peerMaxStreams =
      settings.get(SettingId.maxConcurrentStreams) ?? this.#peerMaxStreams ?? Number.POSITIVE_INFINITY;
    this.#send.maxFrameBytes = settings.get(SettingId.maxFrameSize) ?? this.#send.maxFrameBytes;
    const tableBytes = settings.get(SettingId.headerTableSize);
    if (tableBytes !== undefined) this.#encoder.limitTable(tableBytes);
    // Before what the new window lets out, so that the peer knows which window that is.
    this.#outbox.frame(SETTINGS, ACK, 0, 0);
    const initialWindow = settings.get(SettingId.initialWindowSize);
    if (initialWindow !== undefined) this.#send.changeInitial(initialWindow);
    if (isFirst) this.#events.ready?.();
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    checkPing(streamId, payload);
    if ((flags & ACK) === 0) {
      this.#guard.take('PING frames');
      writePong(this.#outbox, payload);
      return;
    }
    const why = payload.readUInt32BE(4);
    if (why === DRAIN_PING && this.#goawaySent === 'asked') {
      this.#goawaySent = 'final';
      writeGoaway(this.#outbox, this.#lastPeerId, NO_ERROR);
      this.#closeWhenIdle();
    } else if (why === KEEPALIVE_PING) {
      const onPong = this.#onPong;
      this.#onPong = undefined;
      onPong?.();
    }
  }

  #onGoaway(streamId: number, payload: Buffer): void {
    this.#guard.take('GOAWAY frames', 10);
    const { lastStreamId, code, why } = readGoaway(streamId, payload);
    this.#goawayReceived = true;
    if (code !== NO_ERROR)
      this.#because ??= `the peer ended the session with GOAWAY ${errorName(code)}${why === '' ? '' : `: ${why}`}`;
    for (const stream of this.#streams.values()) {
      if (stream.id <= lastStreamId || stream.id % 2 !== this.#nextId % 2) continue;
      stream.isUnprocessed = true;
      stream.abandon('the peer ended the session before it looked at the stream');
    }
    this.#closeWhenIdle();
  }

  // ---- inside ----

  #read(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#outboxes.beginCallback();
    try {
      this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof SessionError)) throw error;
      this.#because ??= `the peer broke HTTP/2: ${error.message} (${errorName(error.code)})`;
      if (!this.#isOver) writeGoaway(this.#outbox, this.#lastPeerId, error.code, error.message);
      this.#finish();
    }
    this.#outboxes.endCallback();
  }

  #open(id: number): Stream {
    const stream = new Stream(this, id, this.#send.initialBytes, this.#receive.initialBytes);
    this.#streams.add(stream);
    return stream;
  }

  #headers(streamId: number, headers: readonly string[], endsStream: boolean): void {
    writeHeaders(this.#outbox, streamId, this.#encoder.encode(headers), endsStream, this.#send.maxFrameBytes);
  }

  #expectSettings(type: number): void {
    if (this.#peerMaxStreams === undefined)
      throw new SessionError(PROTOCOL_ERROR, `a frame of type ${type} before SETTINGS`);
  }

  /** A frame for a stream that is not open is late, or the peer made the number up (RFC 9113 §5.1). */
  #mustHaveBeen(streamId: number, what: string): void {
    const isOurs = streamId % 2 === this.#nextId % 2;
    if (isOurs ? streamId >= this.#nextId : streamId > this.#lastPeerId && this.#goawaySent !== 'final')
      throw new SessionError(PROTOCOL_ERROR, `${what} on stream ${streamId}, which nobody opened`);
  }

  #dropLargest(why: string): void {
    let largest: Stream | undefined;
    for (const stream of this.#streams.values())
      if (stream.unreadBytes > (largest?.unreadBytes ?? 0)) largest = stream;
    largest?.fail(ENHANCE_YOUR_CALM, {
      clean: false,
      reason: `the stream was reset with ${largest.unreadBytes} bytes unread: ${why}`,
    });
  }

  #closeWhenIdle(): void {
    const isLeaving = this.#goawaySent === 'final' || (this.#goawayReceived && this.#role === 'client');
    if (isLeaving && this.#streams.size === 0) this.#finish();
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reader.stop();
    this.#outbox.close();
    // Its FIN lets the peer read what was said last; a peer that does not take it is not waited for.
    if (!this.#socket.destroyed) {
      this.#writing.end();
      const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
      this.#socket.once('close', () => clearTimeout(timer));
    }
    const { reason } = this;
    for (const stream of this.#streams.values()) stream.abandon(reason, this.#failure);
    this.#streams.clear();
    this.#send.close();
    this.#events.closed(reason);
  }
}
