// The xDS server by a hand-written client over real TLS: who is served, who is refused and how, what a reconnect costs, how
// a server takes its leave (control-plane.md §4).

import assert from 'node:assert/strict';
import { afterEach, before, beforeEach, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { createGrpcChannel, type GrpcStream } from '#grpc/client.ts';
import { statusError } from '#grpc/status.ts';
import { formatSpiffeId } from '#model/identity.ts';
import {
  DELTA_DISCOVERY_PATH,
  type DeltaRequest,
  type DeltaResponse,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
} from '#proto/discovery.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import { startXdsServer, type XdsServer, type XdsServerDeps, type XdsServerOptions } from '#xds/server.ts';
import type { AnswerDebug, ResourceSource, XdsResource } from '#xds/source.ts';
import { STATE_OF_THE_WORLD_PATH } from '#xds/state-of-the-world.ts';
import { until } from '../lib/until.ts';

const TYPE = 'type.googleapis.com/test.Thing';
const OTHER = 'type.googleapis.com/test.Other';
const ID = 'ztunnel~10.0.0.1~zt.istio-system~istio-system.svc.cluster.local';
const NODE = { id: ID, metadata: { NAMESPACE: 'istio-system' } };
const identity = formatSpiffeId({
  trustDomain: 'cluster.local',
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
});

class Things implements ResourceSource {
  readonly typeUrl: string;
  readonly #held = new Map<string, XdsResource>();
  readonly #listeners = new Set<(names: ReadonlySet<string>) => void>();
  /** How often bytes were read to be encoded. */
  encoded = 0;

  constructor(typeUrl: string) {
    this.typeUrl = typeUrl;
  }

  list(): Iterable<XdsResource> {
    return this.#held.values();
  }

  get(name: string): XdsResource | undefined {
    return this.#held.get(name);
  }

  onChange(handler: (names: ReadonlySet<string>) => void): () => void {
    this.#listeners.add(handler);
    return () => this.#listeners.delete(handler);
  }

  put(name: string, version: string, size = 200): void {
    const count = (): void => {
      this.encoded++;
    };
    this.#held.set(name, {
      name,
      version,
      get bytes() {
        count();
        return Buffer.alloc(size, version);
      },
    });
    this.#announce(name);
  }

  delete(name: string): void {
    this.#held.delete(name);
    this.#announce(name);
  }

  #announce(name: string): void {
    for (const listener of this.#listeners) listener(new Set([name]));
  }
}

let authority: Authority;
let tls: { certPem: string; keyPem: string };
before(async () => {
  authority = await createAuthority({ commonName: 'test root', validDays: 1 });
  const issued = await authority.issue({ dnsNames: ['istiod.test'], server: true, validForMs: 3_600_000 });
  tls = { certPem: issued.certPem, keyPem: issued.keyPem! };
});

let scope: Scope;
let things: Things;
let others: Things;
let servers: XdsServer[];
beforeEach(() => {
  scope = new Scope('test');
  things = new Things(TYPE);
  others = new Things(OTHER);
  servers = [];
});
afterEach(async () => {
  scope.close();
  await Promise.all(servers.map((server) => server.close()));
});

async function start(
  options: Partial<XdsServerOptions> = {},
  deps: Partial<XdsServerDeps> = {},
): Promise<XdsServer> {
  const server = await startXdsServer(
    {
      sources: [things, others],
      log: silentLogger,
      authenticate: async () => ({ identity, namespace: 'istio-system', serviceAccount: 'ztunnel' }),
      ...deps,
    },
    {
      listen: { host: '127.0.0.1', port: 0 },
      tls,
      debounce: { quietMs: 5, maxMs: 50 },
      farewellMs: 200,
      ...options,
    },
  );
  servers.push(server);
  return server;
}

interface Client {
  readonly stream: GrpcStream;
  readonly responses: DeltaResponse[];
  readonly held: Map<string, string>;
  bytes: number;
  end: { readonly code: number; readonly message: string } | undefined;
  send(request: DeltaRequest): void;
}

function open({ port }: XdsServer, path = DELTA_DISCOVERY_PATH, acknowledges = true): Client {
  const channel = createGrpcChannel(
    { log: silentLogger, scope },
    { host: '127.0.0.1', port, serverName: 'istiod.test', rootPem: () => authority.certPem },
  );
  const stream = channel.stream(path);
  const client: Client = {
    stream,
    responses: [],
    held: new Map(),
    bytes: 0,
    end: undefined,
    send: (request) => {
      stream.send(encodeDeltaRequest(request));
    },
  };
  stream.onMessage((bytes) => {
    client.bytes += bytes.length;
    const response = decodeDeltaResponse(bytes);
    client.responses.push(response);
    for (const { name, version } of response.resources) client.held.set(name, version);
    for (const name of response.removed) client.held.delete(name);
    if (acknowledges) client.send(deltaRequest(response.typeUrl, { responseNonce: response.nonce }));
  });
  stream.onEnd((end) => {
    client.end = end;
  });
  return client;
}

test('§4.1: the first message must carry a node id; what is no request at all is refused, too', async () => {
  const server = await start();
  const nameless = open(server);
  nameless.send(deltaRequest(TYPE));
  await until('a status', () => nameless.end !== undefined);
  assert.deepEqual([nameless.end?.code, /node id/.test(nameless.end?.message ?? '')], [3, true]);
  const garbage = open(server);
  garbage.stream.send(Buffer.from([0xff, 0xff]));
  await until('a status', () => garbage.end !== undefined);
  assert.equal(garbage.end?.code, 3);
  assert.equal(server.clients().length, 0);
});

test('§4.1: more new streams than the limit are turned away with ResourceExhausted', async () => {
  const server = await start({ newStreamsPerSecond: 2 });
  const clients = Array.from({ length: 12 }, () => open(server));
  for (const client of clients) client.send(deltaRequest(TYPE, { node: NODE }));
  await until('some turned away', () => clients.some(({ end }) => end?.code === 8));
  await until('some served', () => clients.some(({ responses }) => responses.length > 0));
});

test('§4.3: a NACK is kept with the client’s words and counted, and the next push goes out all the same', async () => {
  const rejected: string[] = [];
  things.put('a', '1');
  const server = await start({}, { observe: { rejected: (type) => rejected.push(type) } });
  const client = open(server, DELTA_DISCOVERY_PATH, false);
  client.send(deltaRequest(TYPE, { node: NODE }));
  await until('the state', () => client.responses.length === 1);
  const { nonce } = client.responses[0]!;
  const error = { code: 3, message: 'a: its tunnel protocol is unknown' };
  client.send(deltaRequest(TYPE, { responseNonce: nonce, error }));
  const shown = () => server.clients()[0]?.subscriptions[0];
  await until('it is kept', () => shown()?.rejected !== undefined);
  assert.deepEqual(
    [shown()?.rejected?.message, shown()?.rejected?.code, shown()?.rejected?.nonce, shown()?.ackedNonce],
    [error.message, 3, nonce, ''],
  );
  assert.deepEqual(rejected, [TYPE]);
  things.put('a', '2');
  await until('the next push', () => client.responses.length === 2);
  client.send(deltaRequest(TYPE, { responseNonce: client.responses[1]!.nonce }));
  await until('it is forgotten', () => shown()?.rejected === undefined);
});

test('§4.4, §12.3: a reconnect resends under one per cent, and what vanished meanwhile is removed', async () => {
  for (let index = 0; index < 1000; index++) things.put(`t${index}`, '1');
  const first = open(await start());
  first.send(deltaRequest(TYPE, { node: NODE }));
  await until('everything', () => first.held.size === 1000);
  const wholeBytes = first.bytes;
  things.put('t7', '2');
  things.delete('t8');
  const second = open(await start());
  // As if the change had not reached it.
  const versions = new Map(Array.from({ length: 1000 }, (_, index) => [`t${index}`, '1']));
  second.send(deltaRequest(TYPE, { node: NODE, initialResourceVersions: versions }));
  await until('the answer', () => second.responses.length === 1);
  assert.deepEqual(
    second.responses[0]?.resources.map(({ name, version }) => [name, version]),
    [['t7', '2']],
  );
  assert.deepEqual(second.responses[0]?.removed, ['t8']);
  assert.ok(second.bytes < wholeBytes / 100, `${second.bytes} of ${wholeBytes}`);
});

test('§12.2: each resource is encoded once, however many clients it goes to, at the start and in a push', async () => {
  for (let index = 0; index < 100; index++) things.put(`t${index}`, '1');
  const server = await start();
  const clients = Array.from({ length: 20 }, () => open(server));
  for (const client of clients) client.send(deltaRequest(TYPE, { node: NODE }));
  await until('everything everywhere', () => clients.every(({ held }) => held.size === 100));
  assert.equal(things.encoded, 100);
  things.put('t5', '2');
  await until('the push everywhere', () => clients.every(({ held }) => held.get('t5') === '2'));
  assert.equal(things.encoded, 101);
});

test('§4.7: a client that reads nothing delays nobody, and is sent the last state when it reads again', async () => {
  things.put('big', '0', 8 << 20);
  const server = await start();
  const slow = open(server);
  slow.stream.pause();
  slow.send(deltaRequest(TYPE, { node: NODE }));
  const quick = open(server);
  quick.send(deltaRequest(OTHER, { node: NODE }));
  await until('the quick one is served', () => quick.responses.length === 1);
  for (let turn = 1; turn <= 20; turn++) {
    things.put('small', `${turn}`);
    others.put('small', `${turn}`);
    await until('the quick one hears of it', () => quick.held.get('small') === `${turn}`);
  }
  const pending = server.clients().map(({ subscriptions }) => subscriptions[0]?.pending);
  assert.deepEqual(pending.sort(), [0, 1]);
  slow.stream.resume();
  await until('the slow one has caught up', () => slow.held.get('small') === '20');
  // The state, and all twenty pushes in one.
  assert.equal(slow.responses.length, 2);
});

test('a closing server sends its clients away one after another, with words that bring them back at once', async () => {
  const server = await start({ farewellMs: 300 });
  const clients = Array.from({ length: 6 }, () => open(server));
  for (const client of clients) client.send(deltaRequest(TYPE, { node: NODE }));
  await until('all are served', () => clients.every(({ responses }) => responses.length === 1));
  const ends: number[] = [];
  for (const client of clients)
    client.stream.onEnd((end) => {
      client.end = end;
      ends.push(performance.now());
    });
  await server.close();
  await until('all are gone', () => ends.length === clients.length);
  for (const { end } of clients) {
    assert.equal(end?.code, 14);
    // ztunnel.md §3.5: by these words it waits 10 ms, not longer each time.
    assert.match(end?.message ?? '', /transport is closing/);
  }
});

const answerDebug: AnswerDebug = ({ typeUrl, names }) => {
  if (typeUrl !== 'istio.io/debug/syncz') throw statusError(3, `no ${typeUrl}`);
  const name = names[0] ?? 'all';
  return [{ name, version: '', typeUrl: 'type.googleapis.com/x', bytes: Buffer.from('state') }];
};

test('§10.1: debug types are answered on a delta stream, each request once', async () => {
  const server = await start({ controlPlane: '{"ID":"me"}' }, { answerDebug });
  const client = open(server);
  client.send(deltaRequest('istio.io/debug/syncz', { node: NODE, subscribe: ['one'] }));
  await until('an answer', () => client.responses.length === 1);
  const [resource] = client.responses[0]!.resources;
  assert.deepEqual([resource?.name, resource?.typeUrl], ['one', 'type.googleapis.com/x']);
  client.send(deltaRequest('istio.io/debug/syncz', { subscribe: ['two'] }));
  await until('another', () => client.responses.length === 2);
  assert.deepEqual(
    client.responses.map(({ resources }) => resources[0]?.name),
    ['one', 'two'],
  );
  client.send(deltaRequest('istio.io/debug/nothing'));
  await until('a refusal', () => client.end !== undefined);
  assert.deepEqual([client.end?.code, client.end?.message], [3, 'no istio.io/debug/nothing']);
});

test('§4.1: the state-of-the-world variant is for debug types alone', async () => {
  const server = await start({}, { answerDebug });
  // DiscoveryRequest by hand: node=2 {id=1 "n", metadata=3 {NAMESPACE: istio-system}}, type_url=4, response_nonce=5.
  const text = (field: number, value: string): Buffer =>
    Buffer.concat([Buffer.from([(field << 3) | 2, value.length]), Buffer.from(value)]);
  const nested = (field: number, ...parts: Buffer[]): Buffer =>
    text(field, Buffer.concat(parts).toString('latin1'));
  const node = nested(
    2,
    text(1, 'n'),
    nested(3, nested(1, text(1, 'NAMESPACE'), nested(2, text(3, 'istio-system')))),
  );
  const request = (type: string, nonce: string): Buffer =>
    Buffer.concat([node, text(4, type), text(5, nonce)]);
  const ask = (): { stream: GrpcStream; answers: Buffer[]; end: () => { code: number } | undefined } => {
    const client = open(server, STATE_OF_THE_WORLD_PATH, false);
    const answers: Buffer[] = [];
    client.stream.onMessage((bytes) => answers.push(Buffer.from(bytes)));
    return { stream: client.stream, answers, end: () => client.end };
  };
  const tool = ask();
  // istioctl's first request carries a nonce of its own.
  tool.stream.send(request('istio.io/debug/syncz', 'mine'));
  await until('an answer', () => tool.answers.length === 1);
  assert.ok(tool.answers[0]?.includes(nested(2, text(1, 'type.googleapis.com/x'), text(2, 'state'))));
  const proxy = ask();
  proxy.stream.send(request(TYPE, ''));
  await until('a refusal', () => proxy.end() !== undefined);
  assert.equal(proxy.end()?.code, 12);
});

test('one client is sent away by its id, in words that let it come back at once; the others stay', async () => {
  const server = await start();
  const [one, other] = [open(server), open(server)];
  for (const client of [one, other]) client.send(deltaRequest(TYPE, { node: NODE }));
  await until('both are served', () => [one, other].every(({ responses }) => responses.length === 1));
  const [first] = server.clients();
  server.disconnect(first!.id);
  server.disconnect(999);
  await until('it is gone', () => server.clients().length === 1);
  assert.notEqual(server.clients()[0]?.id, first?.id);
  const gone = await until('the end is heard', () => one.end ?? other.end);
  assert.equal(gone.code, 14);
  assert.match(gone.message, /^transport is closing/);
  assert.ok(one.end === undefined || other.end === undefined);
});

test('a method that is not served, and a caller that is not known', async () => {
  const server = await start(
    {},
    {
      authenticate: async () => {
        throw new MeshError('CA_REFUSED', 'nobody knows you');
      },
    },
  );
  const stranger = open(server);
  await until('a refusal', () => stranger.end !== undefined);
  assert.deepEqual([stranger.end?.code, stranger.end?.message], [16, 'nobody knows you']);
  const lost = open(server, '/no.Such/Method');
  await until('a refusal', () => lost.end !== undefined);
  assert.equal(lost.end?.code, 12);
});
