// `culvert up` as a command: what it prints, what it refuses, and what it leaves behind (nothing).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { isAlive, projectDir, startMesh, until } from './harness.ts';

const culvert = join(projectDir, 'bin/culvert');

const mountsOfTheMachine = (): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes('culvert'));
const namespacesOf = (): string[] => (existsNetns() ? readdirSync('/run/netns') : []);
function existsNetns(): boolean {
  try {
    readdirSync('/run/netns');
    return true;
  } catch {
    return false;
  }
}

function culvertEnds(...args: string[]): { status: number | null; words: string } {
  const { status, stderr, stdout } = spawnSync(culvert, args, { encoding: 'utf8', timeout: 60_000 });
  return { status, words: `${stdout}${stderr}` };
}

test('the first screen shows steps, map, next steps and connections; Ctrl-C leaves nothing behind', async () => {
  const mounts = mountsOfTheMachine();
  const namespaces = namespacesOf();
  const mesh = await startMesh();
  let pids: number[] = [];
  try {
    await until(
      () => /allowed .* → .*mTLS .*spiffe:\/\/\S+ → spiffe:\/\//.test(mesh.screen()),
      'a live line',
    );
    pids = mesh.processes().map(({ pid }) => pid);
    for (const expected of [
      /first request over mTLS\s+[\d.]+ s/,
      /node n1/,
      /node n2/,
      /Three things to try/,
      /export KUBECONFIG=/,
      /spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web/,
    ]) {
      assert.match(mesh.screen(), expected);
    }
    // Not a terminal: plain lines, no control characters.
    // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly these must not appear
    assert.doesNotMatch(mesh.screen(), /[\u001b\r]/);
  } finally {
    await mesh.stop();
  }
  assert.equal(mesh.up.exitCode, 0);
  assert.deepEqual(pids.filter(isAlive), []);
  assert.deepEqual(mountsOfTheMachine(), mounts);
  assert.deepEqual(namespacesOf(), namespaces);
});

test('kill -9 of `culvert up` ends the whole machine, and the next start works', async () => {
  const first = await startMesh({ sample: false, readyLine: /The mesh/ });
  const pids = first.processes().map(({ pid }) => pid);
  assert.ok(pids.length > 3);
  first.up.kill('SIGKILL');
  await until(() => pids.every((pid) => !isAlive(pid)), 'every process to end');
  first.client.close();
  rmSync(dirname(first.kubeconfigPath), { recursive: true, force: true });
  const second = await startMesh({ sample: false, readyLine: /The mesh/ });
  await second.stop();
});

test('a port in use is named with the fix, and nothing is left behind', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const stateDir = mkdtempSync(join(tmpdir(), 'culvert-port-'));
  try {
    const { status, words } = culvertEnds('up', '--api-port', String(port), '--state-dir', stateDir);
    assert.equal(status, 1);
    assert.match(words, new RegExp(`127\\.0\\.0\\.1:${port}`));
    assert.match(words, /--api-port/);
    assert.doesNotMatch(words, /\n\s+at /, 'a sentence, not a stack trace');
  } finally {
    server.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
});

test('an unknown flag or command is one sentence and a suggestion, exit code 2', () => {
  const flag = culvertEnds('up', '--no-sampel');
  assert.equal(flag.status, 2);
  assert.match(flag.words, /--no-sampel/);
  assert.match(flag.words, /--no-sample\b/);
  const command = culvertEnds('verison');
  assert.equal(command.status, 2);
  assert.match(command.words, /version/);
  const value = culvertEnds('up', '--api-port', 'eighty');
  assert.equal(value.status, 2);
  assert.match(value.words, /eighty/);
});
