// The credit that a session gives its peer: for the tunnel as a whole, and the size of each stream's window. Credit goes
// out in large steps, and only for bytes that have left for their reader.

import { writeWindowUpdate } from './frame-writer.ts';
import type { Outbox } from './outbox.ts';
import { MAX_STREAM_WINDOW_BYTES, type ReceiveBudget, streamWindow } from './receive-budget.ts';
import { SettingId, writeSettings } from './settings-frame.ts';
import type { Stream } from './stream.ts';
import type { StreamTable } from './stream-table.ts';

/** Every session begins with it, before any frame says otherwise (RFC 9113 §6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;

export class ReceiveWindow {
  readonly #outbox: Outbox;
  readonly #budget: ReceiveBudget;
  readonly #streams: StreamTable<Stream>;
  /** What the peer may still send on the whole session. */
  #tunnelWindow = DEFAULT_WINDOW_BYTES;
  #unreadBytes = 0;
  /** The window that streams should have, the one last sent in SETTINGS, and the one the peer is known to keep to. */
  #wanted = MAX_STREAM_WINDOW_BYTES;
  #sent = MAX_STREAM_WINDOW_BYTES;
  #kept = MAX_STREAM_WINDOW_BYTES;
  /** SETTINGS of ours that the peer has not acknowledged; the first is that of the session's start. */
  #unacknowledged = 1;

  constructor(outbox: Outbox, budget: ReceiveBudget, streams: StreamTable<Stream>) {
    this.#outbox = outbox;
    this.#budget = budget;
    this.#streams = streams;
  }

  /** Of a new stream. */
  get initialBytes(): number {
    return this.#kept;
  }

  get tunnelWindow(): number {
    return this.#tunnelWindow;
  }

  get unreadBytes(): number {
    return this.#unreadBytes;
  }

  /** A DATA frame of so many bytes came; false when the peer had no credit for it. */
  takeFromTunnel(bytes: number): boolean {
    if (bytes > this.#tunnelWindow) return false;
    this.#tunnelWindow -= bytes;
    return true;
  }

  countUnread(bytes: number): void {
    this.#unreadBytes += bytes;
    this.#budget.add(bytes);
  }

  grantTunnel(): void {
    const wanted = this.#budget.tunnelBytes;
    const due = wanted - this.#tunnelWindow - this.#unreadBytes;
    if (due < wanted >> 2) return;
    this.#tunnelWindow += due;
    writeWindowUpdate(this.#outbox, 0, due);
  }

  grantStream(stream: Stream): void {
    if (stream.remoteEnded || stream.isOver) return;
    const due = this.#wanted - stream.receiveWindow - stream.unreadBytes;
    if (due < this.#wanted >> 2) return;
    stream.receiveWindow += due;
    writeWindowUpdate(this.#outbox, stream.id, due);
  }

  /** Unread bytes came or went, here or in the process. */
  reconsider(): void {
    const { isTight } = this.#budget;
    const window = streamWindow(this.#unreadBytes, isTight);
    if (window < this.#wanted) this.#wanted = window;
    // Up again only when half of it is read: no SETTINGS for every swing.
    else if (window > this.#wanted)
      this.#wanted = Math.max(this.#wanted, streamWindow(2 * this.#unreadBytes, isTight));
    this.#announce();
  }

  acknowledged(): void {
    if (this.#unacknowledged === 0) return;
    this.#unacknowledged -= 1;
    this.#keep(this.#sent);
    this.#announce();
  }

  #announce(): void {
    if (this.#unacknowledged > 0 || this.#wanted === this.#sent) return;
    this.#sent = this.#wanted;
    this.#unacknowledged = 1;
    writeSettings(this.#outbox, [[SettingId.initialWindowSize, this.#wanted]]);
    // A larger window may be used as soon as the peer has read of it, a smaller one is kept when it says so.
    if (this.#sent > this.#kept) this.#keep(this.#sent);
  }

  #keep(window: number): void {
    const change = window - this.#kept;
    this.#kept = window;
    if (change !== 0) for (const stream of this.#streams.values()) stream.receiveWindow += change;
  }
}
