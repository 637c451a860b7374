// The processes of a local machine, as /proc tells of them. Any may end while it is looked at: it is none, then.

import { readFileSync } from 'node:fs';
import { errnoOf } from '#base/errors.ts';

/** Of a process that has ended, nothing: opened too late (ENOENT), or read too late (ESRCH). */
function ofProcess(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return '';
    throw error;
  }
}

export const childrenOf = (pid: number): number[] =>
  ofProcess(pid, `task/${pid}/children`).trim().split(' ').filter(Boolean).map(Number);

/** LOCAL is the child of the machine's first process that runs under its own title. `machinePid`: of what made the machine. */
export function localPid(machinePid: number): number | undefined {
  const [init] = childrenOf(machinePid);
  if (init === undefined) return undefined;
  return childrenOf(init).find((pid) => ofProcess(pid, 'cmdline').includes('culvert-local'));
}

/** The word is one of its arguments. */
export const isCalledWith = (pid: number, word: string): boolean =>
  ofProcess(pid, 'cmdline').split('\0').includes(word);
