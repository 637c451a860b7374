// What a ztunnel and its successor say to each other, one JSON object a packet. They may be of different versions: unknown
// keys are skipped, unknown kinds refused. The descriptors travel beside the message.

import { MeshError } from '#base/errors.ts';

export interface ListenerMessage {
  readonly kind: 'listener';
  /** Device and inode of the pod's namespace. */
  readonly netns: string;
  readonly port: number;
  /** As in PodListener; a ztunnel that does not know of this finds no pod that asks for its socket, and closes it. */
  readonly of?: string;
  readonly transparent: boolean;
  /** The settings that the socket was made with. */
  readonly shape: string;
}

export type HandOverMessage =
  | { readonly kind: 'hello' }
  | ListenerMessage
  /** Every listener of this moment has been sent; those of new pods may follow. */
  | { readonly kind: 'complete' };

const VERSION = 1;

export function encodeHandOver(message: HandOverMessage): Uint8Array {
  return Buffer.from(JSON.stringify({ version: VERSION, ...message }));
}

/** @throws MeshError HAND_OVER_FAILED */
export function decodeHandOver(bytes: Uint8Array): HandOverMessage {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new MeshError('HAND_OVER_FAILED', 'a message of the hand-over is not JSON', { cause: error });
  }
  const { version, kind, netns, port, of, transparent, shape } = fieldsOf(value);
  if (version !== VERSION) throw wrong('version', version, `${VERSION}`);
  if (kind === 'hello' || kind === 'complete') return { kind };
  if (kind !== 'listener') throw wrong('kind', kind, '"hello", "listener" or "complete"');
  if (typeof netns !== 'string' || !/^\d+:\d+$/.test(netns)) throw wrong('netns', netns, 'device:inode');
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65_535)
    throw wrong('port', port, 'a port');
  if (of !== undefined && typeof of !== 'string') throw wrong('of', of, 'a string');
  if (typeof transparent !== 'boolean') throw wrong('transparent', transparent, 'true or false');
  if (typeof shape !== 'string') throw wrong('shape', shape, 'a string');
  return { kind, netns, port, ...(of === undefined ? {} : { of }), transparent, shape };
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new MeshError('HAND_OVER_FAILED', 'a message of the hand-over is no object');
  return value as Readonly<Record<string, unknown>>;
}

function wrong(field: string, value: unknown, expected: string): MeshError {
  return new MeshError(
    'HAND_OVER_FAILED',
    `hand-over: ${field} is ${JSON.stringify(value)}, expected ${expected}`,
  );
}
