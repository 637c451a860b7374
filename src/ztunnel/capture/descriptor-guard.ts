// Keeps some descriptors free. A process without any can do nothing: not accept (the kernel goes on announcing the connection,
// a loop that never rests), not open a tunnel, not read its certificates. So new connections are refused a little before that.
// The kernel gives out the lowest free number, which says how full the table is without counting.

import { readFileSync } from 'node:fs';
import type net from 'node:net';
import type { Clock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';

export interface DescriptorGuardDeps {
  readonly log: Logger;
  readonly clock: Clock;
  /** The text of /proc/self/limits. */
  readonly readLimits?: () => string;
}

/** An operator may change the limit of a running process (prlimit). */
const LIMIT_AGE_MS = 1000;
/** One line for all that was refused in this time. */
const LOG_EVERY_MS = 10_000;
/** For the control plane, names, files and new pods' listeners: a sixteenth of the limit within these bounds. */
const LEAST_RESERVE = 16;
const MOST_RESERVE = 256;

export class DescriptorGuard {
  readonly #deps: DescriptorGuardDeps;
  #limit = Number.POSITIVE_INFINITY;
  #readMs = Number.NEGATIVE_INFINITY;
  #refused = 0;
  #loggedMs = Number.NEGATIVE_INFINITY;

  constructor(deps: DescriptorGuardDeps) {
    this.#deps = deps;
  }

  /** Whether a connection that got this number must be refused, so that this share of the reserve stays free. */
  isFull(fd: number, share = 1): boolean {
    this.#refresh();
    if (fd < this.#limit - reserveOf(this.#limit) * share) {
      if (this.#refused > 0) this.#calm();
      return false;
    }
    return true;
  }

  /**
   * Closes what a listener accepts when the table is full. Those who look after the proxy (`isAttendant`) may use half of the
   * reserve: a probe must be answered, and a reason be found, while connections are refused.
   */
  watch(listener: net.Server, { isAttendant = false } = {}): void {
    listener.prependListener('connection', (socket: net.Socket) => {
      const fd =
        (socket as unknown as { readonly _handle: { readonly fd: number } | null })._handle?.fd ?? -1;
      if (!this.isFull(fd, isAttendant ? 0.5 : 1)) return;
      this.refused();
      socket.destroy();
    });
  }

  /** A connection was not taken. */
  refused(): void {
    this.#refused++;
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#loggedMs < LOG_EVERY_MS) return;
    this.#loggedMs = nowMs;
    this.#deps.log.error('descriptors are used up: new connections are refused until some are closed', {
      limit: this.#limit,
      reserve: reserveOf(this.#limit),
      refused: this.#refused,
    });
  }

  /** @throws MeshError DESCRIPTORS_EXHAUSTED */
  check(fd: number): void {
    if (!this.isFull(fd)) return;
    this.refused();
    throw new MeshError(
      'DESCRIPTORS_EXHAUSTED',
      `of ${this.#limit} descriptors only a reserve is left; raise the limit of open files (ulimit -n)`,
    );
  }

  #calm(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    // At the border one is refused and the next is not: that is one incident.
    if (nowMs - this.#loggedMs < LOG_EVERY_MS / 10) return;
    this.#deps.log.info('descriptors are free again: connections are taken', { refused: this.#refused });
    this.#refused = 0;
    this.#loggedMs = Number.NEGATIVE_INFINITY;
  }

  #refresh(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs - this.#readMs < LIMIT_AGE_MS) return;
    this.#readMs = nowMs;
    const { readLimits = () => readFileSync('/proc/self/limits', 'utf8') } = this.#deps;
    try {
      const found = /^Max open files\s+(\d+)/m.exec(readLimits())?.[1];
      this.#limit = found === undefined ? Number.POSITIVE_INFINITY : Number(found);
    } catch {
      // No /proc, or no descriptor to read it with: what was known before holds.
    }
  }
}

function reserveOf(limit: number): number {
  return Number.isFinite(limit) ? Math.min(Math.max(LEAST_RESERVE, limit >> 4), MOST_RESERVE) : 0;
}
