// Memory that was freed and is still held by the process.

import { libc } from './libc.ts';

/** Gives every free page of malloc back to the system, between blocks in use as well (malloc_trim(3)). Takes milliseconds. */
export function releaseFreedMemory(): void {
  libc.malloc_trim(0);
}
