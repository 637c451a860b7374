// The form that agents of the field read (proc(5); the cgroup names of kubelets).

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { EmulatedNode } from '#local/machine/node.ts';
import { addPodProc, entryOf, POD_PROC_DIR, preparePodProc, removePodProc } from './pod-proc.ts';

const UID = '2c48913c-b29f-41e7-9350-020968147796';

test('a pod is found by its uid in a cgroup, with its namespace and the time it began; gone with the pod', async (t) => {
  const rootPath = mkdtempSync(join(tmpdir(), 'culvert-proc-'));
  t.after(() => rmSync(rootPath, { recursive: true, force: true }));
  const node = { rootPath } as EmulatedNode;
  await addPodProc(node, UID);
  await addPodProc(node, UID); // a sandbox that is made again
  const proc = join(rootPath, POD_PROC_DIR);
  const read = (file: string): string => readFileSync(join(proc, entryOf(UID), file), 'utf8');
  assert.match(entryOf(UID), /^\d+$/);
  assert.match(read('cgroup'), /^0::\/kubepods\/pod2c48913c-b29f-41e7-9350-020968147796\/\w+\n$/);
  assert.equal(readlinkSync(join(proc, entryOf(UID), 'ns/net')), `/run/netns/cni-${UID}`);
  const afterName = read('stat')
    .slice(read('stat').lastIndexOf(')') + 1)
    .trim()
    .split(' ');
  assert.equal(afterName[0], 'S');
  assert.match(afterName[19] ?? '', /^\d+$/);
  await removePodProc(node, UID);
  await removePodProc(node, UID);
  assert.deepEqual(readdirSync(proc), []);
});

test('process 1 is the kubelet, with the uid that its probes have, in the namespace of the node', async (t) => {
  const rootPath = mkdtempSync(join(tmpdir(), 'culvert-proc-'));
  t.after(() => rmSync(rootPath, { recursive: true, force: true }));
  await preparePodProc({ rootPath } as EmulatedNode);
  const read = (file: string): string => readFileSync(join(rootPath, POD_PROC_DIR, '1', file), 'utf8');
  assert.equal(read('comm'), 'kubelet\n');
  assert.equal(read('cmdline'), 'kubelet\0');
  assert.match(read('status'), new RegExp(`^Uid:\\t${process.getuid?.()}\\t`, 'm'));
  assert.equal(readlinkSync(join(rootPath, POD_PROC_DIR, '1/ns/net')), '/proc/self/ns/net');
});
