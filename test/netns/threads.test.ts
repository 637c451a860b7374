// A ztunnel of several threads on one of two nodes, in real namespaces: who serves what, and that they act as one. That what
// one thread does is right is shown by the suites that run once more with two (NAME-threads.test.ts).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { warmThreadPool } from '#linux/thread-pool.ts';
import type { SpiffeId } from '#model/identity.ts';
import { matchOf } from '#model/policy.ts';
import { policyOf } from '#model/samples.ts';
import { createAuthority } from '#tls/issue.ts';
import { newCrl } from '../lib/crls.ts';
import { until } from '../lib/until.ts';
import { readAll, type TestAuthority, testAuthority } from '../loopback/ztunnel-rig.ts';
import { type NodeAgent, PodNetwork, type TestPod, type Ztunnel } from './lib/pod-network.ts';

const THREADS = 3;
let authority: TestAuthority;
let network: PodNetwork;
let cart: TestPod;
let stock: TestPod;
let agents: Record<'n1' | 'n2', NodeAgent>;
let client: Ztunnel;
let server: Ztunnel;
let port: number;

before(async () => {
  await warmThreadPool();
  authority = await testAuthority();
  network = new PodNetwork(authority, 'cvth');
  cart = network.makePod('cart', 'n1');
  stock = network.makePod('stock', 'n2');
  agents = { n1: network.startAgent('n1'), n2: network.startAgent('n2') };
  port = await network.serve(stock.netns, (socket) => socket.pipe(socket));
  client = await network.startZtunnel('n1', agents.n1, { threads: THREADS, drainMs: 20_000 });
  server = await network.startZtunnel('n2', agents.n2, { threads: THREADS });
  await network.enrol(agents.n1, cart);
  await network.enrol(agents.n2, stock);
});
after(() => network.close());

async function get({ plane }: Ztunnel, of: 'admin' | 'stats', path: string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${plane.ports[of]}${path}`)).text();
}

/** The probe says yes when every thread has done what it was told; on a busy machine it may have to be asked again. */
async function settled({ plane }: Ztunnel): Promise<void> {
  const url = `http://127.0.0.1:${plane.ports.readiness}/healthz/ready`;
  for (let tries = 0; (await fetch(url)).status === 503; tries++)
    if (tries > 60) assert.fail('a thread hangs');
}

async function connectionsOf(
  of: Ztunnel,
  pod: TestPod,
): Promise<{ inbound: unknown[]; outbound: unknown[] }> {
  const dump = JSON.parse(await get(of, 'admin', '/config_dump'));
  return dump.workloadState[`uid-${pod.name}`].connections;
}

async function metric(of: Ztunnel, pattern: RegExp): Promise<number> {
  const text = await get(of, 'stats', '/metrics');
  return [...text.matchAll(pattern)].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Connections that live, and have been answered. */
async function hold(count: number): Promise<net.Socket[]> {
  const sockets = Array.from({ length: count }, () => network.dial(cart.netns, stock.ip, port));
  await Promise.all(
    sockets.map(async (socket) => {
      socket.on('error', () => {});
      socket.write('held');
      await once(socket, 'data');
    }),
  );
  return sockets;
}

/** Those of the tests before may be on their way out. */
async function outboundAre(count: number): Promise<void> {
  for (let tries = 0; (await connectionsOf(client, cart)).outbound.length !== count; tries++) {
    if (tries > 500) assert.fail(`not ${count} connections`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const COUNT = 60;

test('every thread serves; dump, metrics and log are those of one ztunnel', async () => {
  const sockets = await hold(COUNT);
  // The kernel spreads connections by a hash of their ports; that one of three gets none of sixty does not happen. Of the
  // three tunnels between them it may give all to one thread.
  const own = client.plane.connections.size;
  assert.ok(own > 0 && own < COUNT, `the owner serves ${own} of ${COUNT}`);
  assert.equal((await connectionsOf(client, cart)).outbound.length, COUNT);
  assert.equal((await connectionsOf(server, stock)).inbound.length, COUNT);
  const opened = /^istio_tcp_connections_opened_total\{.*\} (\d+)$/gm;
  assert.deepEqual([await metric(client, opened), await metric(server, opened)], [COUNT, COUNT]);
  const open = /^istio_tcp_sockets_open\{reporter="source"\} (\d+)$/gm;
  assert.equal(await metric(client, open), COUNT);
  assert.equal(await metric(client, /^istio_build\{.*\} (\d+)$/gm), 1);

  const ends = sockets.map(readAll);
  for (const socket of sockets) socket.end();
  await Promise.all(ends);
  const lines = ({ lines: all }: Ztunnel): string[] => all.filter((line) => line.includes('\taccess\t'));
  await until('all lines', () => lines(client).length === COUNT && lines(server).length === COUNT);
  const ids = [client, server].map((of) =>
    lines(of).map((line) => /connection_id="(\w{32})"\n$/.exec(line)?.[1]),
  );
  assert.equal(new Set(ids[0]).size, COUNT);
  assert.deepEqual(ids[0]!.toSorted(), ids[1]!.toSorted(), 'the id is the same at both ends');
  assert.equal(await metric(client, /^istio_tcp_connections_closed_total\{.*\} (\d+)$/gm), COUNT);
});

/** More connections than threads, so that each thread has some. */
async function nobodyIsServed(): Promise<void> {
  await Promise.all(
    Array.from({ length: 12 }, async () => {
      const socket = network.dial(cart.netns, stock.ip, port);
      socket.on('error', () => {});
      assert.equal(String(await readAll(socket)), '');
      socket.destroy();
    }),
  );
}

test('a change of policy ends connections in every thread, and binds the next ones', async () => {
  const sockets = await hold(COUNT);
  const ends = sockets.map(readAll);
  server.plane.store.apply({
    policies: [
      policyOf({
        name: 'nobody',
        namespace: 'shop',
        scope: 'Namespace',
        action: 'Deny',
        rules: [{ clauses: [[matchOf({ principals: [{ kind: 'presence' }] })]] }],
      }),
    ],
  });
  await Promise.all(ends);
  const closed = 'connection closed due to policy change';
  await until('a line for each', () => server.lines.filter((line) => line.includes(closed)).length === COUNT);
  assert.deepEqual((await connectionsOf(server, stock)).inbound, []);
  // The far end of a tunnel that ended is a FIN here; the applications go on until they have closed, too.
  for (const socket of sockets) socket.destroy();
  await settled(server);
  await nobodyIsServed();
  server.plane.store.apply({ removedPolicies: ['shop/nobody'] });
  await settled(server);
  for (const socket of await hold(12)) socket.destroy();
});

test('log levels count in every thread', async () => {
  const set = async (query: string): Promise<void> => {
    await fetch(`http://127.0.0.1:${client.plane.ports.admin}/logging?${query}`, { method: 'POST' });
    await settled(client);
  };
  await set('level=access=debug');
  for (const socket of await hold(COUNT)) socket.destroy();
  const opened = (): number => client.lines.filter((line) => line.includes('connection opened')).length;
  await until('their beginnings', () => opened() === COUNT);
  await set('reset');
  for (const socket of await hold(COUNT)) socket.destroy();
  assert.equal(opened(), COUNT);
});

test('a pod is cut off in every thread when the agent says so', async () => {
  const sockets = await hold(COUNT);
  const ends = sockets.map(readAll);
  await outboundAre(COUNT);
  await agents.n1.zds.del('uid-cart');
  // Answered when it is done everywhere.
  const socket = network.dial(cart.netns, stock.ip, port);
  const [error] = await once(socket, 'error');
  assert.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
  await Promise.all(ends);
  await until('the line', () => client.lines.some((line) => line.includes(`connections=${COUNT}\n`)));
  assert.match(
    client.lines.filter((line) => line.includes('pod proxy stopped')).join(''),
    new RegExp(`^\\S+\\tinfo\\tinpod\\tpod proxy stopped\\tuid="uid-cart" .* connections=${COUNT}\\n$`),
  );
  await network.enrol(agents.n1, cart);
  for (const again of await hold(12)) again.destroy();
});

test('handed over to fewer and to more threads, nothing fails', { timeout: 120_000 }, async (context) => {
  for (const threads of [1, 2, 4]) {
    const next = await network.startZtunnel('n2', agents.n2, { threads });
    const burst = Array.from({ length: 100 }, async () => {
      const socket = network.dial(cart.netns, stock.ip, port);
      const answer = readAll(socket);
      const failed = once(socket, 'error').then(([error]) => {
        throw error;
      });
      socket.end('ping');
      return String(await Promise.race([answer, failed]));
    });
    const drained = new Promise((resolve) => process.nextTick(() => resolve(server.drain())));
    assert.deepEqual([...new Set(await Promise.all(burst))], ['ping'], `to ${threads} threads`);
    assert.deepEqual(await drained, { kind: 'finished' });
    context.diagnostic(`to ${threads}: ${next.lines.find((line) => line.includes('took over'))}`);
    server = next;
  }
});

test('a revocation list cuts tunnels in every thread, and keeps the next ones out', async () => {
  const crlPath = join(network.dir, 'crl.der');
  const next = await network.startZtunnel('n2', agents.n2, { threads: THREADS, crlPath });
  await server.drain();
  server = next;
  const sockets = await hold(COUNT);
  const ends = sockets.map(readAll);
  const own = await client.plane.secrets.get('spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId);
  writeFileSync(
    crlPath,
    await newCrl(await createAuthority({ validDays: 1, ...authority }), { revoked: [...own.chainPem] }),
  );
  await Promise.all(ends);
  await until('the number cut', () => server.lines.some((line) => line.includes('lists are in force')));
  // One tunnel for each thread of the client; each stands in some thread here.
  const cut = Number(/lists are in force\t.* cut=(\d+)\n/.exec(server.lines.join(''))?.[1]);
  assert.ok(cut >= THREADS, `${cut} tunnels were cut`);
  for (const socket of sockets) socket.destroy();
  await nobodyIsServed();
});

test('without SO_REUSEPORT the threads take from one queue', async () => {
  await server.drain();
  server = await network.startZtunnel('n2', agents.n2, { threads: THREADS, reusePort: false });
  const sockets = await hold(COUNT);
  assert.equal((await connectionsOf(server, stock)).inbound.length, COUNT);
  for (const socket of sockets) socket.destroy();
});

test('a drain ends with the deadline in every thread, and says how many were cut', async () => {
  const short = await network.startZtunnel('n1', agents.n1, { threads: THREADS, drainMs: 200 });
  await client.drain();
  client = short;
  const sockets = await hold(COUNT);
  const ends = sockets.map(readAll);
  assert.deepEqual(await short.drain(), { kind: 'deadline', cut: COUNT });
  await Promise.all(ends);
});

test('a thread that fails is told of at once, and nothing is confirmed any more', async () => {
  const crashed = await network.startZtunnel('n1', agents.n1, {
    threads: 2,
    workerEntry: new URL('./lib/failing-worker.ts', import.meta.url),
  });
  for (const socket of await hold(12)) socket.destroy();
  await fetch(`http://127.0.0.1:${crashed.plane.ports.admin}/logging?level=fail=off`, { method: 'POST' });
  await until('the failure', () => crashed.fatal.length > 0);
  assert.match(String(crashed.fatal[0]), /thread ztunnel-1 has ended: a fault of ours/);
  const ready = await fetch(`http://127.0.0.1:${crashed.plane.ports.readiness}/healthz/ready`);
  assert.equal(ready.status, 500);
  assert.match(await ready.text(), /^thread ztunnel-1 has ended/);
});
