import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Gateway } from '#k8s/mesh-objects.ts';
import type { Service } from '#k8s/objects.ts';
import { indexesForTest } from './ambient/fixtures-index.ts';
import { debugPages } from './debug.ts';
import { ABSENT_PAGES, askDebugPage, type DebugAnswer, type DebugQuery, debugText } from './debug-page.ts';
import type { Proxies } from './debug-proxies.ts';

const service = (name: string, labels: Record<string, string>): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop', labels },
  spec: { clusterIP: 'None' },
});
const gateway = (name: string, namespace: string): Gateway => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'Gateway',
  metadata: { name, namespace },
  status: { addresses: [{ type: 'IPAddress', value: '10.96.9.9' }] },
});

const NO_PROXIES: Proxies = { clients: () => [], resources: () => [], disconnect: () => {} };
const FROM_INSIDE: DebugQuery = { parameters: new URLSearchParams(), namespace: undefined, besides: [] };

/** As it is shown. */
function contentOf(answer: DebugAnswer): unknown {
  assert.equal(answer.status, 200);
  return JSON.parse(debugText((answer as { content: unknown }).content));
}

test('waypointz says which waypoint a service has, or why it has none', () => {
  const { index, ...rest } = indexesForTest();
  index.upsert('gateway', gateway('wp', 'shop'));
  index.upsert('gateway', gateway('far', 'mesh'));
  index.upsert('service', service('bound', { 'istio.io/use-waypoint': 'wp' }));
  index.upsert('service', service('lost', { 'istio.io/use-waypoint': 'gone' }));
  index.upsert(
    'service',
    service('denied', { 'istio.io/use-waypoint': 'far', 'istio.io/use-waypoint-namespace': 'mesh' }),
  );
  index.upsert('service', service('plain', {}));
  index.upsert(
    'service',
    service('canary', { 'istio.io/use-waypoint': 'wp', 'istio.io/use-waypoint-canary': 'wp' }),
  );
  index.upsert('serviceEntry', {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'goods', namespace: 'shop', labels: { 'istio.io/use-waypoint': 'wp' } },
    spec: { hosts: ['goods.example.com'] },
  });
  index.flush();
  const pages = debugPages({ ...rest, index, informers: {}, proxies: NO_PROXIES, options: {} } as never);
  assert.deepEqual(contentOf(askDebugPage(pages, 'waypointz', FROM_INSIDE)), [
    { kind: 'Service', object: 'shop/bound', waypoint: 'shop/wp' },
    {
      kind: 'Service',
      object: 'shop/lost',
      waypoint: null,
      problem: 'WaypointIsNotReady',
      with: 'shop/gone',
    },
    { kind: 'Service', object: 'shop/denied', waypoint: null, problem: 'AttachmentDenied', with: 'mesh/far' },
    {
      kind: 'Service',
      object: 'shop/canary',
      waypoint: 'shop/wp',
      problem: 'CanarySameAsPrimary',
      with: 'shop/wp',
    },
    { kind: 'ServiceEntry', object: 'shop/goods', waypoint: 'shop/wp' },
  ]);
});

// Of control-plane.md §10.1, without the profiles; `adsz`, `cachez` with parameters are the same pages.
const PAGES_OF_THE_FIELD = [
  ...[
    'edsz',
    'ecdsz',
    'ndsz',
    'adsz',
    'syncz',
    'registryz',
    'endpointShardz',
    'cachez',
    'configz',
    'sidecarz',
  ],
  ...[
    'resourcesz',
    'instancesz',
    'ambientz',
    'krtz',
    'authorizationz',
    'telemetryz',
    'config_dump',
    'push_status',
  ],
  ...['pushcontext', 'connections', 'inject', 'mesh', 'clusterz', 'networkz', 'mcsz', 'list'],
];

const emptyMesh = (options: object = {}) =>
  debugPages({
    ...indexesForTest(),
    informers: {},
    proxies: NO_PROXIES,
    options: { clusterId: 'Kubernetes', unsafeAdminPages: false, ...options },
  } as never);

test('§10.1: every page of the field is served, or says why it is not; `list` names what is served and nothing else', () => {
  const pages = emptyMesh();
  const besides = ['pprof/heap'];
  const list = contentOf(askDebugPage(pages, 'list', { ...FROM_INSIDE, besides }));
  assert.deepEqual(list, [...pages.keys(), ...besides].sort());
  for (const name of PAGES_OF_THE_FIELD) {
    assert.notEqual(pages.has(name), ABSENT_PAGES.has(name), name);
    if (pages.has(name)) continue;
    const answer = askDebugPage(pages, name, FROM_INSIDE);
    assert.equal(answer.status, 404);
    assert.match((answer as { explain: string }).explain, new RegExp(`^there is no debug page ${name}: `));
  }
  for (const name of ABSENT_PAGES.keys()) assert.ok(!pages.has(name), name);
  assert.deepEqual(askDebugPage(pages, 'nonsense', { ...FROM_INSIDE, besides }), {
    status: 404,
    explain: `there is no debug page nonsense; there are ${[...pages.keys(), ...besides].sort().join(', ')}`,
  });
});

test('every page that is served, and every one that is not, stands in docs/CONTROL-PLANE.md', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/CONTROL-PLANE.md'), 'utf8');
  const names = [...emptyMesh({ unsafeAdminPages: true }).keys(), ...ABSENT_PAGES.keys()];
  assert.deepEqual(
    names.filter((name) => !text.includes(`\`${name}`)),
    [],
  );
});

test('configz lists the objects of the mesh as kubectl would, mesh is its configuration, settings what the program was given', () => {
  const all = (...objects: unknown[]) => ({ all: () => objects.values() });
  const policy = {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'no', namespace: 'shop' },
    spec: { action: 'DENY', rules: [{}] },
  };
  const entry = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'goods', namespace: 'shop' },
    spec: { hosts: ['goods.example.com'] },
  };
  const ask = (name: string, mesh: string | undefined): unknown =>
    contentOf(
      askDebugPage(
        debugPages({
          ...indexesForTest(),
          informers: {
            authorizationPolicies: all(policy),
            peerAuthentications: all(),
            serviceEntries: all(entry),
            workloadEntries: all(),
            gateways: all(gateway('wp', 'shop')),
            gatewayClasses: all(),
            meshConfigs: mesh === undefined ? all() : all({ data: { mesh } }),
          },
          proxies: NO_PROXIES,
          options: { clusterId: 'c1', trustedNodeAccounts: new Set(['istio-system/ztunnel']) },
        } as never),
        name,
        FROM_INSIDE,
      ),
    );
  assert.deepEqual(ask('configz', undefined), [policy, entry, gateway('wp', 'shop')]);
  assert.deepEqual(ask('mesh', 'trustDomain: example.org\nrootNamespace: r'), {
    trustDomain: 'example.org',
    rootNamespace: 'r',
  });
  assert.deepEqual([ask('mesh', undefined), ask('mesh', ''), ask('mesh', '{')], [{}, {}, '{']);
  assert.deepEqual(ask('settings', undefined), {
    clusterId: 'c1',
    trustedNodeAccounts: ['istio-system/ztunnel'],
  });
});

test('what changes something is there with UNSAFE_ENABLE_ADMIN_ENDPOINTS only, and says so', () => {
  assert.ok(emptyMesh({ unsafeAdminPages: true }).has('force_disconnect'));
  assert.deepEqual(askDebugPage(emptyMesh(), 'force_disconnect', FROM_INSIDE), {
    status: 404,
    explain: 'debug page force_disconnect is served with UNSAFE_ENABLE_ADMIN_ENDPOINTS=true only',
  });
});

test('an account of another namespace sees no page about the whole mesh', () => {
  for (const name of ['syncz', 'ambientz', 'list', 'force_disconnect', 'nonsense'])
    assert.equal(
      askDebugPage(emptyMesh({ unsafeAdminPages: true }), name, { ...FROM_INSIDE, namespace: 'shop' }).status,
      403,
      name,
    );
});

test('clusterz and networkz: one cluster, and the gateways that its objects name', () => {
  const { index, ...rest } = indexesForTest();
  index.upsert('gateway', {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name: 'east', namespace: 'mesh', labels: { 'topology.istio.io/network': 'net-2' } },
    spec: {
      gatewayClassName: 'istio-remote',
      listeners: [{ name: 'cross', port: 15_008, protocol: 'HBONE' }],
    },
    status: { addresses: [{ type: 'IPAddress', value: '192.0.2.7' }] },
  });
  index.flush();
  const pages = debugPages({
    ...rest,
    index,
    informers: { pods: { hasSynced: false } },
    proxies: NO_PROXIES,
    options: { clusterId: 'c1' },
  } as never);
  assert.deepEqual(contentOf(askDebugPage(pages, 'clusterz', FROM_INSIDE)), [
    { id: 'c1', secretName: '', syncStatus: 'syncing' },
  ]);
  assert.deepEqual(contentOf(askDebugPage(pages, 'networkz', FROM_INSIDE)), [
    {
      Network: 'net-2',
      Cluster: 'c1',
      Addr: '192.0.2.7',
      Port: 15_008,
      HBONEPort: 15_008,
      ServiceAccount: { Namespace: 'mesh', Name: 'east-istio-remote' },
    },
  ]);
});

test('ambientz: the mesh in the JSON of protobuf, addresses as text', () => {
  const { index, policyIndex, ...rest } = indexesForTest();
  index.upsert('service', {
    ...service('web', {}),
    spec: { clusterIP: '10.96.0.1', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
  });
  index.upsert('pod', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-1', namespace: 'shop', labels: { app: 'web' } },
    spec: { nodeName: 'n1', serviceAccountName: 'web', containers: [] },
    status: { phase: 'Running', podIP: '10.244.1.2', podIPs: [{ ip: '10.244.1.2' }] },
  } as never);
  policyIndex.upsertAuthorization({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'no', namespace: 'shop' },
    spec: { action: 'DENY', rules: [{ from: [{ source: { ipBlocks: ['10.0.0.0/8'] } }] }] },
  });
  index.flush();
  const pages = debugPages({
    ...rest,
    policyIndex,
    index,
    informers: {},
    proxies: NO_PROXIES,
    options: {},
  } as never);
  const host = 'web.shop.svc.cluster.local';
  assert.partialDeepStrictEqual(contentOf(askDebugPage(pages, 'ambientz', FROM_INSIDE)), {
    workloads: [
      {
        uid: 'Kubernetes//Pod/shop/web-1',
        addresses: ['10.244.1.2'],
        serviceAccount: 'web',
        services: { [`shop/${host}`]: { ports: [{ servicePort: 80, targetPort: 8080 }] } },
      },
    ],
    services: [{ name: 'web', namespace: 'shop', hostname: host, addresses: [{ address: '10.96.0.1' }] }],
    policies: [{ name: 'no', namespace: 'shop', scope: 'NAMESPACE', action: 'DENY' }],
  });
});

test('krtz: each stage with its objects, what came of them, and what else was looked at', () => {
  const { index, addresses, ...rest } = indexesForTest();
  const place = { 'topology.kubernetes.io/zone': 'z1' };
  index.upsert('node', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', labels: place } });
  index.upsert('gateway', gateway('wp', 'shop'));
  index.upsert('service', {
    ...service('web', { 'istio.io/use-waypoint': 'wp' }),
    spec: { clusterIP: '10.96.0.1', selector: { app: 'web' }, ports: [{ port: 80 }] },
  });
  index.upsert('pod', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-1', namespace: 'shop', labels: { app: 'web' } },
    spec: { nodeName: 'n1', containers: [] },
    status: { phase: 'Running', podIP: '10.244.1.2', podIPs: [{ ip: '10.244.1.2' }] },
  } as never);
  index.flush();
  const informers = Object.fromEntries(
    ['namespaces', 'nodes', 'pods', 'services', 'slices', 'serviceEntries', 'gateways', 'gatewayClasses'].map(
      (name) => [name, { hasSynced: name !== 'nodes' }],
    ),
  );
  const pages = debugPages({
    ...rest,
    addresses,
    index,
    informers,
    proxies: NO_PROXIES,
    options: {},
  } as never);
  const stages = contentOf(askDebugPage(pages, 'krtz', FROM_INSIDE)) as { name: string; state: object }[];
  assert.deepEqual(
    stages.map(({ name }) => name),
    [
      'waypoints',
      'gateways to other networks',
      'claims of services',
      'claims of service entries',
      'services',
      'workloads of pods',
      'workloads of workload entries',
      'workloads of service entries',
      'workloads of endpoint slices',
    ],
  );
  const state = (name: string) => stages.find((stage) => stage.name === name)?.state;
  assert.partialDeepStrictEqual(state('waypoints'), {
    inputCollection: 'Gateway',
    inputs: { 'shop/wp': { outputs: ['shop/wp'], dependencies: ['gatewayClass '] } },
    outputs: { 'shop/wp': { namespace: 'shop', name: 'wp', handles: 'service' } },
    synced: true,
  });
  const host = 'web.shop.svc.cluster.local';
  assert.partialDeepStrictEqual(state('claims of services'), {
    inputCollection: 'Service',
    inputs: { 'shop/web': { outputs: [`shop/web ${host}`] } },
    synced: true,
  });
  const { dependencies } = (
    state('claims of services') as { inputs: Record<string, { dependencies: string[] }> }
  ).inputs['shop/web']!;
  assert.ok(dependencies.includes('waypoint shop/wp'), String(dependencies));
  assert.partialDeepStrictEqual(state('services'), {
    inputs: { [host]: { outputs: [`shop/${host}`], dependencies: ['service shop/web'] } },
    outputs: {
      [`shop/${host}`]: {
        source: { kind: 'Service', namespace: 'shop', name: 'web' },
        canonical: true,
        version: addresses.get(`shop/${host}`)!.version,
      },
    },
  });
  const uid = 'Kubernetes//Pod/shop/web-1';
  assert.partialDeepStrictEqual(state('workloads of pods'), {
    inputCollection: 'Pod',
    inputs: { 'shop/web-1': { outputs: [uid] } },
    outputs: { [uid]: addresses.get(uid)!.version },
    // Nodes have not been listed: zones may be missing.
    synced: false,
  });
  const of = (state('workloads of pods') as { inputs: Record<string, { dependencies: string[] }> }).inputs[
    'shop/web-1'
  ]!.dependencies;
  for (const expected of ['node n1', `owner shop/${host}`]) assert.ok(of.includes(expected), String(of));

  // What is marked and not computed yet is said.
  index.upsert('gateway', gateway('wp', 'mesh'));
  const [waypoints] = contentOf(askDebugPage(pages, 'krtz', FROM_INSIDE)) as { state: { synced: boolean } }[];
  assert.equal(waypoints?.state.synced, false);
});
