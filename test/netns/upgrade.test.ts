// A ztunnel replaced by the next one while its pods talk, in real namespaces: with the listeners handed over nothing fails;
// beside one that cannot hand over, what fails is counted and printed. Both nodes' proxies are replaced in turn.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { until } from '../lib/until.ts';
import { readAll, testAuthority } from '../loopback/ztunnel-rig.ts';
import { type NodeAgent, PodNetwork, type TestPod, type Ztunnel } from './lib/pod-network.ts';
import { THREADS } from './lib/threads.ts';

let network: PodNetwork;
let cart: TestPod;
let stock: TestPod;
let agents: Record<'n1' | 'n2', NodeAgent>;
let port: number;

before(async () => {
  await warmThreadPool();
  network = new PodNetwork(await testAuthority(), 'cvup');
  cart = network.makePod('cart', 'n1');
  stock = network.makePod('stock', 'n2');
  agents = { n1: network.startAgent('n1'), n2: network.startAgent('n2') };
  port = await network.serve(stock.netns, (socket) => socket.pipe(socket));
});
after(() => network.close());

/** One new connection: 'ok', or why it failed. */
async function tryOnce(): Promise<string> {
  const socket = network.dial(cart.netns, stock.ip, port);
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer for 10 s')));
  try {
    const answer = readAll(socket);
    const failed = once(socket, 'error').then(([error]) => {
      throw error;
    });
    socket.end('ping');
    return String(await Promise.race([answer, failed])) === 'ping' ? 'ok' : 'a short answer';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Opens a connection every `everyMs` until `done` has come true and then some; returns outcomes by count. */
async function load(everyMs: number, work: Promise<unknown>): Promise<Outcomes> {
  const outcomes: Outcomes = {};
  const running: Promise<void>[] = [];
  const timer = setInterval(() => {
    running.push(
      tryOnce().then((outcome) => {
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      }),
    );
  }, everyMs);
  try {
    await work;
  } finally {
    clearInterval(timer);
  }
  await Promise.all(running);
  return outcomes;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

type Outcomes = Record<string, number>;

/** So many at once that some stand in the old one's queue when it closes. */
const BURST = 100;

/** New beside old, old told to end in the middle of a burst, and a while of the new one alone. */
async function replace(
  node: 'n1' | 'n2',
  old: Ztunnel,
  handsOver: boolean,
): Promise<{ readonly next: Ztunnel; readonly burst: Outcomes }> {
  await pause(300);
  const next = await network.startZtunnel(node, agents[node], { handsOver });
  await pause(300);
  const burst = Array.from({ length: BURST }, tryOnce);
  // Node connects in the next tick; the loop must not come round to accepting in between.
  const drained = new Promise((resolve) => process.nextTick(() => resolve(old.drain())));
  await pause(500);
  await drained;
  const outcomes: Outcomes = {};
  for (const outcome of await Promise.all(burst)) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  return { next, burst: outcomes };
}

test('replaced with hand-over: a held connection and every new one survive', {
  timeout: 120_000,
}, async (context) => {
  let client = await network.startZtunnel('n1', agents.n1);
  let server = await network.startZtunnel('n2', agents.n2);
  await network.enrol(agents.n1, cart);
  await network.enrol(agents.n2, stock);
  const held = network.dial(cart.netns, stock.ip, port);
  held.write('held');
  await once(held, 'data');

  const outcomes = await load(
    10,
    (async () => {
      await pause(200);
      const nextServer = await network.startZtunnel('n2', agents.n2);
      const nextClient = await network.startZtunnel('n1', agents.n1);
      await pause(300);
      const drained = [server.drain(), client.drain()];
      await pause(500);
      // Through both old proxies, which have closed their listeners.
      held.write(' within the drain period');
      await once(held, 'data');
      held.end();
      assert.deepEqual(await Promise.all(drained), [{ kind: 'finished' }, { kind: 'finished' }]);
      [client, server] = [nextClient, nextServer];
      await pause(300);
    })(),
  );
  context.diagnostic(`with hand-over, outcomes of new connections: ${JSON.stringify(outcomes)}`);
  assert.deepEqual(Object.keys(outcomes), ['ok']);
  assert.ok(outcomes.ok! > 50);
  // Three a thread, and UDP and TCP of DNS on both loopbacks.
  const tookOver = `took over the listeners of the running ztunnel\tlisteners=${3 * THREADS + 4}`;
  assert.ok(client.lines.join('').includes(tookOver));

  // The next replacement finds the successor; now one node, in a burst, on the side of the servers and of the clients.
  for (const node of ['n2', 'n1'] as const) {
    const replaced = replace(node, node === 'n2' ? server : client, true);
    const steady = await load(10, replaced);
    const { next, burst } = await replaced;
    context.diagnostic(
      `${node} replaced in a burst: ${JSON.stringify(burst)}, beside it: ${JSON.stringify(steady)}`,
    );
    assert.deepEqual(burst, { ok: BURST });
    assert.deepEqual(Object.keys(steady), ['ok']);
    assert.match(next.lines.join(''), /took over the listeners/);
    if (node === 'n2') server = next;
    else client = next;
  }
  assert.deepEqual([client.fatal, server.fatal], [[], []]);

  await Promise.all([client.drain(), server.drain()]);
  assert.equal(existsSync(join(network.dir, 'n2-hand-over.sock')), false);
});

test('beside a ztunnel that hands nothing over, listeners overlap', { timeout: 120_000 }, async (context) => {
  let server = await network.startZtunnel('n2', agents.n2, { handsOver: false });
  let client = await network.startZtunnel('n1', agents.n1, { handsOver: false });
  for (const node of ['n2', 'n1'] as const) {
    const replaced = replace(node, node === 'n2' ? server : client, false);
    const steady = await load(10, replaced);
    const { next, burst } = await replaced;
    context.diagnostic(
      `${node} replaced in a burst: ${JSON.stringify(burst)}, beside it: ${JSON.stringify(steady)}`,
    );
    if (node === 'n2') server = next;
    else client = next;
  }
  // What is lost depends on the moment; that the next connection works does not.
  assert.equal(await tryOnce(), 'ok');
  await until('the old ones gone', () => agents.n2.zds.connectedCount === 1);
  await Promise.all([client.drain(), server.drain()]);
});
