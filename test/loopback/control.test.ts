// The control plane as its clients meet it: real TLS, real gRPC, real reflectors; only the API server is a fake.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { readOptions } from '#control/config.ts';
import { type ControlPlane, createControlPlane } from '#control/control-plane.ts';
import { createCaClient } from '#grpc/ca-client.ts';
import { createGrpcChannel, type GrpcChannel } from '#grpc/client.ts';
import { CUSTOM_RESOURCE_DEFINITIONS, GATEWAYS, SERVICE_ENTRIES } from '#k8s/mesh-objects.ts';
import {
  AUTHORIZATION_POLICIES,
  CONFIG_MAPS,
  NAMESPACES,
  NODES,
  PODS,
  type Pod,
  SECRETS,
  SERVICES,
} from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import type { SpiffeId } from '#model/identity.ts';
import { createStore } from '#model/store.ts';
import { ip } from '#net/ip.ts';
import { AUTHORIZATION_TYPE_URL, decodeAuthorization } from '#proto/authorization.ts';
import {
  DELTA_DISCOVERY_PATH,
  type DeltaResource,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
} from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, decodeAddress } from '#proto/workload.ts';
import { WORKLOAD_TYPE_URL } from '#proto/workload-part.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { requestFor } from '#tls/csr.ts';
import { startXdsClient, ztunnelNode } from '#xds/client.ts';
import { xdsOverGrpc } from '#xds/grpc-transport.ts';
import { until } from '../lib/until.ts';
import { FakeApi } from './control-fake-api.ts';

const NODE_ID = 'ztunnel~172.31.0.11~ztunnel-n1.istio-system~istio-system.svc.cluster.local';
const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
const DB = 'spiffe://cluster.local/ns/shop/sa/db' as SpiffeId;

function pod(name: string, namespace: string, serviceAccount: string, node: string, ip: string): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, uid: `uid-${name}`, labels: { app: name } },
    spec: {
      containers: [{ name: 'c', image: 'local/x' }],
      nodeName: node,
      serviceAccountName: serviceAccount,
    },
    status: { phase: 'Running', podIP: ip, conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

function seed(api: FakeApi): void {
  for (const name of ['istio-system', 'shop', 'kube-system', 'kube-public'])
    api.put(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  for (const name of ['n1', 'n2'])
    api.put(NODES, {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: { 'topology.kubernetes.io/zone': `z-${name}` } },
    });
  api.put(PODS, pod('ztunnel-n1', 'istio-system', 'ztunnel', 'n1', '172.31.0.11'));
  api.put(PODS, pod('web', 'shop', 'web', 'n1', '10.244.1.2'));
  api.put(PODS, pod('db', 'shop', 'db', 'n2', '10.244.2.2'));
  api.put(SERVICES, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { clusterIP: '10.96.0.20', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
  });
  const bound = { name: 'ztunnel-n1', uid: 'uid-ztunnel-n1' };
  api.tokens.set('good', { namespace: 'istio-system', serviceAccount: 'ztunnel', pod: bound });
}

let api: FakeApi;
let scope: Scope;
let control: ControlPlane;
let lines: string[];

async function start(): Promise<void> {
  lines = [];
  const log = createLogger('control', { format: 'plain', level: 'info', write: (line) => lines.push(line) });
  const defaults = readOptions({ PILOT_DEBOUNCE_AFTER: '5ms' });
  control = await createControlPlane(
    { client: api.client, startInformer, log },
    { ...defaults, listen: { host: '127.0.0.1', xdsPort: 0, httpPort: 0, monitoringPort: 0 } },
  );
}

beforeEach(async () => {
  api = new FakeApi();
  seed(api);
  scope = new Scope('test');
  await start();
});

afterEach(async () => {
  scope.close();
  await control.close();
});

const rootPem = (): string =>
  Buffer.from(
    api.get(SECRETS, 'istio-ca-secret', 'istio-system')?.data?.['root-cert.pem'] ?? '',
    'base64',
  ).toString();

function channel(token: string | undefined, clusterId = 'Kubernetes'): GrpcChannel {
  return createGrpcChannel(
    { log: silentLogger, scope },
    {
      host: '127.0.0.1',
      port: control.ports.xds,
      serverName: 'istiod.istio-system.svc',
      rootPem,
      metadata: { clusterid: clusterId },
      ...(token === undefined ? {} : { token: () => token }),
    },
  );
}

interface Watched {
  readonly held: Map<string, DeltaResource>;
  responses: number;
  end: { code: number; message: string } | undefined;
}

/** A raw delta client of one type that acknowledges everything. */
function subscribe(
  typeUrl: string,
  token = 'good',
  nodeId = NODE_ID,
  initialResourceVersions: ReadonlyMap<string, string> = new Map(),
): Watched {
  const watched: Watched = { held: new Map(), responses: 0, end: undefined };
  const stream = channel(token).stream(DELTA_DISCOVERY_PATH);
  stream.onMessage((bytes) => {
    const response = decodeDeltaResponse(bytes);
    for (const resource of response.resources) watched.held.set(resource.name, resource);
    for (const name of response.removed) watched.held.delete(name);
    watched.responses++;
    stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { responseNonce: response.nonce })));
  });
  stream.onEnd(({ code, message }) => {
    watched.end = { code, message };
  });
  const node = { id: nodeId, metadata: {} };
  stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { node, initialResourceVersions })));
  return watched;
}

function workloadOf({ held }: Watched, uid: string) {
  const resource = held.get(uid);
  const address = resource === undefined ? undefined : decodeAddress(resource.value);
  return address?.kind === 'workload' ? address.workload : undefined;
}

function serviceOf({ held }: Watched, name: string) {
  const resource = held.get(name);
  const address = resource === undefined ? undefined : decodeAddress(resource.value);
  return address?.kind === 'service' ? address.service : undefined;
}

async function page(port: number, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, body: await response.text() };
}

const WEB_UID = 'Kubernetes//Pod/shop/web';

describe('xDS', () => {
  test('§10.1: who is connected and how far, on pages and as numbers; paths with two slashes as istioctl asks', async () => {
    await control.ready;
    const client = subscribe(ADDRESS_TYPE_URL);
    await until('the first response', () => client.responses > 0);
    api.put(PODS, pod('new', 'shop', 'web', 'n1', '10.244.1.9'));
    await until('the change', () => client.held.has('Kubernetes//Pod/shop/new'));
    const read = async (path: string) => JSON.parse((await page(control.ports.http, path)).body) as unknown;
    const numbers = await until('it is counted', async () => {
      const { body } = await page(control.ports.monitoring, '/metrics');
      return /^pilot_proxy_convergence_time_count\{.*\} [1-9]/m.test(body) ? body : undefined;
    });
    assert.match(numbers, /^pilot_xds 1$/m);
    assert.match(numbers, /^pilot_pushes_total [1-9]/m);
    assert.match(numbers, /^pilot_proxy_queue_time_count [1-9]/m);
    assert.match(numbers, /^pilot_debounce_time_count [1-9]/m);
    assert.match(numbers, /^culvert_control_unsynced_kinds 0$/m);
    const [status] = (await read('/debug/syncz')) as {
      proxy: string;
      proxy_type: string;
      resources: Record<string, { sent: string; acked: string }>;
    }[];
    assert.deepEqual([status?.proxy, status?.proxy_type], ['ztunnel-n1.istio-system', 'ztunnel']);
    const { sent, acked } = status!.resources[ADDRESS_TYPE_URL]!;
    assert.ok(sent !== '' && sent === acked);
    assert.partialDeepStrictEqual(await read('/debug/connections'), { totalClients: 1 });
    assert.partialDeepStrictEqual(await read('/debug/adsz'), {
      clients: [{ watches: { [ADDRESS_TYPE_URL]: '*' } }],
    });
    assert.partialDeepStrictEqual(await read('/debug/informerz'), {
      namespaces: { synced: true, objects: 4 },
    });
    assert.deepEqual(await read('/debug/push_status'), []);
    assert.ok(((await read('/debug/list')) as string[]).includes('ambientz'));
    assert.equal((await page(control.ports.monitoring, '//version')).status, 200);
  });

  test('§10.1: what a proxy is to have, the stages of the index, profiles, and why a page is not there', async () => {
    await control.ready;
    const client = subscribe(ADDRESS_TYPE_URL);
    await until('the first response', () => client.responses > 0);
    const ask = (path: string) => page(control.ports.monitoring, `/debug/${path}`);
    const dump = await ask('config_dump?proxyID=ztunnel-n1.istio-system');
    const { configs } = JSON.parse(dump.body) as { configs: Record<string, Record<string, unknown>>[] };
    assert.deepEqual(
      configs.map(({ '@type': type, workload, service }) => [type, workload?.uid ?? service?.hostname]),
      [
        [ADDRESS_TYPE_URL, 'Kubernetes//Pod/istio-system/ztunnel-n1'],
        [ADDRESS_TYPE_URL, 'Kubernetes//Pod/shop/db'],
        [ADDRESS_TYPE_URL, WEB_UID],
        [ADDRESS_TYPE_URL, 'web.shop.svc.cluster.local'],
      ],
    );
    // 10.244.1.2 in base64, as the JSON of protobuf has bytes.
    assert.deepEqual(configs[2]?.workload?.addresses, ['CvQBAg==']);
    assert.equal((await ask('config_dump')).status, 400);
    assert.deepEqual(await ask('config_dump?proxyID=nobody'), {
      status: 404,
      body: 'Proxy not connected to this Pilot instance. It may be connected to another instance.\n',
    });
    const stages = JSON.parse((await ask('krtz')).body) as { name: string; state: { synced: boolean } }[];
    assert.ok(stages.length > 0 && stages.every(({ state }) => state.synced));
    assert.partialDeepStrictEqual(
      stages.find(({ name }) => name === 'workloads of pods'),
      { state: { inputs: { 'shop/web': { outputs: [WEB_UID] } } } },
    );
    // One tag and its length begin a profile: sample_type, field 1.
    const profile = await fetch(
      `http://127.0.0.1:${control.ports.http}/debug/pprof/profile?seconds=1&frequency=1000`,
    );
    const bytes = Buffer.from(await profile.arrayBuffer());
    assert.deepEqual([profile.status, bytes[0], bytes.includes('nanoseconds')], [200, 0x0a, true]);
    assert.equal((await ask('pprof/profile?seconds=301')).status, 400);
    assert.equal((await ask('pprof/heap/profiling')).body, 'heap profiling active: false\n');
    assert.equal((await ask('pprof/goroutine')).status, 404);
    const list = JSON.parse((await ask('list')).body) as string[];
    for (const name of list.filter((it) => !it.startsWith('pprof/') && it !== 'config_dump'))
      assert.equal((await ask(name)).status, 200, name);
    for (const name of ['edsz', 'adsz?push=true', 'force_disconnect?proxyID=ztunnel']) {
      const { status, body } = await ask(name);
      assert.equal(status, 404, name);
      assert.match(body, /^(there is no debug page|nothing is pushed|debug page force_disconnect)/);
    }
  });

  test('a client sees workloads, services and policies, and every change of them', async () => {
    await control.ready;
    const addresses = subscribe(ADDRESS_TYPE_URL);
    const policies = subscribe(AUTHORIZATION_TYPE_URL);
    await until('the first response', () => addresses.responses > 0 && policies.responses > 0);
    assert.deepEqual([...addresses.held.keys()].sort(), [
      'Kubernetes//Pod/istio-system/ztunnel-n1',
      'Kubernetes//Pod/shop/db',
      WEB_UID,
      'shop/web.shop.svc.cluster.local',
    ]);
    assert.partialDeepStrictEqual(workloadOf(addresses, WEB_UID), {
      protocol: 'TCP',
      node: 'n1',
      locality: { zone: 'z-n1' },
      services: new Map([['shop/web.shop.svc.cluster.local', new Map([[80, 8080]])]]),
    });

    // The CNI agent's annotation enrols.
    const web = pod('web', 'shop', 'web', 'n1', '10.244.1.2');
    web.metadata.annotations = { 'ambient.istio.io/redirection': 'enabled' };
    api.put(PODS, web);
    await until('HBONE', () => workloadOf(addresses, WEB_UID)?.protocol === 'HBONE');

    api.put(AUTHORIZATION_POLICIES, {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'no-db', namespace: 'shop' },
      spec: {
        selector: { matchLabels: { app: 'web' } },
        action: 'DENY',
        rules: [{ from: [{ source: { serviceAccounts: ['db'] } }] }],
      },
    });
    const policy = await until('the policy', () => policies.held.get('shop/no-db'));
    assert.partialDeepStrictEqual(decodeAuthorization(policy.value), {
      action: 'Deny',
      scope: 'WorkloadSelector',
    });
    await until('its name on the workload', () =>
      workloadOf(addresses, WEB_UID)?.authorizationPolicies.includes('shop/no-db'),
    );

    // A label decides about membership and selection.
    web.metadata.labels = { app: 'other' };
    api.put(PODS, web);
    await until('the label', () => workloadOf(addresses, WEB_UID)?.services.size === 0);
    assert.deepEqual(workloadOf(addresses, WEB_UID)?.authorizationPolicies, []);

    api.remove(PODS, 'web', 'shop');
    await until('the removal', () => !addresses.held.has(WEB_UID));
    const { body } = await page(control.ports.http, '/debug/syncz');
    const clients = JSON.parse(body) as { node: string }[];
    assert.deepEqual(
      clients.map(({ node }) => node),
      [NODE_ID, NODE_ID],
    );
  });

  test('§4: the type Workload: workloads only, each with every change, and nothing again to who comes back', async () => {
    await control.ready;
    const client = subscribe(WORKLOAD_TYPE_URL);
    await until('the first response', () => client.responses > 0);
    const uids = ['Kubernetes//Pod/istio-system/ztunnel-n1', 'Kubernetes//Pod/shop/db', WEB_UID];
    assert.deepEqual([...client.held.keys()].sort(), uids);
    assert.ok([...client.held.values()].every(({ typeUrl }) => typeUrl === WORKLOAD_TYPE_URL));
    api.put(PODS, pod('new', 'shop', 'web', 'n1', '10.244.1.9'));
    api.remove(PODS, 'db', 'shop');
    await until('both changes', () => client.held.has('Kubernetes//Pod/shop/new') && client.held.size === 3);
    const versions = new Map([...client.held].map(([name, { version }]) => [name, version]));
    const resumed = subscribe(WORKLOAD_TYPE_URL, 'good', NODE_ID, versions);
    await until('an answer', () => resumed.responses > 0);
    assert.equal(resumed.held.size, 0);
  });

  test('a ServiceEntry is given addresses in its status, and is published with them', async () => {
    await control.ready;
    const addresses = subscribe(ADDRESS_TYPE_URL);
    api.put(SERVICE_ENTRIES, {
      apiVersion: 'networking.istio.io/v1',
      kind: 'ServiceEntry',
      metadata: { name: 'goods', namespace: 'shop' },
      spec: {
        hosts: ['goods.example.com'],
        resolution: 'STATIC',
        ports: [{ number: 80, name: 'http', targetPort: 8080 }],
        workloadSelector: { labels: { app: 'db' } },
      },
    });
    const vips = await until('its addresses', () => {
      const found = serviceOf(addresses, 'shop/goods.example.com')?.vips ?? [];
      return found.length === 2 ? found : undefined;
    });
    const written = api.get(SERVICE_ENTRIES, 'goods', 'shop')?.status?.addresses;
    assert.deepEqual(
      written,
      vips.map((vip) => ({ value: vip.ip, host: 'goods.example.com' })),
    );
    assert.deepEqual(
      workloadOf(addresses, 'Kubernetes//Pod/shop/db')?.services,
      new Map([['shop/goods.example.com', new Map([[80, 8080]])]]),
    );
  });

  test('a waypoint counts when the Gateway API comes to the cluster, and no longer when it goes', async () => {
    await control.ready;
    const addresses = subscribe(ADDRESS_TYPE_URL);
    const waypoint = () => serviceOf(addresses, 'shop/web.shop.svc.cluster.local')?.waypoint;
    await until('the service', () => serviceOf(addresses, 'shop/web.shop.svc.cluster.local'));
    assert.equal(waypoint(), undefined);
    api.put(NAMESPACES, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'shop', labels: { 'istio.io/use-waypoint': 'wp' } },
    });
    api.put(GATEWAYS, {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: 'wp', namespace: 'shop' },
      spec: { gatewayClassName: 'istio-waypoint', listeners: [] },
      status: { addresses: [{ type: 'IPAddress', value: '10.96.9.9' }] },
    });
    for (const plural of ['gateways', 'gatewayclasses'])
      api.put(CUSTOM_RESOURCE_DEFINITIONS, {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `${plural}.gateway.networking.k8s.io` },
        spec: { versions: [{ name: 'v1', served: true }] },
        status: { conditions: [{ type: 'Established', status: 'True' }] },
      });
    await until('the waypoint', () => waypoint() !== undefined);
    assert.deepEqual(waypoint(), {
      destination: { kind: 'address', address: { network: '', ip: '10.96.9.9' } },
      hbonePort: 15008,
    });
    api.remove(CUSTOM_RESOURCE_DEFINITIONS, 'gateways.gateway.networking.k8s.io');
    await until('no waypoint', () => waypoint() === undefined);
  });

  test('the mesh configuration is obeyed as it changes; one that cannot be read changes nothing', async () => {
    await control.ready;
    const addresses = subscribe(ADDRESS_TYPE_URL);
    await until('the pod', () => addresses.held.has(WEB_UID));
    const configure = (mesh: string) =>
      api.put(CONFIG_MAPS, {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'istio', namespace: 'istio-system' },
        data: { mesh },
      });
    configure('discoverySelectors: [{ matchLabels: { mesh: "on" } }]');
    await until('the namespace out of view', () => !addresses.held.has(WEB_UID));
    assert.ok(addresses.held.has('Kubernetes//Pod/istio-system/ztunnel-n1'));
    configure('discoverySelectors: nonsense');
    await until('a word in the log', () => lines.some((line) => line.includes('discoverySelectors')));
    assert.ok(!addresses.held.has(WEB_UID));
    api.put(NAMESPACES, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'shop', labels: { mesh: 'on' } },
    });
    await until('the namespace in view', () => addresses.held.has(WEB_UID));
  });

  test('a proxy on demand gets its node’s workloads, and what it asks for with what belongs to it', async () => {
    await control.ready;
    const store = createStore({ localNode: 'n2' });
    const client = startXdsClient(
      { open: xdsOverGrpc(channel('good')), store, log: silentLogger, scope },
      {
        node: ztunnelNode({
          instanceIp: '172.31.0.12',
          podName: 'ztunnel-n1',
          podNamespace: 'istio-system',
          nodeName: 'n2',
          clusterId: 'Kubernetes',
          istioVersion: '1.2.3',
        }),
        onDemand: true,
      },
    );
    const known = (): string[] => [...store.workloads()].map(({ name }) => name).sort();
    await until('the workload of its node', () => known().length > 0);
    assert.deepEqual(known(), ['db']);
    // By the service's address: the service, and the pods behind it.
    assert.equal(await client.demand('/10.96.0.20'), 'answered');
    assert.deepEqual(known(), ['db', 'web']);
    const service = store.serviceByVip('', ip('10.96.0.20'), 'shop');
    assert.deepEqual([...(service?.endpoints.keys() ?? [])], [WEB_UID]);
    // New pods behind it, and on the node, come unasked; others do not.
    const second = pod('web-2', 'shop', 'web', 'n1', '10.244.1.3');
    second.metadata.labels = { app: 'web' };
    api.put(PODS, pod('elsewhere', 'shop', 'db', 'n1', '10.244.1.4'));
    api.put(PODS, pod('beside', 'shop', 'db', 'n2', '10.244.2.3'));
    api.put(PODS, second);
    await until('both', () => known().includes('web-2') && known().includes('beside'));
    assert.deepEqual(known(), ['beside', 'db', 'web', 'web-2']);
    assert.equal(await client.demand('/10.244.1.4'), 'answered');
    assert.ok(known().includes('elsewhere'));
    // What is not there is answered, too, and comes when it is there.
    assert.equal(await client.demand('/10.244.1.9'), 'answered');
    api.put(PODS, pod('late', 'shop', 'db', 'n1', '10.244.1.9'));
    await until('the late one', () => known().includes('late'));
  });

  test('a stranger is refused, and one who claims another namespace', async () => {
    await control.ready;
    api.tokens.set('shop', {
      namespace: 'shop',
      serviceAccount: 'web',
      pod: { name: 'web', uid: 'uid-web' },
    });
    const garbage = subscribe(ADDRESS_TYPE_URL, 'garbage');
    const liar = subscribe(ADDRESS_TYPE_URL, 'shop');
    const [first, second] = await Promise.all([
      until('the refusal of garbage', () => garbage.end),
      until('the refusal of the liar', () => liar.end),
    ]);
    assert.equal(first.code, 16);
    assert.match(first.message, /invalid bearer token/);
    assert.equal(second.code, 7);
    assert.equal(garbage.held.size + liar.held.size, 0);
  });

  test('reviews of the same token are shared for a moment', async () => {
    await control.ready;
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const token = `h.${Buffer.from(JSON.stringify({ exp })).toString('base64url')}.s`;
    api.tokens.set(token, { namespace: 'istio-system', serviceAccount: 'ztunnel' });
    const first = subscribe(ADDRESS_TYPE_URL, token);
    await until('the first', () => first.responses > 0);
    const second = subscribe(ADDRESS_TYPE_URL, token);
    await until('the second', () => second.responses > 0);
    assert.equal(api.reviews, 1);
  });
});

describe('certificates', () => {
  test('a node proxy gets a certificate in the name of a workload on its node', async () => {
    await control.ready;
    const { csrPem } = await requestFor(WEB);
    const chain = await createCaClient(channel('good')).sign(WEB, csrPem, 3600);
    assert.equal(chain.length, 2);
    assert.equal(chain.at(-1), rootPem());
    const leaf = new X509Certificate(chain[0] ?? '');
    assert.equal(leaf.subjectAltName, `URI:${WEB}`);
    assert.ok(leaf.verify(new X509Certificate(rootPem()).publicKey));
    const validMs = leaf.validToDate.getTime() - leaf.validFromDate.getTime();
    assert.ok(Math.abs(validMs - (3600 + 120) * 1000) <= 2000, `${validMs} ms`);
    assert.ok(lines.some((line) => line.includes('certificate signed') && line.includes(WEB)));
  });

  test('not for a workload of another node, and the log says why', async () => {
    await control.ready;
    const { csrPem } = await requestFor(DB);
    await assert.rejects(createCaClient(channel('good')).sign(DB, csrPem, 3600), (error: MeshError) => {
      assert.match(error.message, /no pod of shop\/db runs on the caller's node n1/);
      return true;
    });
    assert.ok(lines.some((line) => line.includes('certificate refused') && line.includes('not-on-node')));
  });

  test('a pod that the informer has not seen yet is found by asking', async () => {
    await control.ready;
    // Put without telling watchers: the fake's list sees it, the informer does not.
    const late = pod('late', 'shop', 'late', 'n1', '10.244.1.9');
    const list = api.client.list;
    Object.assign(api.client, {
      list: async (...args: Parameters<typeof list>) => {
        const answer = await list(...args);
        return args[0].plural === 'pods' ? { ...answer, items: [...answer.items, late] } : answer;
      },
    });
    const identity = 'spiffe://cluster.local/ns/shop/sa/late' as SpiffeId;
    const { csrPem } = await requestFor(identity);
    const chain = await createCaClient(channel('good')).sign(identity, csrPem, 3600);
    assert.equal(new X509Certificate(chain[0] ?? '').subjectAltName, `URI:${identity}`);
  });
});

describe('the root', () => {
  const root = (namespace: string) => api.get(CONFIG_MAPS, 'istio-ca-root-cert', namespace);

  test('stands in every namespace but three, and comes back when deleted or changed', async () => {
    await control.ready;
    for (const name of ['istio-system', 'shop', 'kube-system'])
      await until(`the root in ${name}`, () => root(name)?.data?.['root-cert.pem'] === rootPem());
    assert.equal(root('kube-public'), undefined);
    assert.equal(root('shop')?.metadata.labels?.['istio.io/config'], 'true');

    api.remove(CONFIG_MAPS, 'istio-ca-root-cert', 'shop');
    await until('the root again', () => root('shop'));
    const drifted = structuredClone(root('shop')!);
    drifted.data = { 'root-cert.pem': 'something else' };
    api.put(CONFIG_MAPS, drifted);
    await until('the correction', () => root('shop')?.data?.['root-cert.pem'] === rootPem());
    api.put(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'new' } });
    await until('the root in a new namespace', () => root('new'));
  });

  test('a restart keeps it, and nothing is pushed twice under another version', async () => {
    await control.ready;
    const before = subscribe(ADDRESS_TYPE_URL);
    await until('the state', () => before.held.size === 4);
    const pem = rootPem();
    await control.close();
    await start();
    await control.ready;
    assert.equal(rootPem(), pem);
    const after = subscribe(ADDRESS_TYPE_URL);
    await until('the state again', () => after.held.size === 4);
    const versions = ({ held }: Watched) =>
      [...held.values()].map(({ name, version }) => `${name} ${version}`).sort();
    assert.deepEqual(versions(after), versions(before));
  });
});

describe('readiness', () => {
  test('not ready while the API server is away, ready afterwards, and the reason is told', async () => {
    await control.ready;
    assert.deepEqual(await page(control.ports.http, '/ready'), { status: 200, body: 'ready\n' });
    await control.close();
    api.unreachable = true;
    await start();
    const { status, body } = await page(control.ports.http, '/ready');
    assert.equal(status, 503);
    assert.match(body, /not ready: /);
    api.unreachable = false;
    await control.ready;
    assert.equal((await page(control.ports.http, '/ready')).status, 200);
    const metrics = await page(control.ports.monitoring, '/metrics');
    assert.match(metrics.body, /^culvert_control_addresses 4$/m);
  });

  test('a damaged root stops the control plane instead of replacing it', async () => {
    await control.ready;
    await control.close();
    const secret = structuredClone(api.get(SECRETS, 'istio-ca-secret', 'istio-system')!);
    secret.data = { ...secret.data, 'ca-key.pem': Buffer.from('nonsense').toString('base64') };
    api.put(SECRETS, secret);
    await start();
    await assert.rejects(control.ready, (error: unknown) => {
      assert.ok(error instanceof MeshError && error.code === 'CERTIFICATE_INVALID');
      assert.match(error.message, /istio-system\/istio-ca-secret holds no usable root/);
      return true;
    });
    assert.match((await page(control.ports.http, '/ready')).body, /no usable root/);
  });
});
