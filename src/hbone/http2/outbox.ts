// What a session is about to send: frames, gathered.

import { GatheredWriter, SlabPool, type WritableSocket } from '../gathered-writer.ts';
import { FRAME_HEADER_BYTES } from './frame-reader.ts';

/** A whole read of a TCP socket (ztunnel/tcp.ts) and the frame headers it is cut by fit into one. */
const SLAB_BYTES = 260 * 1024;
/** Two reads: one is sent while the other is gathered. */
const BACKLOG_BYTES = 512 * 1024;

export function newOutboxPool(): SlabPool {
  return new SlabPool(SLAB_BYTES);
}

export class Outbox extends GatheredWriter {
  constructor(pool: SlabPool, socket: WritableSocket, onRoom: () => void) {
    super(pool, socket, BACKLOG_BYTES, onRoom, 'adaptive');
  }

  /** A frame's header; its payload follows by `bytes`, `uint16` or `uint32`. */
  frame(type: number, flags: number, streamId: number, length: number): void {
    const slab = this.room(FRAME_HEADER_BYTES);
    let at = this.used;
    slab[at++] = length >>> 16;
    slab[at++] = length >>> 8;
    slab[at++] = length;
    slab[at++] = type;
    slab[at++] = flags;
    slab[at++] = streamId >>> 24;
    slab[at++] = streamId >>> 16;
    slab[at++] = streamId >>> 8;
    slab[at++] = streamId;
    this.used = at;
  }

  uint16(value: number): void {
    const slab = this.room(2);
    this.used = slab.writeUInt16BE(value, this.used);
  }

  uint32(value: number): void {
    const slab = this.room(4);
    this.used = slab.writeUInt32BE(value >>> 0, this.used);
  }
}
