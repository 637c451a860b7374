import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLogger } from '#telemetry/log.ts';
import { purgeState, stopMachine } from './down.ts';
import { lockPath } from './lock.ts';
import { identify } from './process-id.ts';

function tempDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-down-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function program(t: TestContext, ...command: [string, ...string[]]): Promise<ChildProcess> {
  const [file, ...args] = command;
  const child = spawn(file, args, { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  return child;
}

const GONE = { pid: 1, startTicks: 'never' };
const hold = (dir: string, front: unknown, machine?: unknown): void =>
  writeFileSync(lockPath(dir), JSON.stringify({ front, machine }));

test('nothing runs: said so, and the stale lock is removed', async (t) => {
  const dir = tempDir(t);
  assert.deepEqual(await stopMachine(dir, silentLogger), { kind: 'nothing-ran' });
  hold(dir, GONE);
  assert.deepEqual(await stopMachine(dir, silentLogger), { kind: 'nothing-ran' });
  assert.equal(existsSync(lockPath(dir)), false);
});

test('FRONT is interrupted as by Ctrl-C, and its end is waited for', async (t) => {
  const dir = tempDir(t);
  const front = await program(t, 'sleep', '60');
  hold(dir, identify(front.pid as number));
  const ended = once(front, 'exit');
  assert.deepEqual(await stopMachine(dir, silentLogger), { kind: 'stopped', pid: front.pid });
  assert.equal((await ended)[1], 'SIGINT');
});

test('a FRONT that does not hear is killed, and the machine with it', async (t) => {
  const dir = tempDir(t);
  // `ready` on stdout tells that the signal is ignored by now.
  const front = spawn('sh', ['-c', 'trap "" INT; echo ready; while :; do sleep 0.05; done'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => front.kill('SIGKILL'));
  await once(front.stdout, 'data');
  const machine = await program(t, 'sleep', '60');
  hold(dir, identify(front.pid as number), identify(machine.pid as number));
  const ends = [once(front, 'exit'), once(machine, 'exit')];
  const result = await stopMachine(dir, silentLogger, { stopMs: 100, killMs: 500 });
  assert.deepEqual(result, { kind: 'stopped', pid: front.pid });
  assert.deepEqual(
    (await Promise.all(ends)).map(([, signal]) => signal),
    ['SIGKILL', 'SIGKILL'],
  );
});

test('what a killed FRONT left is ended; a recycled pid is not touched', async (t) => {
  const dir = tempDir(t);
  const machine = await program(t, 'sleep', '60');
  const stranger = await program(t, 'sleep', '60');
  hold(dir, { pid: stranger.pid, startTicks: '1' }, identify(machine.pid as number));
  const ended = once(machine, 'exit');
  assert.deepEqual(await stopMachine(dir, silentLogger), { kind: 'leftover-ended' });
  await ended;
  assert.equal(stranger.exitCode ?? stranger.signalCode, null);
});

test('purge removes what the machine wrote and nothing else', (t) => {
  const dir = tempDir(t);
  const ours = join(dir, 'state');
  for (const name of ['run/nodes', 'pki', 'nodes/n1/net.d', 'cache'])
    mkdirSync(join(ours, name), { recursive: true });
  for (const name of ['cluster.db', 'kubeconfig']) writeFileSync(join(ours, name), '');
  writeFileSync(join(ours, 'thesis.txt'), '');
  assert.deepEqual(purgeState(ours), ['thesis.txt']);
  assert.deepEqual(readdirSync(ours), ['thesis.txt']);
  rmSync(join(ours, 'thesis.txt'));
  assert.deepEqual(purgeState(ours), []);
  assert.equal(existsSync(ours), false);
  assert.deepEqual(purgeState(ours), [], 'twice is no failure');
});
