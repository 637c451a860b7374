// What the kernel says of one process: CPU time and memory.

import { readFileSync } from 'node:fs';

/** Ticks of /proc/PID/stat; 100 per second on every Linux that Node runs on (sysconf(_SC_CLK_TCK)). */
const TICKS_PER_SECOND = 100;

export interface CpuClock {
  readonly pid: number;
}

/** User and system time of all threads so far, in seconds. Resolution 10 ms. */
export const cpuSeconds = ({ pid }: CpuClock): number => ticksOf(pid, 11, 12) / TICKS_PER_SECOND;

/** Likewise with the programs that it has run and that have ended. */
export const cpuSecondsWithTools = ({ pid }: CpuClock): number =>
  ticksOf(pid, 11, 12, 13, 14) / TICKS_PER_SECOND;

/** Fields of /proc/PID/stat after the program's name, counted from the state. */
function ticksOf(pid: number, ...fields: readonly number[]): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const values = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields.reduce((sum, field) => sum + Number(values[field]), 0);
}

export interface Memory {
  readonly rssKiB: number;
  readonly pssKiB: number;
  readonly privateKiB: number;
}

export function memoryOf(pid: number): Memory {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const value = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)?.[1] ?? 0);
  return {
    rssKiB: value('Rss'),
    pssKiB: value('Pss'),
    privateKiB: value('Private_Clean') + value('Private_Dirty'),
  };
}
