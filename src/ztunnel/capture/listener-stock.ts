// The listening sockets of this node's pods as things that can be passed on: those in use here, which a successor may
// have copies of, and those that came from a predecessor and wait for their pod. How they travel is hand-over.ts.

import { closeFd } from '#linux/netns.ts';

/** A socket inside a pod that others come to: a listener, or one of DNS over UDP. */
export interface PodListener {
  /** Of the pod's namespace, as in PodNetns. */
  readonly netnsId: string;
  readonly port: number;
  /** Which one, where a port has several: protocol and address, `udp 127.0.0.1`. */
  readonly of?: string;
  readonly fd: number;
  readonly transparent: boolean;
}

export class ListenerStock {
  readonly #inUse = new Set<PodListener>();
  readonly #inherited = new Map<string, PodListener[]>();
  readonly #followers = new Set<(listener: PodListener) => void>();

  /** Notes a listener that is served here; returns how to forget it, to be called before it is closed. */
  keep(listener: PodListener): () => void {
    this.#inUse.add(listener);
    for (const tell of this.#followers) tell(listener);
    return () => this.#inUse.delete(listener);
  }

  /** Every listener in use, then each that comes into use; returns how to stop. */
  follow(tell: (listener: PodListener) => void): () => void {
    for (const listener of this.#inUse) tell(listener);
    this.#followers.add(tell);
    return () => this.#followers.delete(tell);
  }

  get inUseCount(): number {
    return this.#inUse.size;
  }

  /** Owns the descriptor from now on. */
  inherit(listener: PodListener): void {
    const key = keyOf(listener);
    const known = this.#inherited.get(key);
    if (known === undefined) this.#inherited.set(key, [listener]);
    else known.push(listener);
  }

  /**
   * The predecessor's sockets for this pod and port, one for each of its threads, once: the caller owns the descriptors.
   * All must be served: each is a queue that the kernel puts connections into.
   */
  take(netnsId: string, port: number, of?: string): PodListener[] {
    const key = keyOf({ netnsId, port, ...(of === undefined ? {} : { of }) });
    const found = this.#inherited.get(key) ?? [];
    this.#inherited.delete(key);
    return found;
  }

  /** Closes what no pod has asked for; returns how many there were. */
  discardInherited(): number {
    const left = [...this.#inherited.values()].flat();
    for (const { fd } of left) closeFd(fd);
    this.#inherited.clear();
    return left.length;
  }
}

function keyOf({ netnsId, port, of }: Pick<PodListener, 'netnsId' | 'port' | 'of'>): string {
  return of === undefined ? `${netnsId} ${port}` : `${netnsId} ${port} ${of}`;
}
