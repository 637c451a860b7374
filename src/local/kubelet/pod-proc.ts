// A node's processes as agents of the field look for pods in them: they read every /proc/PID/cgroup, find the pod's uid in
// its path (kubelets name cgroups so) and take the network namespace of that process. This machine makes no cgroups, so the
// kubelet keeps a directory of that form, with one entry for each pod; a peer's agent gets it in place of /proc.

import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '#base/errors.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { podNetnsPath } from '#local/net/pod-network.ts';

/** A path of the node; known to `cli/peer-settings.ts`. */
export const POD_PROC_DIR = '/run/culvert-proc';
/** proc(5): the fields of `stat` from the state on; the twentieth is when the process began. */
const STAT = `S ${Array.from({ length: 18 }, () => '0').join(' ')}`;

/** Readers take directories with names of digits for processes. */
export const entryOf = (podUid: string): string => BigInt(`0x${podUid.replaceAll('-', '')}`).toString();

/** Process 1 stands for the kubelet: agents learn by it whose probes are a kubelet's, and which namespace is the node's. */
export async function preparePodProc(node: EmulatedNode): Promise<void> {
  const entry = join(node.rootPath, POD_PROC_DIR, '1');
  // Who reads this is on the host network: its own namespace is the node's.
  await link(entry, '/proc/self/ns/net');
  const uid = process.getuid?.() ?? 0;
  await writeFile(join(entry, 'stat'), statOf('1', 'kubelet'));
  await writeFile(join(entry, 'comm'), 'kubelet\n');
  await writeFile(join(entry, 'cmdline'), 'kubelet\0');
  await writeFile(join(entry, 'status'), `Name:\tkubelet\nUid:\t${Array(4).fill(uid).join('\t')}\n`);
}

export async function addPodProc(node: EmulatedNode, podUid: string): Promise<void> {
  const name = entryOf(podUid);
  const entry = join(node.rootPath, POD_PROC_DIR, name);
  await link(entry, podNetnsPath(podUid));
  await writeFile(join(entry, 'stat'), statOf(name, 'pod'));
  await writeFile(join(entry, 'cgroup'), `0::/kubepods/pod${podUid}/sandbox\n`);
}

const statOf = (pid: string, name: string): string =>
  `${pid} (${name}) ${STAT} ${Math.round(performance.now())}\n`;

export async function removePodProc(node: EmulatedNode, podUid: string): Promise<void> {
  await rm(join(node.rootPath, POD_PROC_DIR, entryOf(podUid)), { recursive: true, force: true });
}

async function link(entry: string, netns: string): Promise<void> {
  await mkdir(join(entry, 'ns'), { recursive: true });
  try {
    await symlink(netns, join(entry, 'ns/net'));
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
}
