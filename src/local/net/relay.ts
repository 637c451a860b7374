// Copies bytes both ways between two sockets. Each end is passed on for itself, so that a client that has said all it has to say
// still hears the answer; a failure of one side resets the other.

import type { Socket } from 'node:net';

/** Both sockets need `allowHalfOpen`. */
export function relay(left: Socket, right: Socket): void {
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.resetAndDestroy());
    from.on('close', () => {
      // What it sent last may still be on its way to a slow reader.
      if (to.writableEnded && !to.writableFinished) to.once('finish', () => to.destroy());
      else to.destroy();
    });
  }
}
