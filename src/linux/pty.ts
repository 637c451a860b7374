// Pseudo terminals: a pair, its size, and the master as a Duplex that never blocks the process (Node's own tty handles do
// when they write to a master).

import { readSync, writeSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { errnoOf } from '#base/errors.ts';
import { type FdWatch, READABLE, WRITABLE, watchFd } from './fd-watch.ts';
import { callBuffer, check, libc, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR } from './libc.ts';
import { closeFd } from './netns.ts';

/** ioctl_tty(2); the same on x86_64 and aarch64. */
const TIOCSPTLCK = 0x40045431;
const TIOCGPTN = 0x80045430;
const TIOCSWINSZ = 0x5414;

const READ_BYTES = 16 * 1024;

export interface Terminal {
  readonly masterFd: number;
  /** Opened by a session leader without a terminal, it becomes its controlling terminal. */
  readonly slavePath: string;
}

/** @throws MeshError SYSCALL_FAILED. */
export function openTerminal(): Terminal {
  const context = 'opening a terminal';
  const masterFd = check(
    libc.open('/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0),
    'open(/dev/ptmx)',
    context,
  );
  try {
    const value = callBuffer();
    check(libc.ioctlAt(masterFd, TIOCSPTLCK, value), 'ioctl(TIOCSPTLCK)', context);
    check(libc.ioctlAt(masterFd, TIOCGPTN, value), 'ioctl(TIOCGPTN)', context);
    return { masterFd, slavePath: `/dev/pts/${value.readUInt32LE(0)}` };
  } catch (error) {
    closeFd(masterFd);
    throw error;
  }
}

/** The kernel tells the foreground processes by SIGWINCH. */
export function setTerminalSize(
  masterFd: number,
  size: { readonly rows: number; readonly columns: number },
): void {
  const winsize = callBuffer();
  winsize.writeUInt16LE(size.rows, 0);
  winsize.writeUInt16LE(size.columns, 2);
  check(libc.ioctlAt(masterFd, TIOCSWINSZ, winsize), 'ioctl(TIOCSWINSZ)', 'setting the size of a terminal');
}

/** Owns the descriptor. Ends when the last holder of the terminal is gone; destroying it hangs the terminal up. Main thread only. */
export class TerminalStream extends Duplex {
  readonly #fd: number;
  readonly #watch: FdWatch;
  readonly #buffer = Buffer.alloc(READ_BYTES);
  #wantsInput = false;
  #pending: Buffer = Buffer.alloc(0);
  #written: ((error?: Error | null) => void) | undefined;

  constructor(masterFd: number) {
    super({ allowHalfOpen: true, autoDestroy: false });
    this.#fd = masterFd;
    this.#watch = watchFd(masterFd, 0, () => this.#onReady());
  }

  override _read(): void {
    this.#wantsInput = true;
    this.#watchWanted();
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#pending = chunk;
    this.#written = callback;
    this.#flush();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#watch.close();
    closeFd(this.#fd);
    const written = this.#written;
    this.#written = undefined;
    written?.(error ?? new Error('the terminal was closed'));
    callback(error);
  }

  #watchWanted(): void {
    if (this.destroyed) return;
    this.#watch.setEvents((this.#wantsInput ? READABLE : 0) | (this.#written !== undefined ? WRITABLE : 0));
  }

  #onReady(): void {
    if (this.#written !== undefined) this.#flush();
    if (this.#wantsInput && !this.destroyed) this.#readOnce();
  }

  #readOnce(): void {
    try {
      const length = readSync(this.#fd, this.#buffer);
      this.#wantsInput = this.push(Buffer.from(this.#buffer.subarray(0, length)));
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') return;
      // EIO: every holder of the other side is gone.
      this.#wantsInput = false;
      this.push(null);
    }
    this.#watchWanted();
  }

  #flush(): void {
    try {
      while (this.#pending.length > 0)
        this.#pending = this.#pending.subarray(writeSync(this.#fd, this.#pending));
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') {
        this.#watchWanted();
        return;
      }
      // Nobody is there to read it any more.
      this.#pending = Buffer.alloc(0);
    }
    const written = this.#written;
    this.#written = undefined;
    this.#watchWanted();
    written?.();
  }
}
