// The data plane against the real kernel: two pods in their own namespaces with the CNI agent's rules, handed over by ZDS,
// and two ztunnels that listen inside them. Applications are ordinary sockets that know nothing of it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import type { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { connectSeqpacket, listenSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { matchOf, type Policy } from '#model/policy.ts';
import { policyOf } from '#model/samples.ts';
import type { Service } from '#model/service.ts';
import type { Workload } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { decodeAck, decodeHello, encodeWorkloadRequest, type ZdsRequest } from '#proto/zds.ts';
import { createLogger } from '#telemetry/log.ts';
import { createInPodCapture } from '#ztunnel/capture/in-pod.ts';
import { podNetns } from '#ztunnel/capture/pod-netns.ts';
import { parseConfig } from '#ztunnel/config.ts';
import { createDataPlane, type DataPlane } from '#ztunnel/owner.ts';
import { until } from '../lib/until.ts';
import { readAll, service, serviceKeyOf, testAuthority, workload } from '../loopback/ztunnel-rig.ts';
import { dialFrom, listenIn, serverOf } from './lib/in-namespace.ts';
import { furtherThreads, THREADS } from './lib/threads.ts';

const ROUTER = `cvzt${process.pid}r`;
const PODS = [
  { netns: `cvzt${process.pid}a`, ip: '10.9.1.2', ip6: 'fd09:1::2', node: 'n1', name: 'cart' },
  { netns: `cvzt${process.pid}b`, ip: '10.9.2.2', ip6: 'fd09:2::2', node: 'n2', name: 'stock' },
] as const;
/** The router's address on a pod's link. */
const gatewayOf = (address: string): string => address.replace(/2$/, '1');
const [CLIENT, SERVER] = PODS;
const dir = mkdtempSync(join(tmpdir(), 'culvert-ztunnel-'));
const scope = new Scope('test');

const run = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** The CNI agent's end of one ztunnel: acknowledgements in the order of the requests. */
interface Agent {
  readonly acks: string[];
  readonly closed: boolean;
  send(request: ZdsRequest, fd?: number): Promise<string>;
}

interface Node {
  readonly plane: DataPlane;
  readonly lines: string[];
  readonly fatal: MeshError[];
  readonly agent: Agent;
}

let client: Node;
let server: Node;
const open: net.Server[] = [];
const rulesApplied: number[] = [];

async function startNode(node: string): Promise<Node> {
  const path = join(dir, `${node}.sock`);
  const connected = Promise.withResolvers<SeqpacketConnection>();
  const listener = listenSeqpacket(path, (connection) => connected.resolve(connection));
  scope.onClose(() => listener.close());
  const lines: string[] = [];
  const fatal: MeshError[] = [];
  const logControl = {
    format: 'plain',
    level: 'info',
    write: (line: string) => void lines.push(line),
  } as const;
  const config = {
    ...parseConfig({ NODE_NAME: node, XDS_ADDRESS: '', INPOD_UDS: path }),
    adminPort: 0,
    statsPort: 0,
    readinessPort: 0,
    threads: THREADS,
  };
  const log = createLogger('app', logControl);
  const { client: ca } = authority;
  const plane = await createDataPlane(
    {
      log,
      logControl,
      clock: systemClock,
      random: Math.random,
      openCapture: createInPodCapture({ log, scope }, config),
      ...furtherThreads(THREADS, lines, (error) => fatal.push(error)),
      ca,
      zds: {
        connect: connectSeqpacket,
        netns: podNetns,
        discard: closeFd,
      },
      shutdown: () => {},
      onFatal: (error) => fatal.push(error),
    },
    config,
  );
  scope.onClose(() => plane.close());
  return { plane, lines, fatal, agent: await agentOn(await connected.promise) };
}

async function agentOn(connection: SeqpacketConnection): Promise<Agent> {
  const hello = Promise.withResolvers<void>();
  const waiting: ((text: string) => void)[] = [];
  const acks: string[] = [];
  const agent = {
    acks,
    closed: false,
    send: (request: ZdsRequest, fd?: number): Promise<string> => {
      const answer = Promise.withResolvers<string>();
      waiting.push(answer.resolve);
      connection.send(encodeWorkloadRequest(request), fd).catch(answer.reject);
      return answer.promise;
    },
  };
  connection.onClose(() => {
    agent.closed = true;
  });
  let greeted = false;
  connection.onMessage((message) => {
    if (!greeted) {
      greeted = true;
      decodeHello(message);
      hello.resolve();
      return;
    }
    const text = decodeAck(message).error ?? '';
    acks.push(text);
    waiting.shift()?.(text);
  });
  scope.onClose(() => connection.close());
  await hello.promise;
  return agent;
}

let authority: Awaited<ReturnType<typeof testAuthority>>;
let workloads: readonly Workload[];

before(async () => {
  await warmThreadPool();
  authority = await testAuthority();
  run(`ip netns add ${ROUTER}; ip -n ${ROUTER} link set lo up`);
  run(`ip netns exec ${ROUTER} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`);
  for (const { netns, ip, ip6 } of PODS) {
    const link = `v${netns.slice(-6)}`;
    run(`ip netns add ${netns}; ip -n ${netns} link set lo up
      ip -n ${ROUTER} link add ${link} type veth peer name eth0 netns ${netns}
      ip -n ${ROUTER} addr add ${gatewayOf(ip)}/24 dev ${link}
      ip -n ${ROUTER} addr add ${gatewayOf(ip6)}/64 dev ${link} nodad; ip -n ${ROUTER} link set ${link} up
      ip -n ${netns} addr add ${ip}/24 dev eth0; ip -n ${netns} addr add ${ip6}/64 dev eth0 nodad
      ip -n ${netns} link set eth0 up
      ip -n ${netns} route add default via ${gatewayOf(ip)}; ip -n ${netns} route add default via ${gatewayOf(ip6)}`);
  }
  workloads = PODS.map(({ name, ip: address, ip6, node }) =>
    workload(name, address, node, { ips: [ip(address), ip(ip6)] }),
  );
  client = await startNode('n1');
  server = await startNode('n2');
  for (const { plane } of [client, server])
    plane.store.apply({
      addresses: workloads.map((one) => ({ kind: 'workload', workload: one })),
    });
});

after(() => {
  for (const one of open) one.close();
  scope.close();
  for (const fd of rulesApplied) closeFd(fd);
  for (const name of [ROUTER, ...PODS.map(({ netns }) => netns)])
    run(`ip netns del ${name} 2>/dev/null || true`);
  rmSync(dir, { recursive: true, force: true });
});

async function enrol(node: Node, pod: (typeof PODS)[number]): Promise<void> {
  const fd = openNetns(`/var/run/netns/${pod.netns}`);
  rulesApplied.push(fd);
  await nftPodRules.apply(fd, {
    ipv6: true,
    dnsCapture: false,
    bypassInbound: false,
    virtualInterfaces: [],
  });
  const info = { name: pod.name, namespace: 'shop', serviceAccount: pod.name };
  const answer = await node.agent.send({ kind: 'add', uid: `uid-${pod.name}`, info }, fd);
  assert.equal(answer, '');
}

/** An application's listener inside a namespace. */
function serve(netns: string, onSocket: (socket: net.Socket) => void): Promise<number> {
  const one = serverOf(onSocket);
  open.push(one);
  return listenIn(netns, one);
}

/** An application's connection out of a namespace. */
function dial(netns: string, host: string, port: number): net.Socket {
  return dialFrom(netns, host, port).on('error', () => {});
}

async function ask(socket: net.Socket, text: string): Promise<string> {
  const answer = readAll(socket);
  socket.end(text);
  return String(await answer);
}

const access = (node: Node, ...texts: string[]): string[] =>
  node.lines.filter((line) => line.includes('\taccess\t') && texts.every((text) => line.includes(text)));

test('readiness waits for the agent’s snapshot', async () => {
  for (const { plane, agent } of [client, server]) {
    assert.deepEqual(plane.readiness.pending(), ['workload proxy manager']);
    assert.equal(await agent.send({ kind: 'snapshot-sent' }), '');
    assert.deepEqual(plane.readiness.pending(), []);
  }
});

test('enrolled pods talk through a tunnel, with their own addresses and identities', async () => {
  await enrol(client, CLIENT);
  await enrol(server, SERVER);
  let seen: string | undefined;
  const port = await serve(SERVER.netns, (socket) => {
    seen = socket.remoteAddress;
    socket.pipe(socket);
  });
  assert.equal(await ask(dial(CLIENT.netns, SERVER.ip, port), 'captured'), 'captured');
  assert.equal(seen?.replace('::ffff:', ''), CLIENT.ip);
  const target = `dst.hbone_addr=${SERVER.ip}:${port}`;
  await until('both lines', () => access(client, target).length > 0 && access(server, target).length > 0);
  const identities =
    /src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart".*dst\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/stock"/;
  assert.match(access(client, target)[0]!, identities);
  assert.match(access(server, target)[0]!, identities);
  assert.match(
    access(server, target)[0]!,
    new RegExp(`src\\.addr=${CLIENT.ip}:\\d+ .*bytes_sent=8 bytes_recv=8`),
  );
});

test('IPv6 likewise: through a tunnel to the IPv6 address, the client’s own address at the application', async () => {
  let seen: string | undefined;
  const port = await serve(SERVER.netns, (socket) => {
    seen = socket.remoteAddress;
    socket.pipe(socket);
  });
  assert.equal(await ask(dial(CLIENT.netns, SERVER.ip6, port), 'six'), 'six');
  assert.equal(seen, CLIENT.ip6);
  const target = `dst.hbone_addr=[${SERVER.ip6}]:${port}`;
  await until('both lines', () => access(client, target).length > 0 && access(server, target).length > 0);
  assert.match(
    access(client, target)[0]!,
    new RegExp(`src\\.addr=\\[${CLIENT.ip6}\\]:\\d+ .*dst\\.addr=\\[${SERVER.ip6}\\]:15008 `),
  );
  assert.match(access(server, target)[0]!, /src\.workload="cart" .*src\.identity="spiffe:/);
});

test('a dual-stack service: an endpoint’s address of the family that was asked for', async () => {
  const port = await serve(SERVER.netns, (socket) => socket.end(socket.localAddress ?? ''));
  const vips = [ip('10.96.7.7'), ip('fd96::7')].map((address) => ({ network: '', ip: address }));
  const made: Service = { ...service('dual', '10.96.7.7', new Map([[80, port]])), vips, ipFamilies: 'Dual' };
  const stock = { ...workloads[1]!, services: new Map([[serviceKeyOf(made), new Map()]]) };
  for (const { plane } of [client, server])
    plane.store.apply({
      addresses: [
        { kind: 'service', service: made },
        { kind: 'workload', workload: stock },
      ],
    });
  assert.equal((await ask(dial(CLIENT.netns, '10.96.7.7', 80), 'x')).replace('::ffff:', ''), SERVER.ip);
  assert.equal(await ask(dial(CLIENT.netns, 'fd96::7', 80), 'x'), SERVER.ip6);
  // A service of one family leads there whatever was asked for.
  for (const { plane } of [client, server])
    plane.store.apply({ addresses: [{ kind: 'service', service: { ...made, ipFamilies: 'IPv6' } }] });
  assert.equal(await ask(dial(CLIENT.netns, '10.96.7.7', 80), 'x'), SERVER.ip6);
});

test('a pod that calls itself through a service is served, by its own address', async () => {
  let seen: string | undefined;
  const port = await serve(SERVER.netns, (socket) => {
    seen = socket.remoteAddress;
    socket.pipe(socket);
  });
  const made: Service = { ...service('self', '10.96.7.8', new Map([[80, port]])) };
  const stock = { ...workloads[1]!, services: new Map([[serviceKeyOf(made), new Map()]]) };
  server.plane.store.apply({
    addresses: [
      { kind: 'service', service: made },
      { kind: 'workload', workload: stock },
    ],
  });
  assert.equal(await ask(dial(SERVER.netns, '10.96.7.8', 80), 'me'), 'me');
  assert.equal(seen?.replace('::ffff:', ''), SERVER.ip);
  const target = `dst.hbone_addr=${SERVER.ip}:${port}`;
  await until('both ends in one log', () => access(server, target).length === 2);
});

test('a loop to the proxy’s own ports is refused, by address and through a tunnel', async () => {
  for (const port of [15_001, 15_006])
    assert.equal(await ask(dial(CLIENT.netns, SERVER.ip, port), 'loop'), '');
  await until('both refusals', () => access(server, 'belongs to the proxy itself').length >= 2);
});

test('plaintext over IPv6 from outside the mesh keeps its source address', async () => {
  let seen: string | undefined;
  const port = await serve(SERVER.netns, (socket) => {
    seen = socket.remoteAddress;
    socket.end('hello');
    socket.resume();
  });
  assert.equal(await ask(dial(ROUTER, SERVER.ip6, port), 'x'), 'hello');
  assert.equal(seen, gatewayOf(SERVER.ip6));
});

test('STRICT refuses what comes without an identity, a tunnel still passes; PERMISSIVE lets both in', async () => {
  const port = await serve(SERVER.netns, (socket) => socket.pipe(socket));
  // As the control plane turns PeerAuthentication STRICT into a policy (ztunnel.md §7.6).
  const strict: Policy = policyOf({
    name: 'istio_converted_static_strict',
    namespace: 'shop',
    scope: 'Namespace',
    action: 'Deny',
    rules: [{ clauses: [[matchOf({ notPrincipals: [{ kind: 'presence' }] })]] }],
  });
  server.plane.store.apply({ policies: [strict] });
  for (const address of [SERVER.ip, SERVER.ip6]) {
    assert.equal(await ask(dial(ROUTER, address, port), 'plain'), '');
    assert.equal(await ask(dial(CLIENT.netns, address, port), 'mutual'), 'mutual');
  }
  server.plane.store.apply({ removedPolicies: ['shop/istio_converted_static_strict'] });
  assert.equal(await ask(dial(ROUTER, SERVER.ip, port), 'plain'), 'plain');
});

test('10 MB each way through both proxies', async () => {
  const port = await serve(SERVER.netns, (socket) => socket.pipe(socket));
  const payload = Buffer.alloc(10_000_000, 'culvert');
  const socket = dial(CLIENT.netns, SERVER.ip, port);
  const answer = readAll(socket);
  socket.end(payload);
  assert.ok((await answer).equals(payload));
});

test('plaintext from outside the mesh arrives with its own source address and no identity', async () => {
  let seen: string | undefined;
  const port = await serve(SERVER.netns, (socket) => {
    seen = socket.remoteAddress;
    socket.end('hello outsider');
    socket.resume();
  });
  assert.equal(await ask(dial(ROUTER, SERVER.ip, port), 'x'), 'hello outsider');
  assert.equal(seen?.replace('::ffff:', ''), gatewayOf(SERVER.ip));
  const target = `dst.addr=${SERVER.ip}:${port}`;
  await until('the line', () => access(server, target).length > 0);
  assert.doesNotMatch(access(server, target)[0]!, /identity/);
});

test('traffic to what the mesh does not know passes through', async () => {
  const port = await serve(ROUTER, (socket) => socket.end('router'));
  assert.equal(await ask(dial(CLIENT.netns, gatewayOf(CLIENT.ip), port), 'x'), 'router');
  await until('the line', () => access(client, `dst.addr=${gatewayOf(CLIENT.ip)}:${port}`).length > 0);
});

test('a pod whose listeners cannot be bound is refused with a text and holds readiness back', async () => {
  const notNetns = openSync('/dev/null', 'r');
  const info = { name: 'broken', namespace: 'shop', serviceAccount: 'broken' };
  const answer = await client.agent.send({ kind: 'add', uid: 'uid-broken', info }, notNetns);
  closeSync(notNetns);
  assert.match(answer, /^pod shop\/broken: .*namespace/);
  assert.deepEqual(client.plane.readiness.pending(), ['workload proxy manager']);
  assert.equal(await client.agent.send({ kind: 'del', uid: 'uid-broken' }), '');
  assert.deepEqual(client.plane.readiness.pending(), []);
});

test('the same pod again is fine; removal cuts its connections', async () => {
  await enrol(client, CLIENT);
  const port = await serve(SERVER.netns, (socket) => socket.pipe(socket));
  const socket = dial(CLIENT.netns, SERVER.ip, port);
  socket.write('live');
  await once(socket, 'data');
  const closed = readAll(socket);
  assert.equal(await client.agent.send({ kind: 'del', uid: 'uid-cart' }), '');
  await closed;
  socket.destroy();
  await until('the line', () => access(client, 'connection closed due to connection drain').length > 0);
  assert.equal(client.plane.pods.size, 0);
  assert.deepEqual([client.fatal, server.fatal], [[], []]);
});
