// What the field's ztunnel answers to CONNECT requests on 15008, and what we would (ztunnel.md §7.2, §7.3): every kind of
// authority, with and without an application tunnel; PROXY headers byte for byte; and tunnels between networks, both ways.
// By hand only: PEER_ZTUNNEL names a release build of the real one.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type net from 'node:net';
import { after, before, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import type { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { HbonePool } from '#hbone/hbone.ts';
import { openNestedTunnel } from '#hbone/nested.ts';
import { createHbonePool } from '#hbone/pool.ts';
import { createHboneServer } from '#hbone/server.ts';
import { createSessionShared } from '#hbone/session-life.ts';
import { TcpHandle } from '#linux/tcp-handle.ts';
import type { Address } from '#model/address.ts';
import type { SpiffeId } from '#model/identity.ts';
import { validateInbound } from '#model/inbound.ts';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { Service } from '#model/service.ts';
import { createStore } from '#model/store.ts';
import { type GatewayRef, serviceKey, type Workload, type WorkloadUid } from '#model/workload.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { silentLogger } from '#telemetry/log.ts';
import type { Authority } from '#tls/issue.ts';
import { copy } from '#ztunnel/copy.ts';
import { encodeProxyHeader } from '#ztunnel/proxy-header.ts';
import { TcpEnd, TcpIo } from '#ztunnel/tcp.ts';
import { WITHOUT_PEER } from '../lib/peer-program.ts';
import { until } from '../lib/until.ts';
import { echo, record } from '../loopback/hbone-peers.ts';
import { field, Namespace, newAuthority, PeerZtunnel, secretOf, startCa } from './peer.ts';

const POD = ip('10.77.0.1');
const POD6 = ip('fd77::1');
const CLIENT = ip('10.77.0.2');
const FAR = { ip: ip('10.77.0.8'), port: 15_208 as Port };
const GATEWAY = { ip: ip('10.77.0.9'), port: 15_108 as Port };
const APP_PORT = 8080;
const TUNNEL_PORT = 8089;
const [CLIENT_ID, STOCK_ID, GATEWAY_ID, FAR_ID] = ['client', 'stock', 'gateway', 'far'].map(
  (name) => `spiffe://cluster.local/ns/shop/sa/${name}` as SpiffeId,
) as [SpiffeId, SpiffeId, SpiffeId, SpiffeId];

const scope = new Scope('test');
let namespace: Namespace;
let authority: Authority;
let pool: HbonePool;
const toGateway: GatewayRef = {
  destination: { kind: 'address', address: { network: 'west', ip: GATEWAY.ip } },
  hbonePort: GATEWAY.port,
};

const key = (host: string) => serviceKey('shop', `${host}.example`);
const byName = (host: string): GatewayRef => ({
  destination: { kind: 'hostname', namespace: 'shop', hostname: `${host}.example` },
  hbonePort: 15_008,
});
const byIp = (address: string): GatewayRef => ({
  destination: { kind: 'address', address: { network: '', ip: ip(address) } },
  hbonePort: 15_008,
});
const stockOf = (applicationTunnel?: Workload['applicationTunnel']): Workload =>
  workloadOf({
    uid: 'c1//Pod/shop/stock' as WorkloadUid,
    name: 'stock',
    namespace: 'shop',
    serviceAccount: 'stock',
    ips: [POD, POD6],
    node: 'n1',
    clusterId: 'c1',
    services: new Map([
      [key('stock'), new Map([[80, APP_PORT]])],
      [key('numbered'), new Map()],
      [key('us'), new Map([[15_008, 15_008]])],
    ]),
    applicationTunnel,
  });
const pod = (name: string, address: string, fields: Partial<Workload> = {}): Address => ({
  kind: 'workload',
  workload: workloadOf({
    uid: `c1//Pod/shop/${name}` as WorkloadUid,
    name,
    namespace: 'shop',
    serviceAccount: name,
    ips: [ip(address)],
    ...fields,
  }),
});
const svc = (name: string, vip: string | undefined, fields: Partial<Service> = {}): Address => ({
  kind: 'service',
  service: serviceOf({
    name,
    namespace: 'shop',
    hostname: `${name}.example`,
    vips: vip === undefined ? [] : [{ network: '', ip: ip(vip) }],
    ports: new Map([[80, APP_PORT]]),
    ...fields,
  }),
});
const around: readonly Address[] = [
  svc('stock', '10.77.1.1', {
    ports: new Map([
      [80, 0],
      [81, 0],
    ]),
  }),
  svc('numbered', '10.77.1.2'),
  svc('stranger', '10.77.1.3'),
  svc('novip', undefined),
  svc('hidden', '10.77.1.4', { namespace: 'bank', visibility: 'Namespace' }),
  svc('illegal', '10.77.1.5', { ports: new Map([[80, 15_006]]) }),
  // A waypoint service that we are an endpoint of, and those who name it or something else.
  svc('us', '10.77.1.9', { ports: new Map([[15_008, 15_008]]) }),
  svc('others', '10.77.1.8', { ports: new Map([[15_008, 15_008]]) }),
  svc('behind-name', '10.77.2.1', { waypoint: byName('us') }),
  svc('behind-vip', '10.77.2.2', { waypoint: byIp('10.77.1.9') }),
  svc('behind-pod', '10.77.2.3', { waypoint: byIp(POD) }),
  svc('behind-others', '10.77.2.4', { waypoint: byName('others') }),
  svc('behind-nobody', '10.77.2.5', { waypoint: byName('nowhere') }),
  svc('behind-weighted', '10.77.2.6', { weightedWaypoints: [{ destination: byName('us'), weight: 1 }] }),
  pod('pod-behind', '10.77.3.1', { waypoint: byName('us') }),
  pod('pod-behind-pod', '10.77.3.2', { waypoint: byIp(POD) }),
  pod('pod-alone', '10.77.3.3'),
  // For the way out: a service on another network.
  svc('far', '10.77.4.1', { subjectAltNames: [FAR_ID] }),
  pod('far', '10.77.4.9', {
    ips: [],
    network: 'west',
    networkGateway: toGateway,
    services: new Map([[key('far'), new Map()]]),
  }),
  pod('gateway', GATEWAY.ip, { network: 'west' }),
];

const AUTHORITIES: readonly string[] = [
  ...[POD, '[fd77::1]', '10.77.0.77', '10.77.9.9'].flatMap((host) =>
    [APP_PORT, 9999, 15_001, 15_006, 15_008, 15_080].map((port) => `${host}:${port}`),
  ),
  ...[
    '10.77.1.1',
    '10.77.1.3',
    '10.77.1.4',
    '10.77.1.9',
    '10.77.2.1',
    '10.77.2.2',
    '10.77.2.3',
    '10.77.2.4',
  ].map((vip) => `${vip}:${APP_PORT}`),
  ...['10.77.2.5', '10.77.2.6', '10.77.3.1', '10.77.3.2', '10.77.3.3'].map(
    (address) => `${address}:${APP_PORT}`,
  ),
  ...['stock', 'numbered', 'stranger', 'novip', 'hidden', 'illegal', 'nowhere'].flatMap((name) =>
    [80, 81, 99].map((port) => `${name}.example:${port}`),
  ),
  POD,
  'stock.example',
  '10.77.0.1:70000',
];

before(async () => {
  if (WITHOUT_PEER !== false) return;
  namespace = new Namespace(scope, `cvii${process.pid}`, [
    ...[POD, CLIENT, FAR.ip, GATEWAY.ip].map((address) => address),
    POD6,
  ]);
  authority = await newAuthority();
  await startCa(scope, namespace, authority);
  const secret = await secretOf(authority, CLIENT_ID);
  pool = createHbonePool({
    dial: (to) => namespace.dial(to, CLIENT),
    secret: async () => secret,
    log: silentLogger,
    scope,
    clock: systemClock,
  });
  namespace.serve({ ip: '::', port: APP_PORT }, (socket) => socket.pipe(socket));
});

after(() => scope.close());

const toPeer = (destination: SocketAddress = { ip: POD, port: 15_008 as Port }) => ({
  source: CLIENT_ID,
  expected: [STOCK_ID],
  destination,
  downstreamIp: CLIENT,
});

async function statusOf(authorityText: string): Promise<number> {
  try {
    const { stream } = await pool.connect(toPeer(), authorityText, {});
    record(stream);
    stream.reset('CANCEL');
    return 200;
  } catch (error) {
    return Number((error as MeshError).details.status);
  }
}

async function withPeer(local: Workload, run: (peer: PeerZtunnel) => Promise<void>): Promise<void> {
  const own = new Scope('peer');
  const peer = new PeerZtunnel(own, namespace, local, around, authority.certPem);
  try {
    await peer.ready();
    await run(peer);
  } finally {
    await peer.end();
    own.close();
  }
}

const TUNNELS: readonly (readonly [string, Workload['applicationTunnel']])[] = [
  ['no application tunnel', undefined],
  ['an application tunnel without a protocol', { protocol: 'NONE', port: APP_PORT }],
  ['a PROXY tunnel', { protocol: 'PROXY', port: APP_PORT }],
  ['a PROXY tunnel on the port that was asked for', { protocol: 'PROXY', port: undefined }],
];

for (const [name, tunnel] of TUNNELS)
  test(`the same answer to every authority: ${name}`, {
    skip: WITHOUT_PEER,
    timeout: 60_000,
  }, async () => {
    const local = stockOf(tunnel);
    const view = createStore({ localNode: 'n1' });
    view.apply({ addresses: [{ kind: 'workload', workload: local }, ...around] });
    const illegalPorts = new Set([15_001, 15_006, 15_008, 15_080]);
    const ours = (text: string): number => {
      // The peer wants an address for a header that it does not write (docs/DIFFERENCES.md).
      if (tunnel?.protocol === 'NONE' && text === 'novip.example:80') return 503;
      // It does not know the waypoints that it chooses by weight.
      if (tunnel === undefined && text.startsWith('10.77.2.6:')) return 400;
      const decision = validateInbound({
        view,
        network: '',
        local,
        connectionIp: POD,
        authority: text,
        illegalPorts,
      });
      if (decision.kind === 'refuse') return decision.status;
      // Nobody listens elsewhere.
      return decision.target.port === APP_PORT ? 200 : 503;
    };
    await withPeer(local, async () => {
      const wrong: string[] = [];
      for (const text of AUTHORITIES) {
        const theirs = await statusOf(text);
        if (theirs !== ours(text)) wrong.push(`${text}: the peer ${theirs}, we ${ours(text)}`);
      }
      assert.deepEqual(wrong, []);
    });
  });

// Two families in one header are left out: ours then says 0x00, the only such value the protocol allows (docs/DIFFERENCES.md).
test('a PROXY header is the same, byte for byte', { skip: WITHOUT_PEER, timeout: 60_000 }, async () => {
  const received: Buffer[] = [];
  const ended: net.Socket[] = [];
  namespace.serve({ ip: '127.0.0.1', port: TUNNEL_PORT }, (socket) => {
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.on('end', () => {
      ended.push(socket);
      socket.end();
    });
  });
  await withPeer(stockOf({ protocol: 'PROXY', port: TUNNEL_PORT }), async () => {
    for (const [text, destination] of [
      ['10.77.3.3:443', { ip: ip('10.77.3.3'), port: 443 as Port }],
      ['stranger.example:80', { ip: ip('10.77.1.3'), port: 80 as Port }],
    ] as const) {
      received.length = 0;
      const { stream } = await pool.connect(toPeer(), text, {});
      record(stream);
      const before = ended.length;
      stream.end();
      await until('the application has it all', () => ended.length > before);
      const header = Buffer.concat(received);
      // The client's port is the tunnel's, which only the peer knows.
      const port = header.readUInt16BE(24);
      assert.equal(
        header.toString('hex'),
        encodeProxyHeader({ ip: CLIENT, port: port as Port }, destination, CLIENT_ID).toString('hex'),
        text,
      );
    }
  });
});

/** Ends outer tunnels and passes on what is in them. */
async function startGateway(to: SocketAddress): Promise<{ readonly authorities: string[]; close(): void }> {
  const own = scope.child('gateway');
  const authorities: string[] = [];
  const secret = await secretOf(authority, GATEWAY_ID);
  const io = new TcpIo();
  const server = createHboneServer({
    secret: async () => secret,
    onRequest: async (request) => {
      authorities.push(request.authority);
      const socket = namespace.open(to, GATEWAY.ip, { allowHalfOpen: true });
      await once(socket, 'connect');
      const end = new TcpEnd(io, TcpHandle.from(socket));
      copy(request.accept({}), end, { forward: { value: 0 }, backward: { value: 0 } }, () => {});
    },
    log: silentLogger,
    scope: own,
  });
  const listener = namespace.serve(GATEWAY, (socket) => server.accept(socket));
  return {
    authorities,
    close: () => {
      listener.close();
      own.close();
    },
  };
}

test('to the peer on another network: a tunnel in a tunnel through our gateway', {
  skip: WITHOUT_PEER,
  timeout: 60_000,
}, async () => {
  await withPeer(stockOf(), async () => {
    const gateway = await startGateway({ ip: POD, port: 15_008 as Port });
    try {
      const outerKey = { ...toPeer(GATEWAY), expected: [GATEWAY_ID] };
      const outer = await pool.connect(outerKey, 'stock.example:80', {});
      const secret = await secretOf(authority, CLIENT_ID);
      const inner = await openNestedTunnel(
        {
          secret: async () => secret,
          log: silentLogger,
          shared: createSessionShared(),
          revocations: undefined,
        },
        outer.stream,
        { ...outerKey, expected: [STOCK_ID] },
        'stock.example:80',
        { 'x-forwarded-network': 'east', baggage: 'k8s.namespace.name=shop,k8s.deployment.name=client' },
      );
      assert.equal(inner.peer.identity, STOCK_ID);
      assert.match(inner.headers.baggage ?? '', /k8s\.namespace\.name=shop,k8s\.deployment\.name=stock/);
      const sink = record(inner.stream);
      const payload = Buffer.alloc(3_000_000, 'both ways');
      inner.stream.write(payload);
      inner.stream.end();
      await until('the echo is complete', () => sink.outcome !== undefined);
      assert.deepEqual(sink.outcome, { clean: true });
      assert.ok(Buffer.concat(sink.chunks).equals(payload));
    } finally {
      gateway.close();
    }
  });
});

test('from the peer to a service on another network, which we serve', {
  skip: WITHOUT_PEER,
  timeout: 60_000,
}, async () => {
  const requests: {
    readonly authority: string;
    readonly network: string | undefined;
    readonly identity: string | undefined;
  }[] = [];
  const secret = await secretOf(authority, FAR_ID);
  const own = scope.child('far');
  const far = createHboneServer({
    secret: async () => secret,
    onRequest: (request) => {
      requests.push({
        authority: request.authority,
        network: request.headers['x-forwarded-network'],
        identity: request.peer.identity,
      });
      echo(
        request.accept({
          baggage: 'k8s.namespace.name=shop,k8s.deployment.name=far-away,service.name=far-svc',
        }),
      );
    },
    log: silentLogger,
    scope: own,
  });
  namespace.serve(FAR, (socket) => far.accept(socket));
  const gateway = await startGateway(FAR);
  await withPeer(stockOf(), async (peer) => {
    const { socket, from } = await peer.connect({ ip: ip('10.77.4.1'), port: 80 as Port });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.end('across');
    await until('the echo', () => Buffer.concat(chunks).toString().endsWith('across'));
    const line = await peer.line(`127.0.0.1:${from}`);
    assert.deepEqual(requests, [{ authority: 'far.example:80', network: '', identity: STOCK_ID }]);
    assert.deepEqual(gateway.authorities, ['far.example:80']);
    assert.deepEqual(
      ['dst.addr', 'dst.hbone_addr', 'dst.workload', 'dst.identity', 'error'].map((name) =>
        field(line, name),
      ),
      ['10.77.0.9:15108', 'far.example:80', 'far-away', FAR_ID, '-'],
    );
  });
  gateway.close();
  own.close();
});
