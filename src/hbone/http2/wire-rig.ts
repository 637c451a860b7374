// For tests: a session whose peer is the test itself, frame by frame, without TLS or sockets.

import { Duplex } from 'node:stream';
import { newBlockPool } from './byte-queue.ts';
import { FRAME_HEADER_BYTES, type FrameHandler } from './frame-reader.ts';
import { newOutboxPool } from './outbox.ts';
import { ReceiveBudget } from './receive-budget.ts';
import { Session, type SessionEvents, type SessionShared } from './session.ts';

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/** RFC 9113 §4.1. */
export function frame(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const bytes = typeof payload === 'string' ? Buffer.from(payload.replaceAll(/\s/g, ''), 'hex') : payload;
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  header.writeUIntBE(bytes.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, bytes]);
}

/** Writes down what is handed on; the pieces of one DATA frame are joined. */
export class FrameNotes implements FrameHandler {
  readonly notes: string[] = [];
  #data: Buffer[] = [];

  dataBegins(streamId: number, length: number): void {
    this.notes.push(`data ${streamId} ${length}`);
    this.#data = [];
  }
  data(chunk: Buffer): void {
    this.#data.push(Buffer.from(chunk));
  }
  dataEnds(isLast: boolean): void {
    this.notes.push(`${Buffer.concat(this.#data).toString('hex')}${isLast ? ' last' : ''}`);
  }
  frame(type: number, flags: number, streamId: number, payload: Buffer): void {
    this.notes.push(`${type} ${flags} ${streamId} ${payload.toString('hex')}`);
  }
  unknownFrame(): void {
    this.notes.push('unknown');
  }
}

export function newShared(budgetBytes?: number): SessionShared {
  return {
    outboxes: newOutboxPool(),
    blocks: newBlockPool(),
    budget: new ReceiveBudget(budgetBytes),
    readBuffer: Buffer.alloc(1024),
    monotonicMs: () => 0,
  };
}

/** The session's socket, seen from the peer's side. */
export class Wire extends Duplex {
  readonly #sent: Buffer[] = [];
  /** While true the socket takes nothing: what is written stays in flight. */
  isStuck = false;
  #stuck: (() => void)[] = [];

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#sent.push(Buffer.from(chunk));
    if (this.isStuck) this.#stuck.push(done);
    else done();
  }

  unstick(): void {
    this.isStuck = false;
    for (const done of this.#stuck.splice(0)) done();
  }

  feed(...frames: readonly Buffer[]): void {
    this.push(Buffer.concat(frames));
  }

  /** Everything the session has sent so far, a client's preface left out. */
  frames(): SeenFrame[] {
    let bytes = Buffer.concat(this.#sent);
    if (bytes.subarray(0, PREFACE.length).toString() === PREFACE) bytes = bytes.subarray(PREFACE.length);
    const frames: SeenFrame[] = [];
    for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length; ) {
      const end = at + FRAME_HEADER_BYTES + bytes.readUIntBE(at, 3);
      frames.push({
        type: bytes[at + 3]!,
        flags: bytes[at + 4]!,
        streamId: bytes.readUInt32BE(at + 5),
        payload: bytes.subarray(at + FRAME_HEADER_BYTES, end),
      });
      at = end;
    }
    return frames;
  }

  of(type: number, streamId?: number): SeenFrame[] {
    return this.frames().filter(
      (each) => each.type === type && (streamId === undefined || each.streamId === streamId),
    );
  }
}

export interface Rig {
  readonly wire: Wire;
  readonly session: Session;
  readonly closed: string[];
}

export function startSession(
  role: 'client' | 'server',
  events: Omit<SessionEvents, 'closed'> = {},
  options: { readonly maxStreams?: number; readonly shared?: SessionShared } = {},
): Rig {
  const wire = new Wire({ allowHalfOpen: false });
  const closed: string[] = [];
  const session = new Session(
    wire,
    options.shared ?? newShared(),
    {
      role,
      maxListBytes: 65_536,
      ...(role === 'server' ? { maxStreams: options.maxStreams ?? 200 } : {}),
    },
    { ...events, closed: (reason) => closed.push(reason) },
  );
  return { wire, session, closed };
}

/** Lets everything that is due happen: microtasks, stream events, the end of the turn. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
