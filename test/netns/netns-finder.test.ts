// Namespaces of pods that already run, found through their processes: in a made-up /proc with real namespaces, and with a
// real process in a real control group.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createNetnsFinder } from '#cni/netns-finder.ts';
import { closeFd, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { ip } from '#net/ip.ts';
import { until } from '../lib/until.ts';

const sh = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const OWN = `cvfind${process.pid}a`;
const FOREIGN = `cvfind${process.pid}b`;
const IP = ip('10.244.7.1');
const IP6 = ip('fd00:7::1');
const UID = '0d6d4bd8-b5a4-4d05-8e4a-3f2b7c0f5a11';
const SLICE = `/kubepods.slice/kubepods-pod${UID.replaceAll('-', '_')}.slice`;

/** Everything that a test makes is in it. */
const scratch = mkdtempSync(join(tmpdir(), 'culvert-proc-'));
const newDir = (): string => mkdtempSync(join(scratch, 'proc-'));
let nowMs = 0;

before(() => {
  sh(`for name in ${OWN} ${FOREIGN}; do ip netns add $name; ip -n $name link set lo up; done
    ip -n ${OWN} link add eth0 type veth peer name eth0 netns ${FOREIGN}
    for name in ${OWN} ${FOREIGN}; do ip -n $name link set eth0 up; done
    ip -n ${OWN} addr add ${IP}/32 dev eth0; ip -n ${OWN} addr add ${IP6}/128 dev eth0 nodad
    ip -n ${FOREIGN} addr add 10.244.7.2/32 dev eth0`);
});
after(() => {
  for (const name of [OWN, FOREIGN]) sh(`ip netns del ${name} 2>/dev/null || true`);
  rmSync(scratch, { recursive: true, force: true });
});

interface Process {
  readonly pid: number;
  readonly cgroup: string;
  readonly startTicks: number;
  /** A pinned namespace; undefined: a kernel thread. */
  readonly netns?: string;
}

function find(processes: readonly Process[], ips = [IP], uid = UID): string | undefined {
  const dir = newDir();
  for (const { pid, cgroup, startTicks, netns } of processes) {
    mkdirSync(join(dir, String(pid), 'ns'), { recursive: true });
    writeFileSync(join(dir, String(pid), 'cgroup'), cgroup);
    // A name that tries to look like fields.
    writeFileSync(
      join(dir, String(pid), 'stat'),
      `${pid} (a) S 1 (b) S 1 ${'0 '.repeat(17)}${startTicks} 0 0\n`,
    );
    if (netns !== undefined) symlinkSync(netns, join(dir, String(pid), 'ns/net'));
  }
  return nameOf(dir, ips, uid);
}

function nameOf(procDir: string, ips: readonly (typeof IP)[], uid: string): string | undefined {
  nowMs += 1000;
  const home = openNetns('/proc/self/ns/net');
  try {
    const finder = createNetnsFinder(
      { hostNetns: netnsId(home), monotonicMs: () => nowMs },
      { pinnedDir: join(procDir, 'pinned'), procDir },
    );
    const fd = finder(uid, ips);
    if (fd === undefined) return undefined;
    const found = [OWN, FOREIGN].find((name) => {
      const pinned = openNetns(`/var/run/netns/${name}`);
      try {
        return sameNetns(netnsId(pinned), netnsId(fd));
      } finally {
        closeFd(pinned);
      }
    });
    closeFd(fd);
    return found;
  } finally {
    closeFd(home);
  }
}

const pinned = (name: string): string => `/var/run/netns/${name}`;
const container = (id: string): string => `0::${SLICE}/cri-containerd-${id}.scope\n`;

test('by the control group of a process, whichever address is there', () => {
  const processes = [
    { pid: 1, cgroup: '0::/init.scope\n', startTicks: 1, netns: '/proc/self/ns/net' },
    { pid: 20, cgroup: container('aa'), startTicks: 500, netns: pinned(OWN) },
    { pid: 21, cgroup: container('aa'), startTicks: 600 },
  ];
  assert.equal(find(processes), OWN);
  assert.equal(find(processes, [ip('10.9.9.9'), IP6]), OWN);
  assert.equal(find(processes, [IP], UID.replace('0d', '1d')), undefined, 'another pod');
});

test('a namespace without any of its addresses is not the pod’s, and neither is the node’s', () => {
  assert.equal(
    find([{ pid: 20, cgroup: container('aa'), startTicks: 5, netns: pinned(FOREIGN) }]),
    undefined,
  );
  assert.equal(
    find([{ pid: 20, cgroup: container('aa'), startTicks: 5, netns: '/proc/self/ns/net' }]),
    undefined,
  );
  assert.equal(
    find([{ pid: 20, cgroup: container('aa'), startTicks: 5, netns: pinned(OWN) }], []),
    undefined,
    'a pod without an address is looked for later',
  );
});

test('the oldest process decides; a debug container in a foreign namespace does not', () => {
  assert.equal(
    find([
      { pid: 20, cgroup: container('debug'), startTicks: 10, netns: pinned(FOREIGN) },
      { pid: 30, cgroup: container('main'), startTicks: 500, netns: pinned(OWN) },
    ]),
    OWN,
  );
});

test('a pinned namespace needs no process', () => {
  const dir = newDir();
  mkdirSync(join(dir, 'pinned'));
  symlinkSync(pinned(OWN), join(dir, 'pinned', `cni-${UID}`));
  assert.equal(nameOf(dir, [], UID), OWN);
  assert.equal(nameOf(dir, [], '../pinned/cni-x'), undefined);
});

test('a real process in a real control group', async (context) => {
  const root = `/sys/fs/cgroup${existsSync('/sys/fs/cgroup/cgroup.procs') ? '' : '/pids'}/culvert-find-${process.pid}`;
  const group = join(root, `pod${UID}`, 'a1b2c3');
  let child: ChildProcess | undefined;
  try {
    mkdirSync(group, { recursive: true });
    child = spawn('ip', ['netns', 'exec', OWN, 'sleep', '600'], { stdio: 'ignore' });
    writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
    // It becomes `sleep` and enters its namespace on the way.
    await until('its namespace to be found', () => nameOf('/proc', [IP], UID) === OWN);
  } catch (error) {
    if (['EROFS', 'EACCES', 'ENOENT', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? ''))
      return context.skip('control groups cannot be made here');
    throw error;
  } finally {
    if (child !== undefined) {
      const ended = new Promise((resolve) => child?.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    for (const each of [group, join(root, `pod${UID}`), root]) if (existsSync(each)) rmdirSync(each);
  }
});
