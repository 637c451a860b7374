import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { NODE_FLAGS } from '#local/machine/plan.ts';

/** Keeps the compilers busy until it exits: of such processes an eighth never ended. */
const BUSY = `
const work = [];
for (let i = 0; i < 300; i += 1)
  work.push(new Function('a', 'b', 'let s = 0; for (let k = 0; k < 20; k += 1) s = (s + ((a * k + ' + i + ') ^ b)) % 1000003; return { s, t: [s, a, b] };'));
const kept = [];
const end = performance.now() + 20 + Math.random() * 60;
for (let n = 0; performance.now() < end; ) for (const f of work) kept[n & 4095] = f(n++, n & 7);
process.exit(130);
`;

function exitCodeOfBusyProcess(): Promise<number | null> {
  const module = join(import.meta.dirname, 'end-at-once.ts');
  const child = spawn(process.execPath, [...NODE_FLAGS, '--import', module, '--eval', BUSY], {
    stdio: 'inherit',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
}

test('a process that exits while V8 compiles ends', async () => {
  for (let round = 0; round < 10; round += 1) {
    const codes = await Promise.all([1, 2, 3, 4].map(exitCodeOfBusyProcess));
    assert.deepEqual(codes, [130, 130, 130, 130]);
  }
});
