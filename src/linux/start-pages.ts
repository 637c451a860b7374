// Pages of the program's file that only its start has read: code that ran once, V8's snapshot, tables of ICU. They count as
// resident for as long as the process lives, because nothing unmaps them while memory is plentiful.

import { readFileSync, readlinkSync } from 'node:fs';
import { errnoOf } from '#base/errors.ts';
import { libc, MADV_DONTNEED } from './libc.ts';

export interface FileMapping {
  readonly start: number;
  readonly bytes: number;
}

/**
 * Unmaps them all. What is needed again comes from the page cache at its next use, sixteen pages at a time: a minor fault of a
 * microsecond for each. Takes a millisecond or two. A kernel that does not tell or refuses leaves things as they are.
 */
export function unmapStartPages(smapsPath = '/proc/self/smaps'): void {
  let mappings: readonly FileMapping[];
  try {
    mappings = unchangedMappings(readFileSync(smapsPath, 'latin1'), readlinkSync('/proc/self/exe'));
  } catch (error) {
    // Not there without CONFIG_PROC_PAGE_MONITOR, or not for us: a few MiB more are no reason not to run.
    if (errnoOf(error) === undefined) throw error;
    return;
  }
  for (const { start, bytes } of mappings) libc.madvise(start, bytes, MADV_DONTNEED);
}

/**
 * The read-only mappings of this file of which no page has become the process's own (pure; proc_pid_smaps(5)). One that has is
 * what the loader wrote addresses into before it was closed to writing: that would be lost.
 */
export function unchangedMappings(smaps: string, path: string): FileMapping[] {
  const mappings: FileMapping[] = [];
  let current: FileMapping | undefined;
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ +(.*)$/.exec(line);
    if (head !== null) {
      const [, from = '', to = '', permissions = '', file = ''] = head;
      const start = Number.parseInt(from, 16);
      const isReadOnly = /^r-[x-]p$/.test(permissions) && file === path;
      current = isReadOnly ? { start, bytes: Number.parseInt(to, 16) - start } : undefined;
    } else if (current !== undefined && /^Anonymous: +0 kB$/.test(line)) mappings.push(current);
  }
  return mappings;
}
