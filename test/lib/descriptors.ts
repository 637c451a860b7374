// The descriptor under a socket of Node, for tests that ask the kernel about it.

import assert from 'node:assert/strict';
import type { Socket } from 'node:net';

export function fdOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { readonly _handle: { readonly fd: number } | null };
  assert.ok(handle !== null && handle.fd >= 0, 'the socket is closed');
  return handle.fd;
}
