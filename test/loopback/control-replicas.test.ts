// Two control planes at one embedded API server: both serve proxies and sign, one writes statuses; the other goes on
// where the first ends; an API server that is away takes nothing from anybody.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { type Clock, sleep } from '#base/clock.ts';
import { Scope } from '#base/scope.ts';
import { readOptions } from '#control/config.ts';
import { type ControlPlane, createControlPlane } from '#control/control-plane.ts';
import { createCaClient } from '#grpc/ca-client.ts';
import { createGrpcChannel, type GrpcChannel } from '#grpc/client.ts';
import type { KubeClient } from '#k8s/client.ts';
import {
  AUTHORIZATION_POLICIES,
  type AuthorizationPolicy,
  type Condition,
  LEASES,
  NAMESPACES,
  SECRETS,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { type ApiServer, createApiServer } from '#local/apiserver/server.ts';
import type { SpiffeId } from '#model/identity.ts';
import { AUTHORIZATION_TYPE_URL } from '#proto/authorization.ts';
import {
  DELTA_DISCOVERY_PATH,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
} from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { requestFor } from '#tls/csr.ts';
import { until } from '../lib/until.ts';
import { adminEndpoint } from './apiserver-rig.ts';

const CRDS = join(import.meta.dirname, '../../deploy/crds');
const NODE_ID = 'ztunnel~172.31.0.11~ztunnel-n1.istio-system~istio-system.svc.cluster.local';
const NAMES = ['istiod-a', 'istiod-b'] as const;
type Name = (typeof NAMES)[number];

const folder = mkdtempSync(join(tmpdir(), 'culvert-replicas-'));
const scope = new Scope('test');
const replicas = new Map<Name, ControlPlane>();
const clients: KubeClient[] = [];
let server: ApiServer;
let port = 0;
let admin: KubeClient;
let token: string;
let rootPem: string;
/** How far the replicas' clocks are ahead, so that minutes need not be waited for. */
let aheadMs = 0;
const clock: Clock = { now: () => Date.now() + aheadMs, monotonicMs: () => performance.now() + aheadMs };

const openServer = async (): Promise<void> => {
  const crds = readdirSync(CRDS).map((name) => readFileSync(join(CRDS, name), 'utf8'));
  server = await createApiServer(
    { log: silentLogger },
    { stateDir: folder, dnsNames: ['localhost'], ips: ['127.0.0.1'], crds },
  );
  ({ port } = await server.listen({ host: '127.0.0.1', port }));
};

const connect = (): KubeClient => {
  const client = createRestClient(adminEndpoint(server, port));
  clients.push(client);
  return client;
};

async function startReplica(name: Name): Promise<void> {
  const replica = await createControlPlane(
    { client: connect(), startInformer, log: silentLogger, clock },
    {
      ...readOptions({ PILOT_DEBOUNCE_AFTER: '5ms', POD_NAME: name }),
      listen: { host: '127.0.0.1', xdsPort: 0, httpPort: 0, monitoringPort: 0 },
    },
  );
  replicas.set(name, replica);
  await replica.ready;
}

const policy = (name: string, action: 'DENY' | 'AUDIT' = 'DENY'): AuthorizationPolicy => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name, namespace: 'shop' },
  spec: { action, rules: [{}] },
});

async function conditionOf(name: string, type: string): Promise<Condition | undefined> {
  const { status } = await admin.get(AUTHORIZATION_POLICIES, name, 'shop');
  return ((status?.conditions ?? []) as Condition[]).find((condition) => condition.type === type);
}

const holder = async (): Promise<string> =>
  (await admin.get(LEASES, 'istio-status-leader', 'istio-system')).spec?.holderIdentity ?? '';

const other = (name: string): Name => (name === NAMES[0] ? NAMES[1] : NAMES[0]);

function channel(name: Name): GrpcChannel {
  return createGrpcChannel(
    { log: silentLogger, scope },
    {
      host: '127.0.0.1',
      port: replicas.get(name)?.ports.xds ?? 0,
      serverName: 'istiod.istio-system.svc',
      rootPem: () => rootPem,
      metadata: { clusterid: 'Kubernetes' },
      token: () => token,
    },
  );
}

interface Watched {
  /** Name → version. */
  readonly held: Map<string, string>;
  /** Resources that it was sent. */
  sent: number;
  responses: number;
  removals: number;
  ended: boolean;
}

function subscribe(
  name: Name,
  typeUrl: string,
  initialResourceVersions: ReadonlyMap<string, string> = new Map(),
): Watched {
  const watched: Watched = { held: new Map(), sent: 0, responses: 0, removals: 0, ended: false };
  const stream = channel(name).stream(DELTA_DISCOVERY_PATH);
  stream.onMessage((bytes) => {
    const response = decodeDeltaResponse(bytes);
    for (const resource of response.resources) watched.held.set(resource.name, resource.version);
    for (const gone of response.removed) watched.held.delete(gone);
    watched.sent += response.resources.length;
    watched.responses++;
    watched.removals += response.removed.length;
    stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { responseNonce: response.nonce })));
  });
  stream.onEnd(() => {
    watched.ended = true;
  });
  const node = { id: NODE_ID, metadata: {} };
  stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { node, initialResourceVersions })));
  return watched;
}

before(async () => {
  await openServer();
  admin = connect();
  for (const name of ['istio-system', 'shop'])
    await admin.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  await admin.create(SERVICE_ACCOUNTS, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'ztunnel', namespace: 'istio-system' },
  });
  const answer = await admin.request<{ status: { token: string } }>(
    'POST',
    '/api/v1/namespaces/istio-system/serviceaccounts/ztunnel/token',
    { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: ['istio-ca'] } },
  );
  token = answer.status.token;
  await admin.create(SERVICES, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', labels: { 'istio.io/use-waypoint': 'wp' } },
    spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
  });
  for (const name of NAMES) await startReplica(name);
  const secret = await admin.get(SECRETS, 'istio-ca-secret', 'istio-system');
  rootPem = Buffer.from(secret.data?.['root-cert.pem'] ?? '', 'base64').toString();
});

after(async () => {
  scope.close();
  for (const replica of replicas.values()) await replica.close();
  for (const client of clients) client.close();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('two replicas', { concurrency: 1 }, () => {
  test('both serve the same resources, and both sign', async () => {
    for (const typeUrl of [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL]) {
      const [a, b] = [subscribe(NAMES[0], typeUrl), subscribe(NAMES[1], typeUrl)];
      await admin.create(AUTHORIZATION_POLICIES, policy(`both-${typeUrl.length}`));
      const wanted =
        typeUrl === ADDRESS_TYPE_URL ? 'shop/web.shop.svc.cluster.local' : `shop/both-${typeUrl.length}`;
      await until('the resource at both', async () => a.held.has(wanted) && b.held.has(wanted));
      assert.deepEqual([...a.held].sort(), [...b.held].sort());
    }
    const identity = 'spiffe://cluster.local/ns/istio-system/sa/ztunnel' as SpiffeId;
    for (const name of NAMES) {
      const { csrPem } = await requestFor(identity);
      const [leaf = ''] = await createCaClient(channel(name), { impersonate: false }).sign(
        identity,
        csrPem,
        3600,
      );
      const root = new X509Certificate(rootPem);
      assert.ok(new X509Certificate(leaf).verify(root.publicKey), name);
    }
  });

  test('one leads and writes statuses by server-side apply under its own name', async () => {
    await admin.create(AUTHORIZATION_POLICIES, policy('audit', 'AUDIT'));
    const condition = await until('the condition', () => conditionOf('audit', 'ZtunnelAccepted'));
    assert.deepEqual([condition.status, condition.reason], ['False', 'UnsupportedValue']);
    const stored = await admin.get(AUTHORIZATION_POLICIES, 'audit', 'shop');
    const { managedFields = [] } = stored.metadata as typeof stored.metadata & {
      managedFields?: { manager: string; operation: string; subresource?: string }[];
    };
    assert.ok(
      managedFields.some(
        ({ manager, operation, subresource }) =>
          manager === 'istio-ambient-ztunnel-policy' && operation === 'Apply' && subresource === 'status',
      ),
    );
    const service = await until('the service’s condition', async () => {
      const { status } = await admin.get(SERVICES, 'web', 'shop');
      return (status?.conditions as Condition[] | undefined)?.[0];
    });
    assert.partialDeepStrictEqual(service, { type: 'istio.io/WaypointBound', reason: 'WaypointIsNotReady' });

    // What it says follows the object, and is taken away with its cause.
    await admin.patch(
      AUTHORIZATION_POLICIES,
      'audit',
      'merge',
      { spec: { action: 'ALLOW', targetRefs: [{ kind: 'Service', group: '', name: 'web' }] } },
      { namespace: 'shop' },
    );
    const bound = await until('the other writer’s', () => conditionOf('audit', 'WaypointAccepted'));
    assert.equal(bound.reason, 'AncestorNotBound');
    await until(
      'the end of the first',
      async () => (await conditionOf('audit', 'ZtunnelAccepted')) === undefined,
    );
    await admin.patch(
      SERVICES,
      'web',
      'merge',
      { metadata: { labels: { 'istio.io/use-waypoint': null } } },
      { namespace: 'shop' },
    );
    await until('the end of the service’s', async () => {
      const { status } = await admin.get(SERVICES, 'web', 'shop');
      return ((status?.conditions ?? []) as Condition[]).length === 0;
    });
  });

  test('statuses at rest cause no writes', async () => {
    const versions = async (): Promise<string[]> =>
      (await admin.list(AUTHORIZATION_POLICIES)).items.map(({ metadata }) => metadata.resourceVersion ?? '');
    let before = await versions();
    await until('what is under way to be written', async () => {
      const earlier = before;
      await sleep(300);
      before = await versions();
      return isDeepStrictEqual(before, earlier);
    });
    // Whatever the other replica and every echo of a write would do has been done by then.
    await sleep(1500);
    assert.deepEqual(await versions(), before);
  });

  test('the API server away for minutes: who is connected stays, who comes is told what was known; back, only changes are sent', async () => {
    const watched = NAMES.map((name) => subscribe(name, AUTHORIZATION_TYPE_URL));
    await until('what there is', async () => watched.every(({ held }) => held.size > 0));
    const before = watched.map(({ held, sent }) => [[...held].sort(), sent]);
    await server.close();
    // Long enough that no review of a token is believed any more without being asked.
    aheadMs = 5 * 60_000;
    const known = watched[0]!.held;
    const [fresh, resumed] = [
      subscribe(NAMES[0], AUTHORIZATION_TYPE_URL),
      subscribe(NAMES[1], AUTHORIZATION_TYPE_URL, known),
    ];
    await until('answers', async () => fresh.responses > 0 && resumed.responses > 0);
    assert.deepEqual([...fresh.held].sort(), [...known].sort());
    assert.equal(resumed.sent, 0);
    // Nobody can say whether the pod still lives: no certificate.
    const identity = 'spiffe://cluster.local/ns/istio-system/sa/ztunnel' as SpiffeId;
    const { csrPem } = await requestFor(identity);
    await assert.rejects(
      createCaClient(channel(NAMES[0]), { impersonate: false }).sign(identity, csrPem, 3600),
      /could not be reviewed/,
    );
    await sleep(2000);
    assert.deepEqual(
      watched.map(({ held, sent }) => [[...held].sort(), sent]),
      before,
    );
    await openServer();
    await admin.create(AUTHORIZATION_POLICIES, policy('after'));
    const all = [...watched, fresh, resumed];
    await until('the change', async () => all.every(({ held }) => held.has('shop/after')));
    assert.deepEqual(
      all.map(({ sent }) => sent),
      [known.size, known.size, known.size, 1],
    );
    for (const { ended, removals } of all) assert.deepEqual([ended, removals], [false, 0]);
    await until('its status', () => conditionOf('after', 'ZtunnelAccepted'));
  });

  test('the leader ends: the lease is given back, the other writes on, its streams know nothing of it', async () => {
    const leader = (await until('a leader', async () => (await holder()) || undefined)) as Name;
    const stream = subscribe(other(leader), AUTHORIZATION_TYPE_URL);
    await until('what there is', async () => stream.held.size > 0);
    await replicas.get(leader)?.close();
    replicas.delete(leader);
    await until('the other', async () => (await holder()) === other(leader));
    const { spec } = await admin.get(LEASES, 'istio-status-leader', 'istio-system');
    assert.equal(spec?.leaseDurationSeconds, 10);
    await admin.create(AUTHORIZATION_POLICIES, policy('next', 'AUDIT'));
    await until('its status', () => conditionOf('next', 'ZtunnelAccepted'));
    assert.equal(stream.ended, false);
  });
});
