import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findKubeletUid } from './kubelet-uid.ts';

type Process = readonly [comm: string, cmdline: string, realUid: number];

function uidAmong(...processes: readonly Process[]): number | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-proc-'));
  try {
    mkdirSync(join(dir, 'sys'));
    // A process that has ended: its directory is empty.
    mkdirSync(join(dir, '1'));
    processes.forEach(([comm, cmdline, uid], at) => {
      const entry = join(dir, String(100 + at));
      mkdirSync(entry);
      writeFileSync(join(entry, 'comm'), `${comm}\n`);
      writeFileSync(join(entry, 'cmdline'), cmdline.replaceAll(' ', '\0'));
      writeFileSync(join(entry, 'status'), `Name:\t${comm}\nUid:\t${uid}\t0\t0\t0\n`);
    });
    return findKubeletUid(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test('the real user of the kubelet, under each of its names', () => {
  const init: Process = ['systemd', '/sbin/init', 0];
  assert.equal(uidAmong(init, ['kubelet', '/usr/bin/kubelet --config=x', 1001]), 1001);
  assert.equal(uidAmong(init, ['kubelite', '/snap/kubelite --KUBELET-args-file=x', 7]), 7);
  assert.equal(uidAmong(init, ['k3s', '/usr/local/bin/k3s server', 9]), 9);
  assert.equal(uidAmong(['kubelet', 'kubelet', 3], ['k3s', 'k3s agent', 4]), 3, 'the first one');
});

test('others of that name are none, and a node without one has none', () => {
  assert.equal(uidAmong(['kubelet', 'sleep 5', 5], ['kubectl', 'kubectl kubelet', 6]), undefined);
  assert.equal(uidAmong(), undefined);
});
