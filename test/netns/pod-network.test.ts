// The network of a pod on a node whose mounts others have copies of, as containers have.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import type { EmulatedNode } from '#local/machine/node.ts';
import { DEFAULT_PATH, findTools, mustRun } from '#local/machine/tools.ts';
import { addPodNetwork, podNetnsPath, removePodNetwork } from '#local/net/pod-network.ts';
import { ip } from '#net/ip.ts';

const tools = findTools(DEFAULT_PATH);

test('the pod’s pin is removed although an agent holds its copy open ("Device or resource busy")', async (t) => {
  // A node in little: namespaces of its own, /run/netns shared with whoever copies its mounts.
  const keeper = spawn(
    tools.unshare,
    [
      ...['--net', '--mount', '--propagation', 'private', tools.sh, '-c'],
      'ip addr add 172.31.0.11/32 dev lo && mount -t tmpfs run /run && mkdir /run/netns && mount --make-rshared / && echo ready && exec sleep 600',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.after(() => keeper.kill('SIGKILL'));
  await once(keeper.stdout, 'data');
  const enter = [`--mount=/proc/${keeper.pid}/ns/mnt`, `--net=/proc/${keeper.pid}/ns/net`, '--'];
  const node = {
    tools,
    mustRun: (file, args, options) => mustRun(tools.nsenter, [...enter, file, ...args], options),
  } as Pick<EmulatedNode, 'tools' | 'mustRun'> as EmulatedNode;
  const link = {
    podUid: 'busy-pin',
    addresses: [{ podIp: ip('10.244.1.2'), nodeIp: ip('172.31.0.11') }],
  };
  const pin = podNetnsPath(link.podUid);

  // The copy is made before the pin, as an agent is there before most pods.
  const holder = spawn(
    tools.nsenter,
    [
      ...enter,
      ...[tools.unshare, '--mount', '--propagation', 'slave', tools.sh, '-c'],
      `while ! mountpoint -q ${pin}; do sleep 0.02; done; exec 3<${pin}; echo held; exec sleep 600`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  t.after(() => holder.kill('SIGKILL'));
  await addPodNetwork(node, link);
  await once(holder.stdout, 'data');

  await removePodNetwork(node, link.podUid);
  assert.equal(existsSync(`/proc/${keeper.pid}/root${pin}`), false);
});
