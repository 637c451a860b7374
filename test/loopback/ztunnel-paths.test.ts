// The less trodden ways through two data planes: another endpoint when one fails, names instead of addresses, PROXY
// tunnels, other networks. Real sockets, TLS and HTTP/2; only namespaces are missing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { createHboneServer } from '#hbone/server.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Service } from '#model/service.ts';
import type { GatewayRef, Workload } from '#model/workload.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import { createAuthority } from '#tls/issue.ts';
import { copy } from '#ztunnel/copy.ts';
import { until } from '../lib/until.ts';
import { newSecret } from './hbone-peers.ts';
import {
  application,
  dialEnd,
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
const FIRST = ownAddress(3);
const SECOND = ownAddress(4);
const NOBODY = ownAddress(5);
const PLAIN = ownAddress(6);
const LEAVING = ownAddress(7);
const TUNNELLED = ownAddress(8);
const FAR = ownAddress(9);
const GATEWAY = ownAddress(10);

const scope = new Scope('test');
let authority: TestAuthority;
let client: TestPlane;
let server: TestPlane;
let far: TestPlane;
const asked: string[] = [];
const cart = workload('cart', CLIENT, 'n1');

let lastVip = 0;
const newVip = (): string => ownAddress(100 + ++lastVip);

async function serve(podIp: string, onSocket: (socket: net.Socket) => void): Promise<number> {
  const { port, server: one } = await application(podIp, onSocket);
  scope.onClose(() => one.close());
  return port;
}

/** A port on which nobody listens. */
async function closedPort(podIp: string): Promise<number> {
  const { port, server: one } = await application(podIp, () => {});
  one.close();
  await once(one, 'close');
  return port;
}

async function ask(socket: net.Socket, text: string): Promise<string> {
  const answer = readAll(socket);
  socket.end(text);
  return (await answer).toString();
}

interface Endpoint {
  readonly name: string;
  readonly ip: string;
  readonly port: number;
  readonly more?: Partial<Workload>;
}

/** A new service with these endpoints, known to client and server. */
async function offer(
  name: string,
  endpoints: readonly Endpoint[],
  more: Partial<Service> = {},
): Promise<{ readonly address: string; readonly workloads: readonly Workload[] }> {
  const made = { ...service(name, newVip(), new Map([[80, 0]])), ...more };
  const workloads = endpoints.map((endpoint) =>
    workload(endpoint.name, endpoint.ip, 'n2', {
      services: new Map([[serviceKeyOf(made), new Map([[80, endpoint.port]])]]),
      ...endpoint.more,
    }),
  );
  for (const { plane } of [client, server])
    plane.store.apply({
      addresses: [
        { kind: 'service', service: made },
        ...workloads.map((one) => ({ kind: 'workload', workload: one }) as const),
      ],
    });
  return { address: `${made.vips[0]!.ip}:80`, workloads };
}

before(async () => {
  authority = await testAuthority();
  client = await startPlane(
    'n1',
    authority.client,
    {},
    {
      queryDns: async (hostname, family) => {
        asked.push(`${hostname} ${family}`);
        if (hostname !== 'db.example.com') throw new Error(`queryA ENOTFOUND ${hostname}`);
        return family === 4 ? [{ address: PLAIN, ttl: 60 }] : [];
      },
    },
  );
  server = await startPlane('n2', authority.client);
  far = await startPlane('n3', authority.client, { network: 'west' });
  for (const { plane } of [client, server])
    plane.store.apply({ addresses: [{ kind: 'workload', workload: cart }] });
  await client.addPod(cart);
});

after(() => {
  scope.close();
  for (const one of [client, server, far]) one?.plane.close();
});

/** So many connections, each with its first bytes sent before anything is decided; all must be answered in full. */
async function askAll(address: string, count: number): Promise<void> {
  const answers = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      ask(client.capture.dialFrom(CLIENT, address), `hello ${index}`),
    ),
  );
  assert.deepEqual(
    answers,
    Array.from({ length: count }, (_, index) => `hello ${index}`),
  );
}

test('an endpoint whose application is down: the other one answers, every byte included', async () => {
  const port = await serve(SECOND, (socket) => socket.pipe(socket));
  const { address, workloads } = await offer('halfdown', [
    { name: 'down', ip: FIRST, port: await closedPort(FIRST) },
    { name: 'up', ip: SECOND, port },
  ]);
  for (const one of workloads) await server.addPod(one);
  await askAll(address, 60);
  assert.equal(client.lines.filter((line) => line.includes('trying another endpoint')).length > 0, true);
  const line = 'dst.service="halfdown.shop.svc.cluster.local"';
  await until('60 lines', () => client.access(line).length === 60);
  for (const text of client.access(line)) assert.match(text, /\tinfo\t.*dst\.workload="up"/);
  assert.ok(server.access('dst.workload="down"', 'error=').length > 0);
});

test('an endpoint that is gone: its address refuses the tunnel, the other one answers', async () => {
  const port = await serve(SECOND, (socket) => socket.pipe(socket));
  const { address } = await offer('halfgone', [
    { name: 'gone', ip: NOBODY, port: 1 },
    { name: 'up', ip: SECOND, port },
  ]);
  await askAll(address, 40);
});

test('an endpoint whose address belongs to another workload by now: the other one answers', async () => {
  const port = await serve(SECOND, (socket) => socket.pipe(socket));
  const { address } = await offer('reused', [
    { name: 'was-here', ip: FIRST, port: 1, more: { serviceAccount: 'was-here' } },
    { name: 'up', ip: SECOND, port },
  ]);
  // FIRST answers as `down`.
  await askAll(address, 20);
  await until('a look at the wrong one', () =>
    client.lines.some((line) => line.includes('trying another') && line.includes('expected spiffe')),
  );
});

test('plain endpoints too: a refused connection goes to the other one', async () => {
  const port = await serve(PLAIN, (socket) => socket.pipe(socket));
  const more = { protocol: 'TCP' } as const;
  const { address } = await offer('plainhalf', [
    { name: 'plain-down', ip: NOBODY, port: await closedPort(NOBODY), more },
    { name: 'plain-up', ip: PLAIN, port, more },
  ]);
  await askAll(address, 30);
});

test('when every endpoint fails the connection fails, and says so once', async () => {
  const { address } = await offer('alldown', [
    { name: 'down', ip: FIRST, port: await closedPort(FIRST) },
    { name: 'gone', ip: NOBODY, port: 1 },
  ]);
  assert.equal(await ask(client.capture.dialFrom(CLIENT, address), 'x'), '');
  const line = 'dst.service="alldown.shop.svc.cluster.local"';
  await until('the line', () => client.access(line).length > 0);
  assert.equal(client.access(line).length, 1);
  assert.match(client.access(line)[0]!, /reason="(HBONE_REFUSED|CONNECT_FAILED)"/);
});

test('a far proxy that goes away under load costs no connection: what it no longer takes, another endpoint does', async () => {
  const leaving = await startPlane('n4', authority.client, { drainMs: 5_000 });
  scope.onClose(() => leaving.plane.close());
  const leavingPort = await serve(LEAVING, (socket) => socket.pipe(socket));
  const stayingPort = await serve(SECOND, (socket) => socket.pipe(socket));
  const { address, workloads } = await offer('leaving', [
    { name: 'leaving', ip: LEAVING, port: leavingPort, more: { node: 'n4' } },
    { name: 'up', ip: SECOND, port: stayingPort },
  ]);
  leaving.plane.store.apply({ addresses: [{ kind: 'workload', workload: workloads[0]! }] });
  await leaving.addPod(workloads[0]!);
  await askAll(address, 20);
  assert.ok(leaving.access('dst.workload="leaving"').length > 0);
  const rounds: Promise<void>[] = [];
  let drained: Promise<unknown> = Promise.resolve();
  for (let round = 0; round < 40; round++) {
    rounds.push(askAll(address, 5));
    if (round === 10) drained = leaving.plane.drain();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await Promise.all(rounds);
  await drained;
});

test('a refusal by policy is final: no other endpoint is tried', async () => {
  const port = await serve(SECOND, (socket) => socket.pipe(socket));
  const { address } = await offer('guarded', [
    { name: 'down', ip: FIRST, port },
    { name: 'up', ip: SECOND, port },
  ]);
  const before = client.lines.length;
  server.plane.store.apply({
    policies: [
      { name: 'nobody', namespace: 'shop', scope: 'Namespace', action: 'Allow', dryRun: false, rules: [] },
    ],
  });
  for (let index = 0; index < 4; index++)
    assert.equal(await ask(client.capture.dialFrom(CLIENT, address), 'x'), '');
  server.plane.store.apply({ removedPolicies: ['shop/nobody'] });
  const lines = client.lines.slice(before);
  assert.equal(lines.filter((line) => line.includes('http status: 401')).length, 4);
  assert.deepEqual(
    lines.filter((line) => line.includes('trying another')),
    [],
  );
});

test('a workload known by host name is looked up when it is needed, and counted', async () => {
  const port = await serve(PLAIN, (socket) => socket.pipe(socket));
  const byName = { protocol: 'TCP', ips: [] } as const;
  const { address } = await offer('database', [
    { name: 'db', ip: PLAIN, port, more: { ...byName, hostname: 'db.example.com' } },
  ]);
  await askAll(address, 5);
  assert.deepEqual(asked.sort(), ['db.example.com 4', 'db.example.com 6']);
  const stats = await fetch(`http://127.0.0.1:${client.plane.ports.stats}/metrics`);
  const counter = (await stats.text())
    .split('\n')
    .find((text) => text.startsWith('istio_on_demand_dns_total'));
  assert.match(counter ?? '', /source_workload="cart".*hostname="db\.example\.com".* 5$/);
});

test('a host name that nobody knows is refused by name', async () => {
  const byName = { protocol: 'TCP', ips: [], hostname: 'nowhere.example' } as const;
  const { address } = await offer('nowhere', [{ name: 'nowhere', ip: PLAIN, port: 80, more: byName }]);
  assert.equal(await ask(client.capture.dialFrom(CLIENT, address), 'x'), '');
  await until(
    'the line',
    () => client.access('the host name nowhere.example could not be resolved').length > 0,
  );
  assert.match(client.access('nowhere.example')[0]!, /\twarn\t.*connection failed.*reason="NO_ROUTE"/);
});

test('a PROXY tunnel: the application on loopback is told client, destination and identity first', async () => {
  const port = await serve('127.0.0.1', (socket) => socket.pipe(socket));
  const { address, workloads } = await offer('tunnelled', [
    {
      name: 'tunnelled',
      ip: TUNNELLED,
      port: 8080,
      more: { applicationTunnel: { protocol: 'PROXY', port } },
    },
  ]);
  await server.addPod(workloads[0]!);
  const socket = client.capture.dialFrom(CLIENT, address);
  const answer = readAll(socket);
  socket.end('behind the header');
  const bytes = await answer;
  const identity = Buffer.from('spiffe://cluster.local/ns/shop/sa/cart');
  assert.equal(bytes.subarray(0, 14).toString('hex'), '0d0a0d0a000d0a515549540a2111');
  assert.equal(bytes.subarray(16, 20).join('.'), CLIENT);
  assert.equal(bytes.subarray(20, 24).join('.'), TUNNELLED);
  assert.equal(bytes.readUInt16BE(26), 8080);
  assert.equal(bytes[28], 0xd0);
  assert.deepEqual(bytes.subarray(31, 31 + identity.length), identity);
  assert.equal(bytes.subarray(31 + identity.length).toString(), 'behind the header');
});

/** An east-west gateway: ends outer tunnels and passes on what is in them, to the far pod's own 15008. */
async function startGateway(identity: string): Promise<void> {
  const issuer = await createAuthority({ organization: 'test', validDays: 1, ...authority });
  const secret = await newSecret(issuer, identity as SpiffeId);
  const hbone = createHboneServer({
    secret: async () => secret,
    onRequest: async (request) => {
      const end = await dialEnd({ ip: ip(FAR), port: 15_008 as Port }, ip(GATEWAY));
      copy(request.accept({}), end, { forward: { value: 0 }, backward: { value: 0 } }, () => {});
    },
    log: silentLogger,
    scope,
  });
  const listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => hbone.accept(socket));
  listener.listen(15_008, GATEWAY);
  scope.onClose(() => listener.close());
  await once(listener, 'listening');
}

test('a service on another network: a tunnel in a tunnel, and both ends know each other', async () => {
  const gateway = workload('eastwest', GATEWAY, '', { network: 'west', namespace: 'istio-system' });
  await startGateway('spiffe://cluster.local/ns/istio-system/sa/eastwest');
  const port = await serve(FAR, (socket) => socket.pipe(socket));
  const networkGateway: GatewayRef = {
    destination: { kind: 'address', address: { network: 'west', ip: ip(GATEWAY) } },
    hbonePort: 15_008,
  };
  const subjectAltNames = ['spiffe://cluster.local/ns/shop/sa/far'];
  const { address, workloads } = await offer(
    'far',
    [
      {
        name: 'far',
        ip: FAR,
        port,
        more: { network: 'west', node: 'n3', clusterId: 'west', networkGateway },
      },
    ],
    { subjectAltNames },
  );
  client.plane.store.apply({
    addresses: [
      { kind: 'workload', workload: gateway },
      // As the control plane of the near network describes it: without an address of its own.
      { kind: 'workload', workload: { ...workloads[0]!, ips: [] } },
    ],
  });
  const farService = { ...service('far', FAR, new Map([[80, 0]])), vips: [] };
  far.plane.store.apply({
    addresses: [
      { kind: 'workload', workload: workloads[0]! },
      { kind: 'service', service: farService },
    ],
  });
  await far.addPod(workloads[0]!);
  await askAll(address, 10);

  const authorityText = 'dst.hbone_addr=far.shop.svc.cluster.local:80';
  await until(
    'both ends’ lines',
    () => client.access(authorityText).length === 10 && far.access(authorityText).length === 10,
  );
  assert.match(
    client.access(authorityText)[0]!,
    new RegExp(
      `dst\\.addr=${GATEWAY}:15008 .*dst\\.workload="far" dst\\.namespace="shop" dst\\.identity="spiffe://cluster\\.local/ns/shop/sa/far" dst\\.cluster="west"`,
    ),
  );
  // The gateway's address is nobody's source: the client describes itself.
  assert.match(
    far.access(authorityText)[0]!,
    new RegExp(
      `src\\.addr=${GATEWAY}:\\d+ src\\.workload="cart" src\\.namespace="shop" src\\.identity="spiffe://cluster\\.local/ns/shop/sa/cart"`,
    ),
  );

  // Whoever answers behind the gateway must be the service, whatever the gateway thinks.
  const others = {
    ...service('far', address.split(':')[0]!, new Map([[80, 0]])),
    subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/x'],
  };
  client.plane.store.apply({ addresses: [{ kind: 'service', service: others }] });
  assert.equal(await ask(client.capture.dialFrom(CLIENT, address), 'x'), '');
  await until('the refusal', () => client.access('PEER_IDENTITY_MISMATCH', authorityText).length > 0);
});

test('nothing is left open after all that', async () => {
  await until('all connections are over', () =>
    [client, server, far].every(({ plane }) => plane.connections.size === 0),
  );
  assert.deepEqual([client.fatal, server.fatal, far.fatal], [[], [], []]);
});
