// Two data planes in one process, with real sockets, TLS and HTTP/2 between them; only namespaces are missing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type net from 'node:net';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gunzipSync } from 'node:zlib';
import type { Policy } from '#model/policy.ts';
import type { Workload } from '#model/workload.ts';
import { until } from '../lib/until.ts';
import {
  application,
  ownAddress,
  readAll,
  service,
  serviceKeyOf,
  startPlane,
  type TestAuthority,
  type TestPlane,
  testAuthority,
  workload,
} from './ztunnel-rig.ts';

const CLIENT = ownAddress(2);
const SERVER = ownAddress(3);
const OTHER = ownAddress(4);
const PLAIN = ownAddress(5);
const VIP = ownAddress(100);

let authority: TestAuthority;
let one: TestPlane;
let two: TestPlane;
const servers: net.Server[] = [];
const cart = workload('cart', CLIENT, 'n1');
let stock: Workload;
let echoPort: number;
let greetPort: number;
const stockService = service('stock', VIP, new Map([[80, 0]]));

async function serve(podIp: string, onSocket: (socket: net.Socket) => void): Promise<number> {
  const { port, server } = await application(podIp, onSocket);
  servers.push(server);
  return port;
}

before(async () => {
  authority = await testAuthority();
  echoPort = await serve(SERVER, (socket) => socket.pipe(socket));
  greetPort = await serve(SERVER, (socket) => {
    socket.write('220 stock ready\n');
    socket.on('end', () => socket.end());
    socket.resume();
  });
  stock = workload('stock', SERVER, 'n2', {
    services: new Map([[serviceKeyOf(stockService), new Map([[80, echoPort]])]]),
  });
  one = await startPlane('n1', authority.client);
  two = await startPlane('n2', authority.client);
  for (const { plane } of [one, two])
    plane.store.apply({
      addresses: [
        { kind: 'workload', workload: cart },
        { kind: 'workload', workload: stock },
        { kind: 'service', service: stockService },
      ],
    });
  await one.addPod(cart);
  await two.addPod(stock);
});

after(() => {
  for (const server of servers) server.close();
  one?.plane.close();
  two?.plane.close();
});

const deny: Policy = {
  name: 'no-cart',
  namespace: 'shop',
  scope: 'Namespace',
  action: 'Deny',
  dryRun: false,
  rules: [
    {
      clauses: [
        [
          {
            namespaces: [],
            notNamespaces: [],
            serviceAccounts: [],
            notServiceAccounts: [],
            principals: [{ kind: 'exact', text: 'cluster.local/ns/shop/sa/cart' }],
            notPrincipals: [],
            sourceIps: [],
            notSourceIps: [],
            destinationIps: [],
            notDestinationIps: [],
            destinationPorts: [],
            notDestinationPorts: [],
          },
        ],
      ],
    },
  ],
};

async function ask(socket: net.Socket, text: string): Promise<string> {
  const answer = readAll(socket);
  socket.end(text);
  return (await answer).toString();
}

test('a request to a service goes through a tunnel; both logs carry both identities', async () => {
  const socket = one.capture.dialFrom(CLIENT, `${VIP}:80`);
  assert.equal(await ask(socket, 'ping through the mesh'), 'ping through the mesh');
  const authorityText = `dst.hbone_addr=${SERVER}:${echoPort}`;
  await until(
    'both lines',
    () => one.access(authorityText).length > 0 && two.access(authorityText).length > 0,
  );
  const [out] = one.access(authorityText);
  const [into] = two.access(authorityText);
  assert.match(
    out!,
    new RegExp(
      [
        '\\tinfo\\taccess\\tconnection complete',
        `src\\.addr=${CLIENT}:\\d+ src\\.workload="cart" src\\.namespace="shop" src\\.identity="spiffe://cluster\\.local/ns/shop/sa/cart" src\\.cluster="Kubernetes" dst\\.addr=${SERVER}:15008 ${authorityText} dst\\.service="stock\\.shop\\.svc\\.cluster\\.local" dst\\.workload="stock" dst\\.namespace="shop" dst\\.identity="spiffe://cluster\\.local/ns/shop/sa/stock" dst\\.cluster="Kubernetes" direction="outbound" bytes_sent=21 bytes_recv=21 duration="\\d+ms" connection_id="[0-9a-f]{32}"\\n$`,
      ].join('\\t'),
    ),
  );
  assert.match(into!, /src\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/cart"/);
  assert.match(into!, /dst\.service="stock\.shop\.svc\.cluster\.local"/);
  assert.match(into!, /direction="inbound" bytes_sent=21 bytes_recv=21/);
  const idOf = (line: string): string | undefined => /connection_id="(\w+)"/.exec(line)?.[1];
  assert.equal(idOf(into!), idOf(out!));
});

test('a server that speaks first is heard through the tunnel', async () => {
  const socket = one.capture.dialFrom(CLIENT, `${SERVER}:${greetPort}`);
  const [greeting] = await once(socket, 'data');
  assert.equal(String(greeting), '220 stock ready\n');
  socket.end();
});

test('half-close: the answer comes after the request has ended', async () => {
  const port = await serve(SERVER, (socket) => {
    readAll(socket).then(
      (request) => socket.end(`${request.length} bytes`),
      () => {},
    );
  });
  assert.equal(await ask(one.capture.dialFrom(CLIENT, `${SERVER}:${port}`), 'x'.repeat(5000)), '5000 bytes');
});

test('10 MB each way, byte for byte', async () => {
  const payload = Buffer.alloc(10_000_000);
  for (let index = 0; index < payload.length; index += 4)
    payload.writeUInt32LE((index * 2_654_435_761) >>> 0, index);
  const socket = one.capture.dialFrom(CLIENT, `${SERVER}:${echoPort}`);
  const answer = readAll(socket);
  socket.end(payload);
  assert.ok((await answer).equals(payload));
});

test('many connections at once share a session', async () => {
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      ask(one.capture.dialFrom(CLIENT, `${SERVER}:${echoPort}`), `number ${index}`),
    ),
  );
  assert.deepEqual(
    answers,
    Array.from({ length: 40 }, (_, index) => `number ${index}`),
  );
});

test('the application sees the client’s own address', async () => {
  const seen = Promise.withResolvers<string | undefined>();
  const port = await serve(SERVER, (socket) => {
    seen.resolve(socket.remoteAddress);
    socket.end();
  });
  const socket = one.capture.dialFrom(CLIENT, `${SERVER}:${port}`);
  socket.end();
  assert.equal(await seen.promise, CLIENT);
});

test('an application that refuses: the client is closed, both sides say so', async () => {
  const { port, server } = await application(SERVER, () => {});
  server.close();
  await once(server, 'close');
  const socket = one.capture.dialFrom(CLIENT, `${SERVER}:${port}`);
  assert.equal((await readAll(socket)).length, 0);
  const target = `dst.hbone_addr=${SERVER}:${port}`;
  await until('both lines', () => one.access(target).length > 0 && two.access(target).length > 0);
  assert.match(one.access(target)[0]!, /\terror\taccess\t.*error="[^"]*503[^"]*" reason="HBONE_REFUSED"/);
  assert.match(two.access(target)[0]!, /error="[^"]*ECONNREFUSED[^"]*" reason="CONNECT_FAILED"/);
});

test('a policy refuses with 401, a reason and its name; lifting it lets the next connection in', async () => {
  two.plane.store.apply({ policies: [deny] });
  const socket = one.capture.dialFrom(CLIENT, `${SERVER}:${echoPort}`);
  assert.equal((await readAll(socket)).length, 0);
  await until('the refusal', () => two.access('policy="shop/no-cart"', 'POLICY_DENIED').length > 0);
  const [line] = two.access('POLICY_DENIED');
  assert.match(
    line!,
    /error="connection closed due to policy rejection: explicitly denied by: shop\/no-cart/,
  );
  await until('the client side', () => one.access('reason="HBONE_REFUSED"', '401').length > 0);
  two.plane.store.apply({ removedPolicies: ['shop/no-cart'] });
  assert.equal(await ask(one.capture.dialFrom(CLIENT, `${SERVER}:${echoPort}`), 'again'), 'again');
});

/** What is cut does not look complete. */
async function wasReset(socket: net.Socket): Promise<void> {
  const [error] = (await once(socket, 'error', { signal: AbortSignal.timeout(60_000) })) as [
    NodeJS.ErrnoException,
  ];
  assert.equal(error.code, 'ECONNRESET');
}

test('a policy change closes the live connections it denies, and only those', async () => {
  const visitor = workload('visitor', ownAddress(6), 'n1');
  for (const { plane } of [one, two])
    plane.store.apply({ addresses: [{ kind: 'workload', workload: visitor }] });
  await one.addPod(visitor);
  const denied = one.capture.dialFrom(CLIENT, `${SERVER}:${echoPort}`);
  const kept = one.capture.dialFrom(ownAddress(6), `${SERVER}:${echoPort}`);
  for (const socket of [denied, kept]) {
    socket.write('live');
    await once(socket, 'data');
  }
  const cut = wasReset(denied);
  two.plane.store.apply({ policies: [deny] });
  await cut;
  const text = 'connection closed due to policy change';
  await until('the line', () => two.access(text).length > 0);
  assert.match(two.access(text)[0]!, /reason="POLICY_CHANGED" policy="shop\/no-cart"/);
  kept.write('still');
  assert.equal(String((await once(kept, 'data'))[0]), 'still');
  kept.end();
  two.plane.store.apply({ removedPolicies: ['shop/no-cart'] });
});

test('a selector policy attached later closes live connections too', async () => {
  const attached: Policy = { ...deny, name: 'attached', scope: 'WorkloadSelector' };
  const socket = one.capture.dialFrom(CLIENT, `${SERVER}:${echoPort}`);
  socket.write('live');
  await once(socket, 'data');
  const cut = wasReset(socket);
  two.plane.store.apply({ policies: [attached] });
  two.plane.store.apply({
    addresses: [{ kind: 'workload', workload: { ...stock, authorizationPolicies: ['shop/attached'] } }],
  });
  await cut;
  await until('the line', () => two.access('POLICY_CHANGED', 'shop/attached').length > 0);
  two.plane.store.apply({
    addresses: [{ kind: 'workload', workload: stock }],
    removedPolicies: ['shop/attached'],
  });
});

test('plaintext in: served without an identity, and judged by the same policies', async () => {
  const target = `${SERVER}:${echoPort}`;
  assert.equal(await ask(two.capture.dialPlain(SERVER, target, PLAIN), 'plain'), 'plain');
  await until('the line', () => two.access(`src.addr=${PLAIN}`, 'connection complete').length > 0);
  const [line] = two.access(`src.addr=${PLAIN}`);
  assert.doesNotMatch(line!, /src\.identity|dst\.identity|hbone_addr/);
  const empty = deny.rules[0]!.clauses[0]![0]!;
  const strict: Policy = {
    ...deny,
    name: 'istio_converted_static_strict',
    rules: [{ clauses: [[{ ...empty, principals: [], notPrincipals: [{ kind: 'presence' }] }]] }],
  };
  two.plane.store.apply({ policies: [strict] });
  assert.equal((await readAll(two.capture.dialPlain(SERVER, target, PLAIN))).length, 0);
  await until('the refusal', () => two.access('istio_converted_static_strict').length > 0);
  two.plane.store.apply({ removedPolicies: [`shop/${strict.name}`] });
});

test('an unknown destination is passed through as it is', async () => {
  const port = await serve(OTHER, (socket) => socket.end('outside'));
  const socket = one.capture.dialFrom(CLIENT, `${OTHER}:${port}`);
  const answer = readAll(socket);
  socket.end();
  assert.equal(String(await answer), 'outside');
  await until('the line', () => one.access(`dst.addr=${OTHER}:${port}`).length > 0);
  assert.doesNotMatch(one.access(`dst.addr=${OTHER}:${port}`)[0]!, /identity|hbone_addr/);
});

test('a service without endpoints is refused with the reason', async () => {
  const lonely = service('lonely', ownAddress(101), new Map([[80, 8080]]));
  one.plane.store.apply({ addresses: [{ kind: 'service', service: lonely }] });
  const socket = one.capture.dialFrom(CLIENT, `${ownAddress(101)}:80`);
  assert.equal((await readAll(socket)).length, 0);
  await until('the line', () => one.access('connection failed', 'no healthy upstream').length > 0);
  assert.match(one.access('no healthy upstream')[0]!, /\twarn\taccess\t.* reason="NO_ROUTE"/);
});

test('a connection to the proxy itself is refused', async () => {
  const socket = one.capture.dialFrom(CLIENT, '127.0.0.1:15001');
  assert.equal((await readAll(socket)).length, 0);
  await until('the line', () => one.access('attempted recursive call to ourselves').length > 0);
});

test('a pod whose record comes late is served when it comes', async () => {
  const late = workload('late', ownAddress(7), 'n1');
  await one.addPod(late);
  const socket = one.capture.dialFrom(ownAddress(7), `${SERVER}:${echoPort}`);
  const answer = ask(socket, 'finally');
  await once(socket, 'connect');
  for (const { plane } of [one, two])
    plane.store.apply({ addresses: [{ kind: 'workload', workload: late }] });
  assert.equal(await answer, 'finally');
});

test('removing a pod ends its connections at once and frees its ports', async () => {
  const gone = workload('gone', ownAddress(8), 'n1');
  for (const { plane } of [one, two])
    plane.store.apply({ addresses: [{ kind: 'workload', workload: gone }] });
  await one.addPod(gone);
  const socket = one.capture.dialFrom(ownAddress(8), `${SERVER}:${echoPort}`);
  socket.write('live');
  await once(socket, 'data');
  const cut = wasReset(socket);
  one.plane.pods.remove(gone.uid);
  await cut;
  await until('the line', () => one.access('src.workload="gone"', 'connection drain').length > 0);
  await one.addPod(gone);
  one.plane.pods.remove(gone.uid);
});

test('admin, metrics and readiness answer', async () => {
  const { admin, stats, readiness } = one.plane.ports;
  const get = async (port: number, path: string, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    return { status: response.status, body: await response.text() };
  };
  assert.deepEqual(await get(readiness, '/healthz/ready'), { status: 200, body: 'ready\n' });
  assert.equal((await get(readiness, '/healthz/ready', 'POST')).status, 405);
  assert.equal((await get(readiness, '/nothing')).status, 404);
  const { body } = await get(stats, '/metrics');
  assert.match(
    body,
    /istio_tcp_connections_opened_total\{reporter="source",source_workload="cart",.*destination_workload="stock",.*connection_security_policy="mutual_tls"\} \d+/,
  );
  assert.ok(body.endsWith('# EOF\n'));
  assert.equal((await get(stats, '/stats/prometheus')).status, 200);
  const dump = JSON.parse((await get(admin, '/config_dump')).body) as Record<string, unknown>;
  assert.deepEqual(Object.keys(dump), [
    'certificates',
    'config',
    'policies',
    'services',
    'stagedServices',
    'staticConfig',
    'version',
    'workloadState',
    'workloads',
  ]);
  const certificates = dump.certificates as { identity: string; state: string }[];
  assert.ok(
    certificates.some(({ identity, state }) => identity.endsWith('/sa/cart') && state === 'Available'),
  );
  assert.deepEqual((dump.workloadState as Record<string, { state: string; info: unknown }>)[cart.uid]?.info, {
    name: 'cart',
    namespace: 'shop',
    serviceAccount: 'cart',
  });
  assert.equal((await get(admin, '/logging', 'GET')).status, 405);
  assert.equal((await get(admin, '/logging?level=loud', 'POST')).status, 400);
  assert.equal((await get(admin, '/logging?level=debug', 'POST')).body, 'current log level is debug\n');
  // As istioctl asks for it.
  assert.equal((await get(admin, '/logging?level=', 'POST')).body, 'current log level is debug\n');
  assert.equal((await get(admin, '/logging?reset', 'POST')).body, 'current log level is info\n');
  assert.equal(
    (await get(admin, '/logging?level=access=warn', 'POST')).body,
    'current log level is access=warn,info\n',
  );
  assert.equal((await get(admin, '/logging?reset', 'POST')).body, 'current log level is info\n');
  const resources = JSON.parse((await get(admin, '/debug/resources')).body) as Record<string, number>;
  assert.ok(resources.TCPServerWrap! >= 3, JSON.stringify(resources));
  assert.equal((await get(admin, '/debug/pprof/profile?seconds=301')).status, 400);
  assert.equal((await get(admin, '/debug/pprof/profile?frequency=0')).status, 400);
  assert.equal((await get(admin, '/debug/pprof/heap')).status, 500);
  assert.equal((await get(admin, '/debug/pprof/heap/profiling')).body, 'heap profiling active: false\n');
  assert.equal((await get(admin, '/quitquitquit', 'GET')).status, 405);
  assert.equal((await get(admin, '/quitquitquit', 'POST')).body, 'shutdown now\n');
});

test('metrics are compressed for who takes it', async () => {
  const url = `http://127.0.0.1:${one.plane.ports.stats}/metrics`;
  const coding = async (accepted: string): Promise<string | null> => {
    const response = await fetch(url, { headers: { 'accept-encoding': accepted } });
    assert.equal(response.headers.get('vary'), 'accept-encoding');
    assert.ok((await response.text()).endsWith('# EOF\n'));
    return response.headers.get('content-encoding');
  };
  assert.deepEqual(
    [await coding('gzip, deflate'), await coding('identity'), await coding('gzip;q=0')],
    ['gzip', null, null],
  );
});

test('a CPU profile and a heap profile name the functions of this process', async () => {
  const admin = `http://127.0.0.1:${one.plane.ports.admin}/debug/pprof`;
  const post = async (path: string): Promise<Buffer> =>
    Buffer.from(await (await fetch(`${admin}/${path}`)).arrayBuffer());
  let isBusy = true;
  const spinABit = (): void => {
    const untilMs = performance.now() + 20;
    while (performance.now() < untilMs) Math.sqrt(untilMs);
    if (isBusy) setImmediate(spinABit);
  };
  spinABit();
  const cpu = await post('profile?seconds=1&frequency=1000');
  isBusy = false;
  assert.ok(cpu.includes('spinABit') && cpu.includes('nanoseconds'));
  assert.equal(String(await post('heap/profiling?activate=true')), 'heap profiling active: true\n');
  const kept = Array.from({ length: 100_000 }, (_, at) => ({ at }));
  const heap = gunzipSync(await post('heap'));
  assert.equal(kept.length, 100_000);
  assert.ok(heap.includes('inuse_space') && heap.includes('ztunnel.test.ts'));
  assert.equal(String(await post('heap/profiling?activate=false')), 'heap profiling active: false\n');
});

test('nothing is left open after all that', async () => {
  await until(
    'all connections released',
    () => one.plane.connections.size + two.plane.connections.size === 0,
  );
  assert.deepEqual([one.fatal, two.fatal], [[], []]);
});

test('drain: listeners close at once, a live connection may finish', async () => {
  const draining = await startPlane('n3', authority.client, { drainMs: 60_000 });
  const own = workload('draining', ownAddress(9), 'n3');
  draining.plane.store.apply({ addresses: [{ kind: 'workload', workload: own }] });
  await draining.addPod(own);
  const port = await serve(OTHER, (socket) => socket.pipe(socket));
  const socket = draining.capture.dialFrom(ownAddress(9), `${OTHER}:${port}`);
  socket.write('before');
  await once(socket, 'data');
  const drained = draining.plane.drain();
  const refused = draining.capture.dialFrom(ownAddress(9), `${OTHER}:${port}`);
  const [error] = await once(refused, 'error');
  assert.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
  socket.write(' and after');
  await once(socket, 'data');
  socket.end();
  assert.deepEqual(await drained, { kind: 'finished' });
});

test('drain: what is still live at the deadline is cut and said', async () => {
  const draining = await startPlane('n3', authority.client, { drainMs: 20 });
  const own = workload('draining', ownAddress(10), 'n3');
  draining.plane.store.apply({ addresses: [{ kind: 'workload', workload: own }] });
  await draining.addPod(own);
  const port = await serve(OTHER, (socket) => socket.pipe(socket));
  const socket = draining.capture.dialFrom(ownAddress(10), `${OTHER}:${port}`);
  socket.write('live');
  await once(socket, 'data');
  const closed = readAll(socket);
  assert.deepEqual(await draining.plane.drain(), { kind: 'deadline', cut: 1 });
  await closed;
  assert.equal(draining.access('connection closed due to connection drain').length, 1);
});

test('a data plane in a worker thread serves one in the main thread', async () => {
  const podIp = ownAddress(11);
  const far = workload('far', podIp, 'n4');
  const worker = new Worker(new URL('./ztunnel-worker.ts', import.meta.url), {
    workerData: {
      node: 'n4',
      podIp,
      clientIp: CLIENT,
      certPem: authority.certPem,
      keyPem: authority.keyPem,
    },
  });
  try {
    const [port] = (await once(worker, 'message')) as [number];
    one.plane.store.apply({ addresses: [{ kind: 'workload', workload: far }] });
    const socket = one.capture.dialFrom(CLIENT, `${podIp}:${port}`);
    assert.equal(await ask(socket, 'across threads'), 'across threads');
  } finally {
    await worker.terminate();
  }
});
