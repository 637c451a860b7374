import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Workload } from '#model/workload.ts';
import { decodeAddress } from '#proto/workload.ts';
import { authorizationPolicy, namespace, node, type PodSketch, pod, service, slice } from './fixtures.ts';
import { indexesForTest as setUp } from './fixtures-index.ts';

const WEB = 'Kubernetes//Pod/shop/web';

describe('pods', () => {
  test('a pod becomes a workload with the fields of the specification', () => {
    const { index, workload } = setUp();
    index.upsert(
      'node',
      node('n1', {
        'topology.kubernetes.io/region': 'r',
        'topology.kubernetes.io/zone': 'z',
        'topology.istio.io/subzone': 's',
      }),
    );
    index.upsert(
      'pod',
      pod({
        name: 'web',
        ips: ['10.244.1.2', 'fd00::2'],
        node: 'n1',
        serviceAccount: 'web',
        labels: { app: 'web', version: 'v1', 'pod-template-hash': '5d4f8' },
        annotations: { 'ambient.istio.io/redirection': 'enabled' },
        generateName: 'frontend-5d4f8-',
        owner: { kind: 'ReplicaSet', name: 'frontend-5d4f8' },
      }),
    );
    index.flush();
    assert.deepEqual(workload(WEB), {
      uid: WEB,
      name: 'web',
      namespace: 'shop',
      ips: ['10.244.1.2', 'fd00::2'],
      network: '',
      protocol: 'HBONE',
      networkMode: 'Standard',
      trustDomain: 'cluster.local',
      serviceAccount: 'web',
      waypoint: undefined,
      networkGateway: undefined,
      node: 'n1',
      hostname: '',
      workloadName: 'frontend',
      workloadType: 'pod',
      canonicalName: 'web',
      canonicalRevision: 'v1',
      clusterId: 'Kubernetes',
      nativeTunnel: false,
      applicationTunnel: undefined,
      authorizationPolicies: [],
      status: 'Healthy',
      locality: { region: 'r', zone: 'z', subzone: 's' },
      capacity: 1,
      services: new Map(),
    });
  });

  const table: { says: string; sketch: Partial<PodSketch>; expect: Partial<Workload> | undefined }[] = [
    { says: 'the namespace label alone enrols nobody', sketch: {}, expect: { protocol: 'TCP' } },
    {
      says: 'only the value enabled counts',
      sketch: { annotations: { 'ambient.istio.io/redirection': 'disabled' } },
      expect: { protocol: 'TCP' },
    },
    {
      says: 'the tunnel label means HBONE ended by the pod itself',
      sketch: { labels: { 'networking.istio.io/tunnel': 'http' } },
      expect: { protocol: 'HBONE', nativeTunnel: true },
    },
    { says: 'not ready is unhealthy', sketch: { ready: false }, expect: { status: 'Unhealthy' } },
    { says: 'terminating is unhealthy', sketch: { deleting: true }, expect: { status: 'Unhealthy' } },
    { says: 'succeeded is gone', sketch: { phase: 'Succeeded' }, expect: undefined },
    { says: 'failed is gone', sketch: { phase: 'Failed' }, expect: undefined },
    { says: 'without address: not yet', sketch: { ips: [] }, expect: undefined },
    { says: 'an unreadable address: not', sketch: { ips: ['10.0.0.1', 'x'] }, expect: undefined },
    { says: 'pending with an address is there', sketch: { phase: 'Pending' }, expect: { name: 'web' } },
    { says: 'host network', sketch: { hostNetwork: true }, expect: { networkMode: 'HostNetwork' } },
    {
      says: 'canonical name from the app label',
      sketch: { labels: { app: 'a', 'app.kubernetes.io/name': 'b' } },
      expect: { canonicalName: 'b' },
    },
    {
      says: 'the canonical label goes first',
      sketch: { labels: { app: 'a', 'service.istio.io/canonical-name': 'c' } },
      expect: { canonicalName: 'c' },
    },
    {
      says: 'defaults',
      sketch: {},
      expect: { canonicalName: 'web', canonicalRevision: 'latest', workloadName: 'web' },
    },
    {
      says: 'an owner without generateName is ignored',
      sketch: { owner: { kind: 'ReplicaSet', name: 'x' } },
      expect: { workloadName: 'web' },
    },
    {
      says: 'a ReplicaSet of its own keeps its name',
      sketch: { generateName: 'rs-', owner: { kind: 'ReplicaSet', name: 'rs' } },
      expect: { workloadName: 'rs' },
    },
    {
      says: 'a Rollout',
      sketch: {
        generateName: 'r-',
        owner: { kind: 'ReplicaSet', name: 'roll-abc' },
        labels: { 'rollouts-pod-template-hash': 'abc' },
      },
      expect: { workloadName: 'roll' },
    },
    {
      says: 'a CronJob',
      sketch: { generateName: 'r-', owner: { kind: 'Job', name: 'night-28471230' } },
      expect: { workloadName: 'night' },
    },
    {
      says: 'a Job with a short number is a Job',
      sketch: { generateName: 'r-', owner: { kind: 'Job', name: 'night-1234567' } },
      expect: { workloadName: 'night-1234567' },
    },
    {
      says: 'a DaemonSet',
      sketch: { generateName: 'r-', owner: { kind: 'DaemonSet', name: 'ztunnel' } },
      expect: { workloadName: 'ztunnel' },
    },
    {
      says: 'the workload-name label wins',
      sketch: { labels: { 'service.istio.io/workload-name': 'mine' } },
      expect: { workloadName: 'mine', canonicalName: 'mine' },
    },
  ];
  for (const { says, sketch, expect } of table)
    test(says, () => {
      const { index, addresses, workload } = setUp();
      index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2', ...sketch }));
      index.flush();
      if (expect === undefined) assert.equal(addresses.size, 0);
      else assert.partialDeepStrictEqual(workload(WEB), expect);
    });
});

describe('services', () => {
  test('named target ports resolve in each pod; a missing name leaves the port out, never the service', () => {
    const { index, workload, addresses } = setUp();
    index.upsert(
      'service',
      service('web', {
        clusterIP: '10.96.0.20',
        clusterIPs: ['10.96.0.20'],
        ipFamilies: ['IPv4'],
        selector: { app: 'web' },
        ports: [
          { name: 'http', port: 80, targetPort: 'web-port' },
          { name: 'plain', port: 81, targetPort: 8081 },
        ],
      }),
    );
    const ports = [{ name: 'web-port', containerPort: 8080 }];
    index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2', labels: { app: 'web' }, ports }));
    index.upsert('pod', pod({ name: 'old', ip: '10.244.1.3', labels: { app: 'web' } }));
    index.upsert('pod', pod({ name: 'other', ip: '10.244.1.4', labels: { app: 'other' } }));
    index.flush();
    const key = 'shop/web.shop.svc.cluster.local';
    assert.deepEqual(
      [...workload(WEB).services],
      [
        [
          key,
          new Map([
            [80, 8080],
            [81, 8081],
          ]),
        ],
      ],
    );
    assert.deepEqual([...workload('Kubernetes//Pod/shop/old').services], [[key, new Map([[81, 8081]])]]);
    assert.equal(workload('Kubernetes//Pod/shop/other').services.size, 0);
    const address = decodeAddress(addresses.get(key)!.bytes);
    assert.partialDeepStrictEqual(address, {
      kind: 'service',
      service: {
        name: 'web',
        hostname: 'web.shop.svc.cluster.local',
        vips: [{ network: '', ip: '10.96.0.20' }],
        ports: new Map([
          [80, 0],
          [81, 8081],
        ]),
        ipFamilies: 'IPv4',
        canonical: true,
        loadBalancer: undefined,
      },
    });
  });

  const balanced: [string, Parameters<typeof service>[1], Record<string, string>, unknown][] = [
    [
      'internalTrafficPolicy',
      { internalTrafficPolicy: 'Local', trafficDistribution: 'PreferSameZone' },
      {},
      { mode: 'Strict', routingPreferences: ['Node'], healthPolicy: 'OnlyHealthy' },
    ],
    [
      'same zone',
      { trafficDistribution: 'PreferClose' },
      {},
      { mode: 'Failover', routingPreferences: ['Network', 'Region', 'Zone'], healthPolicy: 'OnlyHealthy' },
    ],
    [
      'same node by annotation',
      {},
      { 'networking.istio.io/traffic-distribution': 'prefersamenode' },
      {
        mode: 'Failover',
        routingPreferences: ['Network', 'Region', 'Zone', 'Subzone', 'Node'],
        healthPolicy: 'OnlyHealthy',
      },
    ],
    [
      'an unknown annotation stops the search',
      {},
      { 'networking.istio.io/traffic-distribution': 'x' },
      undefined,
    ],
    [
      'the namespace speaks last',
      {},
      {},
      { mode: 'Failover', routingPreferences: ['Network', 'Region', 'Zone'], healthPolicy: 'OnlyHealthy' },
    ],
    [
      'not-ready addresses',
      { publishNotReadyAddresses: true },
      { 'networking.istio.io/traffic-distribution': 'x' },
      { mode: 'Standard', routingPreferences: [], healthPolicy: 'AllowAll' },
    ],
  ];
  for (const [says, spec, annotations, expected] of balanced)
    test(`load balancing: ${says}`, () => {
      const { index, addresses } = setUp();
      index.upsert(
        'namespace',
        namespace('shop', {}, { 'networking.istio.io/traffic-distribution': 'PreferSameZone' }),
      );
      index.upsert(
        'service',
        service('web', { clusterIP: 'None', ports: [{ port: 80 }], ...spec }, 'shop', annotations),
      );
      index.flush();
      const address = decodeAddress(addresses.get('shop/web.shop.svc.cluster.local')!.bytes);
      assert.ok(address.kind === 'service');
      assert.deepEqual(address.service.loadBalancer, expected);
      assert.deepEqual(address.service.vips, []);
    });

  test('ExternalName is no service of the mesh', () => {
    const { index, addresses } = setUp();
    index.upsert(
      'service',
      service('ext', { type: 'ExternalName', externalName: 'example.com', selector: { a: 'b' } }),
    );
    index.flush();
    assert.equal(addresses.size, 0);
  });

  test('a service without selector: pods named by uid are members, other endpoints are workloads of their own', () => {
    const { index, workload, addresses } = setUp();
    index.upsert(
      'service',
      service('db', { clusterIP: '10.96.0.30', ports: [{ name: 'tcp', port: 5432, targetPort: 5432 }] }),
    );
    const targetRef = { kind: 'Pod', name: 'web', namespace: 'shop', uid: 'uid-shop-web' };
    index.upsert(
      'slice',
      slice(
        'db-1',
        'db',
        [
          { addresses: ['10.244.1.2'], targetRef },
          { addresses: ['192.0.2.9'], conditions: { ready: false } },
        ],
        [{ name: 'tcp', port: 15432 }],
      ),
    );
    index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2' }));
    index.flush();
    const key = 'shop/db.shop.svc.cluster.local';
    assert.deepEqual([...workload(WEB).services], [[key, new Map([[5432, 5432]])]]);
    const uid = 'Kubernetes/discovery.k8s.io/EndpointSlice/shop/db-1/192.0.2.9';
    assert.partialDeepStrictEqual(workload(uid), {
      ips: ['192.0.2.9'],
      networkMode: 'HostNetwork',
      status: 'Unhealthy',
      protocol: 'TCP',
      name: 'db-1',
      services: new Map([[key, new Map([[5432, 15432]])]]),
    });
    // A later pod of the same name is not the one that was meant.
    index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2', uid: 'another' }));
    index.remove('slice', slice('gone', 'db', []));
    index.flush();
    assert.equal(workload(WEB).services.size, 0);
    index.upsert('slice', slice('db-1', 'db', []));
    index.flush();
    assert.equal(addresses.get(uid), undefined);
  });

  test('a service that is given a selector loses the pods that only its slices named', () => {
    const { index, workload } = setUp();
    index.upsert('service', service('db', { ports: [{ port: 5432 }] }));
    const targetRef = { kind: 'Pod', name: 'web', namespace: 'shop', uid: 'uid-shop-web' };
    index.upsert('slice', slice('db-1', 'db', [{ addresses: ['10.244.1.2'], targetRef }]));
    index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2' }));
    index.flush();
    assert.equal(workload(WEB).services.size, 1);
    index.upsert('service', service('db', { ports: [{ port: 5432 }], selector: { app: 'db' } }));
    index.flush();
    assert.equal(workload(WEB).services.size, 0);
  });
});

describe('publishing', () => {
  test('only what really changed is announced, under its own name', () => {
    const { index, announced, policyIndex } = setUp();
    index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2', node: 'n1', labels: { app: 'web' } }));
    index.upsert('pod', pod({ name: 'db', ip: '10.244.1.3', node: 'n2', labels: { app: 'db' } }));
    index.flush();
    const DB = 'Kubernetes//Pod/shop/db';
    assert.deepEqual(announced.splice(0), [[DB, WEB]]);

    index.upsert('pod', { ...pod({ name: 'web', ip: '10.244.1.2', node: 'n1', labels: { app: 'web' } }) });
    index.upsert('node', node('n1'));
    index.flush();
    assert.deepEqual(announced.splice(0), []);

    index.upsert('node', node('n1', { 'topology.kubernetes.io/zone': 'z1' }));
    index.flush();
    assert.deepEqual(announced.splice(0), [[WEB]]);

    policyIndex.upsertAuthorization(
      authorizationPolicy('only-db', {
        selector: { matchLabels: { app: 'db' } },
        action: 'DENY',
        rules: [{}],
      }),
    );
    index.flush();
    assert.deepEqual(announced.splice(0), [[DB]]);

    index.upsert('namespace', namespace('istio-system', { 'topology.istio.io/network': 'net1' }));
    index.flush();
    assert.deepEqual(announced.splice(0), [[DB, WEB]]);

    index.remove('pod', pod({ name: 'web' }));
    index.flush();
    assert.deepEqual(announced.splice(0), [[WEB]]);
  });

  test('the version is a function of the content', () => {
    const [a, b] = [setUp(), setUp()];
    a.index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2' }));
    b.index.upsert('pod', pod({ name: 'web', ip: '10.244.1.9' }));
    b.index.flush();
    b.index.upsert('pod', pod({ name: 'web', ip: '10.244.1.2' }));
    a.index.flush();
    b.index.flush();
    assert.equal(a.addresses.get(WEB)?.version, b.addresses.get(WEB)?.version);
  });
});
