// The mesh as an ordinary user has it: every feature's evidence, recovery, the commands from another terminal, and the words
// of a system that forbids it. Nothing in it is privileged: a uid that owns nothing starts it and asks it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ALL_EVIDENCE } from './evidence/all.ts';
import { isAlive, projectDir, startMesh, until } from './harness.ts';
import { killAndReturn } from './lib/kill.ts';
import { sharedMesh } from './lib/shared-mesh.ts';
import { type OrdinaryUser, ordinaryUser } from './ordinary-user.ts';

const culvert = join(projectDir, 'bin/culvert');
const result = ordinaryUser(projectDir, culvert);
const skip = result.kind === 'not-run' && `not run: ${result.reason}`;
const theUser = (): OrdinaryUser => (result.kind === 'user' ? result.user : assert.fail('skipped'));

const theMesh = sharedMesh(async () =>
  result.kind === 'user' ? startMesh({ user: result.user }) : undefined,
);

test('every process of the mesh is the ordinary user’s', { skip }, () => {
  const owners = theMesh()
    .processes()
    .map(({ pid }) => /^Uid:\t(\d+)\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.slice(1, 3));
  assert.ok(owners.length > 10);
  for (const owner of owners) assert.deepEqual(owner, [String(theUser().uid), String(theUser().uid)]);
});

for (const { id, title, show } of ALL_EVIDENCE) {
  test(`${id}: ${title}`, { skip }, async (context) => {
    await show(theMesh(), (text) => context.diagnostic(text));
  });
}

test('containers and nodes have a home of their own: the host’s is closed to the user', {
  skip,
}, async () => {
  assert.equal(await theMesh().inNode('n1', 'sh', '-c', 'touch ~/note; stat -c "%u %a" ~'), '0 700\n');
});

test('LOCAL and a node proxy killed: both come back, the pods live on', { skip }, async () => {
  const mesh = theMesh();
  const web = mesh.pidOf('shop-web');
  await killAndReturn(mesh, 'local');
  await killAndReturn(mesh, 'ztunnel', 'n1');
  assert.equal(mesh.pidOf('shop-web'), web, 'the pod was not restarted');
  const before = mesh.screen().length;
  await until(() => /allowed .*web → catalog.*mTLS/.test(mesh.screen().slice(before)), 'traffic over mTLS');
});

test('down ends it from another terminal and leaves no process', {
  skip,
}, async () => {
  const mesh = theMesh();
  const pids = mesh.processes().map(({ pid }) => pid);
  assert.match(await mesh.culvert('down'), /has ended/);
  await until(() => pids.every((pid) => !isAlive(pid)), 'every process to end');
  assert.equal(mesh.up.exitCode, 0, 'for the first terminal it ended as by Ctrl-C');
  assert.match(await mesh.culvert('down'), /No mesh ran/);
});

test('kill -9 of `culvert up` ends the whole machine; down --purge leaves no state', { skip }, async () => {
  const mesh = await startMesh({ user: theUser(), sample: false, readyLine: /The mesh/ });
  const pids = mesh.processes().map(({ pid }) => pid);
  mesh.up.kill('SIGKILL');
  await until(() => pids.every((pid) => !isAlive(pid)), 'every process to end');
  mesh.client.close();
  assert.match(await mesh.culvert('down', '--purge'), /is removed/);
  assert.equal(existsSync(dirname(mesh.kubeconfigPath)), false);
});

test('user namespaces forbidden: the setting is named with the command that lifts it', {
  skip,
}, async (t) => {
  const { status, words } = await upWhere('echo 0 > /proc/sys/user/max_user_namespaces', t);
  assert.equal(status, 1);
  assert.match(words, /user\.max_user_namespaces=0/);
  assert.match(words, /sudo sysctl -w user\.max_user_namespaces=\d+/);
  assert.doesNotMatch(words, /\n\s+at /, 'a sentence, not a stack trace');
});

test('a masked /proc: said so, with the option that a container needs', { skip }, async (t) => {
  const { status, words } = await upWhere('mount -t tmpfs -o ro mask /proc/acpi', t);
  assert.equal(status, 1);
  assert.match(words, /\/proc are masked.*systempaths=unconfined/s);
});

/**
 * What `culvert up` says to the user in a system so prepared. The preparation counts in namespaces of its own only: limits
 * of `user.*` belong to the user namespace they are written in, mounts to the mount namespace.
 */
async function upWhere(
  preparation: string,
  t: TestContext,
): Promise<{ readonly status: number | null; readonly words: string }> {
  const stateDir = mkdtempSync(join(tmpdir(), 'culvert-e2e-'));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const user = theUser();
  user.own(stateDir);
  const [file, args] = user.command(culvert, ['up', '--state-dir', stateDir]);
  // Rights come with an exec as uid 0, which the shell is only once the map is written.
  const waiting = 'read -r go; exec sh -ec "$0" system "$@"';
  const child = spawn(
    'unshare',
    ['--user', '--mount', 'sh', '-c', waiting, `${preparation}; exec "$@"`, file, ...args],
    { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, HOME: stateDir } },
  );
  t.after(() => child.kill('SIGKILL'));
  let words = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      words += text;
    });
  const ours = readlinkSync('/proc/self/ns/user');
  await until(() => readlinkSync(`/proc/${child.pid}/ns/user`) !== ours, 'the namespace');
  // The whole range and not one uid: the user exists in it beside root.
  for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, `0 0 ${user.uid + 1}`);
  child.stdin.end('go\n');
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, words };
}
