// Our xDS client against our xDS server, over TLS on loopback: what a change costs, what a reconnect resends, who is let in.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { createGrpcChannel, type GrpcChannelOptions } from '#grpc/client.ts';
import { formatSpiffeId } from '#model/identity.ts';
import { policyOf, serviceOf, workloadOf } from '#model/samples.ts';
import { createStore, type Store } from '#model/store.ts';
import type { ServiceKey, WorkloadUid } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { AUTHORIZATION_TYPE_URL, encodeAuthorization } from '#proto/authorization.ts';
import {
  DELTA_DISCOVERY_PATH,
  type DeltaRequest,
  type DeltaResponse,
  decodeDeltaRequest,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
} from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import { startXdsClient, type XdsClient, ztunnelNode } from '#xds/client.ts';
import { xdsOverGrpc } from '#xds/grpc-transport.ts';
import { startXdsServer, type XdsServer, type XdsServerOptions } from '#xds/server.ts';
import type { ResourceSource, XdsResource } from '#xds/source.ts';
import type { OpenXdsStream } from '#xds/transport.ts';
import { until } from '../lib/until.ts';

/** A source that a test writes to. */
class TestSource implements ResourceSource {
  readonly typeUrl: string;
  readonly #resources = new Map<string, XdsResource>();
  readonly #listeners = new Set<(names: ReadonlySet<string>) => void>();
  #versions = 0;

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  list(): Iterable<XdsResource> {
    return this.#resources.values();
  }

  get(name: string): XdsResource | undefined {
    return this.#resources.get(name);
  }

  onChange(handler: (names: ReadonlySet<string>) => void): () => void {
    this.#listeners.add(handler);
    return () => {
      this.#listeners.delete(handler);
    };
  }

  put(name: string, bytes: Uint8Array): void {
    this.#resources.set(name, { name, version: `v${++this.#versions}`, bytes });
    this.#changed(name);
  }

  /** Aliases of what `put` was given, for subscribers on demand. */
  readonly aliases = new Map<string, readonly string[]>();

  *resolve(key: string): Iterable<XdsResource> {
    for (const resource of this.#resources.values()) {
      const aliases = this.aliases.get(resource.name) ?? [];
      if (resource.name === key || aliases.includes(key)) yield { ...resource, aliases };
    }
  }

  delete(name: string): void {
    this.#resources.delete(name);
    this.#changed(name);
  }

  #changed(name: string): void {
    for (const listener of this.#listeners) listener(new Set([name]));
  }
}

const CALLER_TOKEN = 'Bearer good';
const identity = formatSpiffeId({
  trustDomain: 'cluster.local',
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
});

let authority: Authority;
let serving: { certPem: string; keyPem: string };
before(async () => {
  authority = await createAuthority({ commonName: 'test root', validDays: 1 });
  serving = await servingCertificate();
});

async function servingCertificate(): Promise<{ certPem: string; keyPem: string }> {
  const issued = await authority.issue({ dnsNames: ['istiod.test'], server: true, validForMs: 3_600_000 });
  assert.ok(issued.keyPem !== undefined);
  return { certPem: issued.certPem, keyPem: issued.keyPem };
}

const cleanups: (() => Promise<void> | void)[] = [];
after(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
});

interface Plane {
  readonly addresses: TestSource;
  readonly policies: TestSource;
  readonly server: XdsServer;
}

async function startPlane(
  addresses = new TestSource(ADDRESS_TYPE_URL),
  policies = new TestSource(AUTHORIZATION_TYPE_URL),
  options: Partial<XdsServerOptions> = {},
): Promise<Plane> {
  const server = await startXdsServer(
    {
      sources: [addresses, policies],
      log: silentLogger,
      authenticate: async (header) => {
        if (header('authorization') !== CALLER_TOKEN) throw new Error('the token is not known');
        return { identity, namespace: 'istio-system', serviceAccount: 'ztunnel' };
      },
    },
    {
      listen: { host: '127.0.0.1', port: 0 },
      tls: serving,
      debounce: { quietMs: 5, maxMs: 50 },
      ...options,
    },
  );
  cleanups.push(() => server.close());
  return { addresses, policies, server };
}

interface Node {
  readonly store: Store;
  readonly client: XdsClient;
  readonly scope: Scope;
  readonly responses: DeltaResponse[];
  readonly requests: DeltaRequest[];
  /** Replaces the port to dial at the next reconnect. */
  port: number;
}

function startNode(
  port: number,
  overrides: Partial<GrpcChannelOptions> & { namespace?: string; onDemand?: boolean } = {},
): Node {
  const scope = new Scope('test node');
  cleanups.push(() => scope.close());
  const store = createStore({ localNode: 'n1' });
  const responses: DeltaResponse[] = [];
  const requests: DeltaRequest[] = [];
  const { namespace = 'istio-system', onDemand = false, ...channelOptions } = overrides;
  const node: { port: number } = { port };
  const open: OpenXdsStream = (handlers) => {
    const channel = createGrpcChannel(
      { log: silentLogger, scope: scope.child('channel') },
      {
        host: '127.0.0.1',
        port: node.port,
        serverName: 'istiod.test',
        rootPem: () => authority.certPem,
        token: () => 'good',
        ...channelOptions,
      },
    );
    const stream = xdsOverGrpc(channel)({
      message: (bytes) => {
        responses.push(decodeDeltaResponse(bytes));
        handlers.message(bytes);
      },
      end: (end) => handlers.end(end),
    });
    return {
      send: (bytes) => {
        requests.push(decodeDeltaRequest(bytes));
        stream.send(bytes);
      },
      close: () => stream.close(),
    };
  };
  const client = startXdsClient(
    { open, store, log: silentLogger, scope },
    {
      node: ztunnelNode({
        instanceIp: '10.0.0.1',
        podName: 'zt',
        podNamespace: namespace,
        nodeName: 'n1',
        clusterId: 'Kubernetes',
        istioVersion: '1.2.3',
      }),
      onDemand,
    },
  );
  return Object.assign(node, { store, client, scope, responses, requests });
}

const uid = (name: string): WorkloadUid => `Kubernetes//Pod/shop/${name}` as WorkloadUid;
function putWorkload(source: TestSource, name: string, address: string): void {
  const workload = workloadOf({ uid: uid(name), name, namespace: 'shop', ips: [ip(address)] });
  source.put(uid(name), encodeAddress({ kind: 'workload', workload }));
}
function putService(source: TestSource, name: string): void {
  const service = serviceOf({ name, namespace: 'shop', hostname: `${name}.shop.svc.cluster.local` });
  source.put(`shop/${service.hostname}`, encodeAddress({ kind: 'service', service }));
}

test('first sync, change and removal, each answered', async () => {
  const plane = await startPlane();
  putWorkload(plane.addresses, 'a', '10.0.0.1');
  putService(plane.addresses, 'cart');
  plane.policies.put('shop/p', encodeAuthorization(policyOf({ namespace: 'shop', name: 'p' })));
  const node = startNode(plane.server.port);
  await node.client.whenReady();
  assert.equal(node.store.workload(uid('a'))?.ips[0], '10.0.0.1');
  assert.ok(node.store.service('shop/cart.shop.svc.cluster.local' as ServiceKey) !== undefined);
  assert.deepEqual(
    [...node.store.policies()].map((policy) => policy.name),
    ['p'],
  );
  assert.equal(node.requests[0]?.node?.id, 'ztunnel~10.0.0.1~zt.istio-system~istio-system.svc.cluster.local');

  putWorkload(plane.addresses, 'a', '10.0.0.9');
  await until('the new address', () => node.store.workloadByIp('', ip('10.0.0.9')) !== undefined);
  assert.equal(node.store.workloadByIp('', ip('10.0.0.1')), undefined);
  assert.deepEqual(
    node.responses.at(-1)?.resources.map(({ name }) => name),
    [uid('a')],
  );

  plane.addresses.delete(uid('a'));
  plane.addresses.delete('shop/cart.shop.svc.cluster.local');
  await until('the removals', () => [...node.store.workloads(), ...node.store.services()].length === 0);

  plane.policies.delete('shop/p');
  await until('the policy removed', () => [...node.store.policies()].length === 0);
  await until('every response acknowledged', () =>
    plane.server
      .clients()
      .every(({ subscriptions }) =>
        subscriptions.every(({ sentNonce, ackedNonce }) => sentNonce !== '' && sentNonce === ackedNonce),
      ),
  );
});

test('a resource that cannot be read is refused by name, and the rest applied', async () => {
  const plane = await startPlane();
  putWorkload(plane.addresses, 'good', '10.0.0.1');
  // Workload with tunnel protocol 2 (legacy mTLS).
  plane.addresses.put('poison', Uint8Array.of(0x0a, 2, 0x28, 2));
  plane.addresses.put('worse', Uint8Array.of(0xff));
  const node = startNode(plane.server.port);
  await until('the good workload', () => node.store.workload(uid('good')) !== undefined);
  const nack = node.requests.find(({ error }) => error !== undefined)?.error;
  assert.equal(nack?.code, 0);
  const reasons = nack.message.split('; ');
  assert.equal(reasons[0], 'poison: tunnel protocol 2 is not supported');
  assert.match(reasons[1] ?? '', /^worse: not an istio\.workload\.Address/);
  const rejected = (): string | undefined =>
    plane.server.clients()[0]?.subscriptions.find(({ typeUrl }) => typeUrl === ADDRESS_TYPE_URL)?.rejected
      ?.message;
  await until('the server notes the refusal', () => rejected() === nack.message);
  assert.equal(node.client.ready, false);
  plane.addresses.delete('poison');
  plane.addresses.delete('worse');
  await node.client.whenReady();
});

test('after a reconnect nothing unchanged is sent again, and what vanished meanwhile goes', async () => {
  const first = await startPlane();
  const { addresses, policies } = first;
  for (const [name, address] of [
    ['kept', '10.0.0.1'],
    ['changed', '10.0.0.2'],
    ['ghost', '10.0.0.3'],
  ] as const)
    putWorkload(addresses, name, address);
  policies.put('shop/kept', encodeAuthorization(policyOf({ namespace: 'shop', name: 'kept' })));
  policies.put('shop/ghost', encodeAuthorization(policyOf({ namespace: 'shop', name: 'ghost' })));
  const node = startNode(first.server.port);
  await node.client.whenReady();
  await first.server.close();
  const seen = node.responses.length;
  addresses.delete(uid('ghost'));
  policies.delete('shop/ghost');
  putWorkload(addresses, 'changed', '10.0.0.22');
  assert.ok(node.store.workload(uid('ghost')) !== undefined, 'state outlives the connection');

  const second = await startPlane(addresses, policies);
  node.port = second.server.port;
  await until('both types answered', () => node.responses.length >= seen + 2);
  await until('the ghost gone', () => node.store.workload(uid('ghost')) === undefined);
  const [ofAddresses, ofPolicies] = node.responses.slice(seen);
  assert.deepEqual(
    ofAddresses?.resources.map(({ name }) => name),
    [uid('changed')],
  );
  assert.deepEqual(ofAddresses?.removed, [uid('ghost')]);
  assert.deepEqual(ofPolicies?.resources, []);
  assert.deepEqual(ofPolicies?.removed, ['shop/ghost']);
  assert.equal(node.store.workload(uid('changed'))?.ips[0], '10.0.0.22');
  assert.deepEqual(
    [...node.store.policies()].map((policy) => policy.name),
    ['kept'],
  );
});

test('on demand: what is asked for comes and stays up to date, and is resumed without being sent again', async () => {
  const { addresses, policies, server } = await startPlane();
  putWorkload(addresses, 'a', '10.0.0.1');
  putWorkload(addresses, 'b', '10.0.0.2');
  addresses.aliases.set(uid('a'), ['/10.0.0.1']);
  policies.put('shop/p', encodeAuthorization(policyOf({ namespace: 'shop', name: 'p' })));
  const node = startNode(server.port, { onDemand: true });
  const { store, client, scope, responses } = node;
  await client.whenReady();
  assert.equal([...store.policies()].length, 1);
  assert.equal([...store.workloads()].length, 0);

  assert.equal(await client.demand('/10.0.0.1'), 'answered');
  assert.equal(store.workloadByIp('', ip('10.0.0.1'))?.uid, uid('a'));
  assert.equal(await client.demand('/10.9.9.9'), 'answered');
  assert.equal(store.workloadByIp('', ip('10.9.9.9')), undefined);
  assert.equal([...store.workloads()].length, 1);

  putWorkload(addresses, 'a', '10.0.0.3');
  await until('the change', () => store.workloadByIp('', ip('10.0.0.3')) !== undefined);
  // Of what was not asked for nothing is heard.
  putWorkload(addresses, 'b', '10.0.0.4');
  assert.equal(await client.demand('/10.9.9.9'), 'answered');
  assert.equal(store.workload(uid('b')), undefined);

  const heard = responses.length;
  await server.close();
  node.port = (await startPlane(addresses, policies)).server.port;
  await until('the resumption', () =>
    responses.slice(heard).some(({ typeUrl }) => typeUrl === ADDRESS_TYPE_URL),
  );
  assert.deepEqual(
    responses
      .slice(heard)
      .flatMap(({ resources, typeUrl }) => (typeUrl === ADDRESS_TYPE_URL ? resources : [])),
    [],
  );
  addresses.delete(uid('a'));
  await until('the removal', () => store.workload(uid('a')) === undefined);
  scope.close();
});

test('nobody without a known token is served, and the client says why', async () => {
  const plane = await startPlane();
  putWorkload(plane.addresses, 'a', '10.0.0.1');
  const node = startNode(plane.server.port, { token: () => 'bad' });
  await until('a refusal', () => node.client.status().lastEnd !== undefined);
  assert.equal(node.client.status().lastEnd, 'gRPC status 16: the token is not known');
  assert.equal(node.responses.length, 0);
  assert.equal(plane.server.clients().length, 0);
});

test('a node may not claim a namespace its token does not prove', async () => {
  const plane = await startPlane();
  const node = startNode(plane.server.port, { namespace: 'shop' });
  await until('a refusal', () => node.client.status().lastEnd !== undefined);
  assert.match(node.client.status().lastEnd ?? '', /^gRPC status 7: .*claims namespace "shop"/);
  assert.equal(node.responses.length, 0);
});

test('a server with a certificate of another root is not talked to', async () => {
  const plane = await startPlane();
  const foreign = await createAuthority({ commonName: 'foreign root', validDays: 1 });
  const node = startNode(plane.server.port, { rootPem: () => foreign.certPem });
  await until('a failure', () => node.client.status().lastEnd !== undefined);
  assert.match(node.client.status().lastEnd ?? '', /^cannot connect: .*certificate/);
});

test('changes in a burst reach the client as one push of each type', async () => {
  const plane = await startPlane(undefined, undefined, { debounce: { quietMs: 20, maxMs: 5000 } });
  const node = startNode(plane.server.port);
  await node.client.whenReady();
  const seen = node.responses.length;
  for (let index = 0; index < 50; index++) putWorkload(plane.addresses, `w${index}`, `10.1.0.${index}`);
  await until('all workloads', () => [...node.store.workloads()].length === 50);
  assert.equal(node.responses.length, seen + 1);
});

test('a rotated serving certificate is used for the next connection', async () => {
  const plane = await startPlane();
  const one = startNode(plane.server.port);
  await one.client.whenReady();
  const other = await createAuthority({ commonName: 'next root', validDays: 1 });
  const issued = await other.issue({ dnsNames: ['istiod.test'], server: true, validForMs: 3_600_000 });
  plane.server.setCertificate({ certPem: issued.certPem, keyPem: issued.keyPem! });
  const two = startNode(plane.server.port, { rootPem: () => other.certPem });
  await two.client.whenReady();
  assert.ok(one.client.status().connected, 'the old connection stays');
});

test('five thousand workloads arrive whole', async () => {
  const plane = await startPlane();
  const count = 5000;
  for (let index = 0; index < count; index++)
    putWorkload(plane.addresses, `w${index}`, `10.${index >> 8}.${index & 255}.1`);
  const node = startNode(plane.server.port);
  await node.client.whenReady();
  assert.equal([...node.store.workloads()].length, count);
});

test('a client that reads nothing holds a bounded number of names and is cut off', async () => {
  const plane = await startPlane(undefined, undefined, { maxPendingNames: 50 });
  const heavy = (name: string): void =>
    plane.addresses.put(
      name,
      Uint8Array.from({ length: 200_000 }, () => 1),
    );
  // More than the client's windows take.
  for (let index = 0; index < 100; index++) heavy(`heavy${index}`);
  const scope = new Scope('silent client');
  cleanups.push(() => scope.close());
  const channel = createGrpcChannel(
    { log: silentLogger, scope },
    {
      host: '127.0.0.1',
      port: plane.server.port,
      serverName: 'istiod.test',
      rootPem: () => authority.certPem,
      token: () => 'good',
    },
  );
  const stream = channel.stream(DELTA_DISCOVERY_PATH);
  let ended: number | undefined;
  stream.onEnd(({ code }) => {
    ended = code;
  });
  stream.pause();
  const { id, metadata } = ztunnelNode({
    instanceIp: '10.0.0.1',
    podName: 'silent',
    podNamespace: 'istio-system',
    nodeName: 'n1',
    clusterId: 'Kubernetes',
    istioVersion: '1.2.3',
  });
  stream.send(encodeDeltaRequest(deltaRequest(ADDRESS_TYPE_URL, { node: { id, metadata } })));
  const pending = (): number => plane.server.clients()[0]?.subscriptions[0]?.pending ?? 0;
  await until(
    'the response under way',
    () => plane.server.clients()[0]?.subscriptions[0]?.sentNonce !== undefined,
  );
  const other = startNode(plane.server.port);
  await until('another client is served meanwhile', () => other.responses.length > 0);
  for (let index = 0; index < 200; index++) {
    putWorkload(plane.addresses, `w${index}`, '10.9.0.1');
    assert.ok(pending() <= 250);
  }
  await until('the silent client cut off', () => ended !== undefined);
  assert.ok(plane.server.clients().every(({ node }) => node?.includes('silent') !== true));
  await until('the other has everything', () => [...other.store.workloads()].length === 200);
});
