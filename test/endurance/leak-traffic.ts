// The traffic of the leak hunt: connections from one pod to another, opened in the pod's own network namespace, each with a
// random marker in everything it says. Markers of connections that the mesh has to carry are secret; the others are plain.

import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { tcpSocket } from '#linux/socket.ts';
import { until } from '../e2e/harness.ts';

export const PORT = 9000;
const TICK_MS = 40;
/** Connections that stay open and go on talking, for each direction; the others end with the first echo. */
const HELD = 6;
const ATTEMPT_LIMIT_MS = 5000;
const MARKER = /(S3CRET|PLA1N)-(\d+)-[0-9a-f]{16}/;
const MARKER_BYTES = Buffer.from('S3CRET-');
const PLAIN_BYTES = Buffer.from('PLA1N-');

export interface Direction {
  readonly name: string;
  /** The client's. */
  readonly netnsFd: number;
  /** Of the server. */
  readonly ips: readonly string[];
}

/** A connection as it is told of when its marker is found. */
export interface Talk {
  readonly direction: string;
  readonly openedAt: string;
  /** What the hunt was doing when it was opened. */
  readonly during: string;
}

export type Mood = 'secret' | 'plain' | 'silent';

interface Lane {
  direction: Direction;
  mood: Mood;
  readonly held: Set<net.Socket>;
  echoes: number;
  count: number;
}

export class LeakTraffic {
  readonly talks = new Map<number, Talk>();
  #during = 'start';
  readonly #lanes = new Map<string, Lane>();
  readonly #sockets = new Set<net.Socket>();
  readonly #timer: NodeJS.Timeout;

  constructor() {
    this.#timer = setInterval(() => {
      for (const lane of this.#lanes.values()) if (lane.mood !== 'silent') this.#open(lane);
    }, TICK_MS);
  }

  set during(text: string) {
    this.#during = text;
  }

  /** Connections opened from now on; those that are open go on as they are. */
  set(direction: Direction, mood: Mood): void {
    const lane = this.#lanes.get(direction.name);
    if (lane === undefined)
      this.#lanes.set(direction.name, { direction, mood, held: new Set(), echoes: 0, count: 0 });
    else Object.assign(lane, { direction, mood });
  }

  /** A connection that begins after now is answered. */
  async flows(name: string, limitMs: number): Promise<void> {
    const lane = this.#lanes.get(name)!;
    const from = lane.echoes;
    // The second one: the first may answer a connection that was on its way.
    await until(() => lane.echoes >= from + 2, `${name} to be answered`, limitMs);
  }

  closeHeld(): void {
    for (const { held } of this.#lanes.values()) for (const socket of held) socket.destroy();
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
  }

  #open(lane: Lane): void {
    const { direction, mood } = lane;
    const id = this.talks.size + 1;
    const marker = `${mood === 'secret' ? 'S3CRET' : 'PLA1N'}-${id}-${randomBytes(8).toString('hex')}\n`;
    const host = direction.ips[lane.count++ % direction.ips.length]!;
    this.talks.set(id, {
      direction: direction.name,
      openedAt: new Date().toISOString(),
      during: this.#during,
    });
    const fd = tcpSocket({ family: host.includes(':') ? 6 : 4, netnsFd: direction.netnsFd });
    const socket = new net.Socket({ fd } as net.SocketConstructorOpts);
    const isHeld = mood === 'secret' && lane.held.size < HELD;
    if (isHeld) lane.held.add(socket);
    this.#sockets.add(socket);
    const limit = setTimeout(() => socket.destroy(), ATTEMPT_LIMIT_MS);
    const again = isHeld ? setInterval(() => socket.write(marker), 2 * TICK_MS) : undefined;
    socket
      // What becomes of a connection while parts are killed is not judged here: only where its words are seen.
      .on('error', () => {})
      .once('data', () => {
        clearTimeout(limit);
        lane.echoes += 1;
        if (!isHeld) socket.end();
      })
      .on('data', () => {})
      .on('close', () => {
        clearTimeout(limit);
        clearInterval(again);
        lane.held.delete(socket);
        this.#sockets.delete(socket);
      })
      .connect({ host, port: PORT });
    socket.write(marker);
  }
}

/** The secret connection whose words stand readable in a packet. */
export function secretIn(frame: Buffer): number | undefined {
  if (!frame.includes(MARKER_BYTES)) return undefined;
  return Number(MARKER.exec(frame.toString('latin1'))?.[2]);
}

export const hasPlainMarker = (frame: Buffer): boolean => frame.includes(PLAIN_BYTES);
