// Runs a program of this folder in a network namespace made for it, and collects the lines of JSON it prints.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

/** The program gets the peer's, a folder of its own, and `more` as arguments. */
export async function runInNetns<T>(
  t: TestContext,
  program: string,
  peer: string,
  more: readonly string[] = [],
): Promise<T[]> {
  const netns = `cvio${process.pid}`;
  const dir = mkdtempSync(join(tmpdir(), 'culvert-interop-'));
  execFileSync('ip', ['netns', 'add', netns]);
  t.after(() => {
    // Whatever the program left behind goes with its namespace.
    const left = execFileSync('ip', ['netns', 'pids', netns], { encoding: 'utf8' }).split('\n');
    for (const pid of left.filter(Boolean)) process.kill(Number(pid), 'SIGKILL');
    execFileSync('ip', ['netns', 'del', netns]);
    rmSync(dir, { recursive: true, force: true });
  });
  const path = join(import.meta.dirname, program);
  const child = spawn('ip', ['netns', 'exec', netns, process.execPath, path, peer, dir, ...more]);
  let answers = '';
  let complaints = '';
  child.stdout.on('data', (text: Buffer) => {
    answers += text.toString();
  });
  child.stderr.on('data', (text: Buffer) => {
    complaints += text.toString();
  });
  const [status] = (await once(child, 'close')) as [number | null];
  assert.equal(status, 0, complaints.slice(-4000));
  const lines = answers.trim().split('\n');
  return lines.map((line) => JSON.parse(line) as T);
}
