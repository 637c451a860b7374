import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { silentLogger } from '#telemetry/log.ts';
import { acquireMachineLock } from './lock.ts';
import { identify } from './process-id.ts';

function runDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-lock-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

test('one holder at a time; free again after release', async (t) => {
  const dir = runDir(t);
  const lock = await acquireMachineLock(dir, silentLogger);
  await assert.rejects(
    acquireMachineLock(dir, silentLogger),
    (error) => error instanceof MeshError && error.message.includes(`process ${process.pid}`),
  );
  lock.own(process.pid);
  assert.deepEqual(JSON.parse(readFileSync(join(dir, 'machine.lock'), 'utf8')), {
    front: identify(process.pid),
    machine: identify(process.pid),
  });
  lock.release();
  assert.equal(existsSync(join(dir, 'machine.lock')), false);
  (await acquireMachineLock(dir, silentLogger)).release();
});

test('what a killed FRONT left is ended, and only that', async (t) => {
  const dir = runDir(t);
  const left = spawn('sleep', ['60'], { stdio: 'ignore' });
  const stranger = spawn('sleep', ['60'], { stdio: 'ignore' });
  t.after(() => stranger.kill('SIGKILL'));
  await Promise.all([once(left, 'spawn'), once(stranger, 'spawn')]);
  const front = { pid: process.pid, startTicks: '1' }; // this pid, but another process
  writeFileSync(join(dir, 'machine.lock'), JSON.stringify({ front, machine: identify(left.pid as number) }));
  const ended = once(left, 'exit');
  (await acquireMachineLock(dir, silentLogger)).release();
  assert.equal((await ended)[1], 'SIGKILL');

  const recycled = { pid: stranger.pid, startTicks: '1' };
  writeFileSync(join(dir, 'machine.lock'), JSON.stringify({ front, machine: recycled }));
  (await acquireMachineLock(dir, silentLogger)).release();
  assert.equal(stranger.exitCode ?? stranger.signalCode, null, 'a recycled pid is not ours');
});

test('a lock that was half written belongs to nobody', async (t) => {
  const dir = runDir(t);
  writeFileSync(join(dir, 'machine.lock'), '{"front":');
  (await acquireMachineLock(dir, silentLogger)).release();
});
