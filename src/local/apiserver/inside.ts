// The way in for parts of the server's own process: plain HTTP over a pair of streams in memory. Whoever opens it says as whom
// he speaks, and has that user's rights and no others. The controllers alone keep some forty watches open; over TLS, whose two
// ends would both be ours, each takes 200 KB and the work of encrypting (docs/decisions/0004-node-memory.md).

import type { Server } from 'node:http';
import { type Duplex, duplexPair } from 'node:stream';
import { vouchFor } from './user.ts';
import type { User } from './user-info.ts';

export interface Inside {
  /** A new connection, to be spoken HTTP/1.1 on. */
  connect(user: User): Duplex;
  /** Cuts all of them. */
  close(): void;
}

/** `server` serves what it is given; it need not listen. */
export function openInside(server: Server): Inside {
  const open = new Set<Duplex>();
  let isClosed = false;
  return {
    connect(user) {
      const [near, far] = connectedPair();
      // As a connection that is refused: when its owner listens already.
      if (isClosed) setImmediate(() => near.destroy());
      else {
        open.add(far);
        far.once('close', () => open.delete(far));
        vouchFor(far, user);
        server.emit('connection', far);
      }
      return near;
    },
    close() {
      isClosed = true;
      for (const connection of open) connection.destroy();
    },
  };
}

/** As with a socket: when one end is destroyed, the other one learns of it. */
function connectedPair(): [Duplex, Duplex] {
  const pair = duplexPair().map(asSocket) as [Duplex, Duplex];
  const [near, far] = pair;
  const follow = (one: Duplex, other: Duplex): void => {
    // Not at once: HTTP may be in the middle of reading the other end.
    one.once('close', () => setImmediate(() => other.destroy()));
  };
  follow(near, far);
  follow(far, near);
  return pair;
}

/** What HTTP asks of every socket and memory has no use for. */
function asSocket(stream: Duplex): Duplex {
  const self = (): Duplex => stream;
  return Object.assign(stream, {
    setKeepAlive: self,
    setNoDelay: self,
    setTimeout: self,
    ref: self,
    unref: self,
  });
}
