// A process by pid and start time, so that a recycled pid is never taken for ours. Reads /proc only; kills nothing.

import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks between boot and the start of the process: field 22 of /proc/PID/stat. */
  readonly startTicks: string;
}

interface ProcessStat {
  readonly state: string;
  readonly groupId: number;
  readonly sessionId: number;
  readonly startTicks: string;
}

/** The second field of /proc/PID/stat is the program's name in parentheses and may itself hold blanks and parentheses. */
export function parseProcessStat(text: string): ProcessStat | undefined {
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .trim()
    .split(' ');
  const [state, , group, session] = fields;
  const startTicks = fields[19];
  if (state === undefined || group === undefined || session === undefined || startTicks === undefined)
    return undefined;
  return { state, groupId: Number(group), sessionId: Number(session), startTicks };
}

function readStat(pid: number): ProcessStat | undefined {
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return undefined; // no such process
  }
}

/** Undefined when the process is gone already. */
export function identify(pid: number): ProcessId | undefined {
  const stat = readStat(pid);
  return stat === undefined ? undefined : { pid, startTicks: stat.startTicks };
}

/** A zombie counts as ended: it waits for its parent only. */
export function isAlive(id: ProcessId): boolean {
  const stat = readStat(id.pid);
  return stat !== undefined && stat.startTicks === id.startTicks && stat.state !== 'Z' && stat.state !== 'X';
}

/** Whether any process of the group still runs (the leader may have ended before its children). */
export function groupIsAlive(groupId: number): boolean {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = readStat(Number(entry));
    if (stat?.groupId === groupId && stat.state !== 'Z' && stat.state !== 'X') return true;
  }
  return false;
}

/** The living processes of a session: a command with everything it started, unless that began a session of its own. */
export function sessionMembers(sessionId: number): ProcessId[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      const pid = Number(entry);
      const stat = readStat(pid);
      const isMember = stat?.sessionId === sessionId && stat.state !== 'Z' && stat.state !== 'X';
      return isMember ? [{ pid, startTicks: stat.startTicks }] : [];
    });
}
