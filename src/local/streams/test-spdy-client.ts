// For tests: the client's side of a SPDY connection, frame by frame. It keeps no rules that a test does not ask for.

import type { Duplex } from 'node:stream';
import { encodeFrame, type Frame, FrameDecoder } from '#k8s/streams/spdy-frames.ts';
import { HeaderWriter } from '#k8s/streams/spdy-headers.ts';

export class TestSpdyClient {
  readonly frames: Frame[] = [];
  readonly #transport: Duplex;
  readonly #headers = new HeaderWriter();
  readonly #decoder = new FrameDecoder();
  readonly #looks = new Set<() => void>();
  #nextId = 1;
  #over = false;

  constructor(transport: Duplex) {
    this.#transport = transport;
    transport.on('data', (chunk: Buffer) => {
      this.frames.push(...this.#decoder.push(chunk));
      for (const look of this.#looks) look();
    });
    transport.resume(); // it may come paused
    transport.on('error', () => {});
    transport.on('close', () => {
      this.#over = true;
      for (const look of this.#looks) look();
    });
  }

  send(frame: Frame): void {
    this.#transport.write(encodeFrame(frame));
  }

  open(headers: Readonly<Record<string, string>>, streamId = this.#nextId): number {
    this.#nextId = streamId + 2;
    const headerBlock = this.#headers.write(
      new Map(Object.entries(headers).map(([name, value]) => [name, [value]])),
    );
    this.send({ type: 'syn-stream', streamId, fin: false, unidirectional: false, headerBlock });
    return streamId;
  }

  data(streamId: number, text: string | Buffer, fin = false): void {
    this.send({ type: 'data', streamId, bytes: Buffer.from(text as string), fin });
  }

  /** What the server sent on a stream so far. */
  received(streamId: number): { readonly bytes: Buffer; readonly fin: boolean } {
    const pieces = this.frames.filter(
      (frame) => frame.type === 'data' && frame.streamId === streamId,
    ) as (Frame & {
      readonly type: 'data';
    })[];
    return { bytes: Buffer.concat(pieces.map(({ bytes }) => bytes)), fin: pieces.some(({ fin }) => fin) };
  }

  of<T extends Frame['type']>(type: T): (Frame & { readonly type: T })[] {
    return this.frames.filter((frame) => frame.type === type) as (Frame & { readonly type: T })[];
  }

  /** Resolves as soon as the condition holds; rejects when the connection ends without it. */
  until(what: string, holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (holds()) resolve();
        else if (this.#over) reject(new Error(`the connection ended before ${what}`));
        else return;
        this.#looks.delete(look);
      };
      this.#looks.add(look);
      look();
    });
  }

  get isOver(): boolean {
    return this.#over;
  }

  end(): void {
    this.#transport.destroy();
  }
}
