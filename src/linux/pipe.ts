// Pipes for the streams of a command. What Node gives a child by `stdio: 'pipe'` are socket pairs, and a program that opens
// /dev/stdout or /proc/self/fd/1 again fails on those.

import { callBuffer, check, libc, O_CLOEXEC } from './libc.ts';

export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** Both ends are blocking and close-on-exec; Node makes its own end non-blocking when it adopts it. */
export function makePipe(): Pipe {
  const fds = callBuffer();
  check(libc.pipe2(fds, O_CLOEXEC), 'pipe2', 'making a pipe');
  return { readFd: fds.readInt32LE(0), writeFd: fds.readInt32LE(4) };
}
