// Pods that come and go a thousand times: nothing of them stays in ztunnel, neither descriptor, listener nor timer.

import assert from 'node:assert/strict';
import { createHook } from 'node:async_hooks';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { closeFd, openNetns } from '#linux/netns.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { until, untilTelling } from '../lib/until.ts';
import { readAll, testAuthority } from '../loopback/ztunnel-rig.ts';
import { PodNetwork } from './lib/pod-network.ts';

const CYCLES = 1_000;
/** Every so often the pod is used, so that there are sessions, tunnels and certificates to be left behind. */
const USED_EVERY = 50;

const timers = new Set<number>();
const hook = createHook({
  init: (id, type) => void (type === 'Timeout' && timers.add(id)),
  destroy: (id) => void timers.delete(id),
});

let network: PodNetwork;
before(async () => {
  await warmThreadPool();
  network = new PodNetwork(await testAuthority(), 'cvcy');
  hook.enable();
});
after(() => {
  hook.disable();
  network.close();
});

const KINDS = ['descriptors', 'timers', 'TCPServerWrap', 'TCPSocketWrap', 'TLSWrap'];

/** What a leak would show in. */
function census(): Record<string, number> {
  const counts: Record<string, number> = {
    descriptors: readdirSync('/proc/self/fd').length,
    timers: timers.size,
  };
  for (const kind of process.getActiveResourcesInfo())
    if (kind.startsWith('TCP') || kind === 'TLSWrap' || kind === 'Immediate')
      counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

test(`${CYCLES} pods added and removed leave nothing behind`, { timeout: 300_000 }, async (context) => {
  const cart = network.makePod('cart', 'n1');
  const stock = network.makePod('stock', 'n1');
  const agent = network.startAgent('n1');
  const ztunnel = await network.startZtunnel('n1', agent);
  const port = await network.serve(stock.netns, (socket) => socket.pipe(socket));
  for (const pod of [cart, stock]) {
    await network.enrol(agent, pod);
    await agent.zds.del(`uid-${pod.name}`);
  }

  const use = async (): Promise<void> => {
    const socket = network.dial(cart.netns, stock.ip, port);
    const answer = readAll(socket);
    socket.end('through the tunnel');
    assert.equal(String(await answer), 'through the tunnel');
    socket.destroy();
  };

  const cycle = async (number: number, uses = number % USED_EVERY === 0 ? 1 : 0): Promise<void> => {
    const uids: string[] = [];
    for (const pod of [cart, stock]) {
      const uid = `${pod.name}-${number}`;
      const info = { name: pod.name, namespace: 'shop', serviceAccount: pod.name };
      const netnsFd = openNetns(`/var/run/netns/${pod.netns}`);
      try {
        await agent.zds.add({ uid, info, netnsFd });
      } finally {
        closeFd(netnsFd);
      }
      uids.push(uid);
    }
    for (let each = 0; each < uses; each++) await use();
    for (const uid of uids) await agent.zds.del(uid);
  };

  for (let number = -USED_EVERY; number < 0; number++) await cycle(number);
  // Each thread opens a descriptor of its own namespace with its first connection; among so many, each has one.
  await cycle(-USED_EVERY - 1, 40);
  await until('connections released', () => ztunnel.plane.connections.size === 0);
  const atStart = census();
  for (let number = 0; number < CYCLES / 2; number++) await cycle(number);
  await until('connections released', () => ztunnel.plane.connections.size === 0);
  let atEnd = census();
  const told = (): string =>
    `before: ${JSON.stringify(atStart)}\nafter ${CYCLES} pods: ${JSON.stringify(atEnd)}`;
  // The kernel and the loop may take a moment to close what was cut.
  await untilTelling(told)('no more than before', () => {
    atEnd = census();
    return KINDS.every((kind) => (atEnd[kind] ?? 0) <= (atStart[kind] ?? 0));
  });
  context.diagnostic(told());
  assert.equal(ztunnel.plane.pods.size, 0);
  assert.deepEqual(ztunnel.fatal, []);
});
