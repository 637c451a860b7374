import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { identify, isAlive, parseProcessStat } from './process-id.ts';

// The layout of proc(5): pid (comm) state ppid pgrp session tty tpgid flags … starttime is field 22.
const rest = '1 4242 4240 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 777001 1000 20 0';

test('start time, group and session are read behind a name with blanks and parentheses', () => {
  for (const name of ['sh', 'a b', 'x) S 1 (y', ')']) {
    assert.deepEqual(parseProcessStat(`99 (${name}) R ${rest}\n`), {
      state: 'R',
      groupId: 4242,
      sessionId: 4240,
      startTicks: '777001',
    });
  }
  assert.equal(parseProcessStat(''), undefined);
});

test('a process is alive until it ends, and a recycled pid is another process', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const id = identify(child.pid as number);
  assert.ok(id !== undefined && isAlive(id));
  assert.equal(isAlive({ ...id, startTicks: `${Number(id.startTicks) - 1}` }), false);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(isAlive(id), false);
});
