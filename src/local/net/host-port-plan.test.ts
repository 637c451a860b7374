import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { planNode } from '#local/machine/plan.ts';
import { hostPortUses, nodeAddressFor, unserved } from './host-port-plan.ts';

const service = (name: string, spec: Service['spec'], created = '2026-01-01T00:00:00Z'): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop', creationTimestamp: created, uid: name },
  spec,
});
const NODES = [planNode('n1', 1, 'dual'), planNode('n2', 2, 'dual')];

test('node ports answer under their own number, load balancers under both', () => {
  const { uses, conflicts } = hostPortUses([
    service('node', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_001 }] }),
    service('balanced', { type: 'LoadBalancer', ports: [{ port: 8080, nodePort: 30_002 }] }),
    service('plain', { ports: [{ port: 80 }] }),
    service('datagrams', { type: 'NodePort', ports: [{ port: 53, nodePort: 30_003, protocol: 'UDP' }] }),
  ]);
  assert.deepEqual(uses.map(({ hostPort, key, nodePort }) => `${hostPort} ${key} ${nodePort}`).sort(), [
    '30001 shop/node 30001',
    '30002 shop/balanced 30002',
    '8080 shop/balanced 30002',
  ]);
  assert.deepEqual(conflicts, []);
});

test('a load balancer of another class has its node port only', () => {
  const spec = {
    type: 'LoadBalancer' as const,
    loadBalancerClass: 'example.com/x',
    ports: [{ port: 80, nodePort: 30_001 }],
  };
  assert.deepEqual(
    hostPortUses([service('a', spec)]).uses.map(({ hostPort }) => hostPort),
    [30_001],
  );
});

test('of two load balancers with one port the older has it', () => {
  const balancer = (name: string, nodePort: number, created: string): Service =>
    service(name, { type: 'LoadBalancer', ports: [{ port: 80, nodePort }] }, created);
  const { uses, conflicts } = hostPortUses([
    balancer('young', 30_001, '2026-01-02T00:00:00Z'),
    balancer('old', 30_002, '2026-01-01T00:00:00Z'),
  ]);
  assert.equal(uses.find(({ hostPort }) => hostPort === 80)?.key, 'shop/old');
  assert.deepEqual(conflicts, [
    {
      key: 'shop/young',
      family: 'IPv4',
      text: 'port 127.0.0.1:80 of the host belongs to service shop/old',
    },
  ]);
});

test('a service answers on the loopback address of each of its families', () => {
  const spec = { type: 'NodePort' as const, ports: [{ port: 80, nodePort: 30_001 }] };
  const families = (ipFamilies: string[]): string[] =>
    hostPortUses([service('a', { ...spec, ipFamilies })]).uses.map(({ family }) => family);
  assert.deepEqual(families(['IPv6']), ['IPv6']);
  assert.deepEqual(families(['IPv4', 'IPv6']), ['IPv4', 'IPv6']);
});

test('what the host cannot do is said', () => {
  const ports = [{ name: 'dns', port: 53, protocol: 'UDP' }, { port: 80 }];
  assert.deepEqual(unserved(service('a', { type: 'LoadBalancer', ports })), [
    'port dns (53) is UDP: only TCP ports answer on the host',
    'port 80 has no node port, through which the host reaches it (allocateLoadBalancerNodePorts: false)',
  ]);
  assert.deepEqual(unserved(service('a', { ports })), []);
});

test('with the policy Local a node with an endpoint is asked, any node otherwise', () => {
  const slice: EndpointSlice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'a-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'a' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.244.2.2'], nodeName: 'n2' }],
    ports: [{ name: '', port: 8080, protocol: 'TCP' }],
  };
  const ports = [{ port: 80, nodePort: 30_001 }];
  const local = service('a', { type: 'NodePort', externalTrafficPolicy: 'Local', ports });
  const over4 = { family: 'IPv4', nodePort: 30_001 } as const;
  assert.equal(nodeAddressFor(local, over4, [slice], NODES), '172.31.0.12');
  assert.equal(nodeAddressFor(local, over4, [], NODES), undefined);
  const anywhere = service('a', { type: 'NodePort', ports });
  assert.equal(nodeAddressFor(anywhere, over4, [], NODES), '172.31.0.11');
  const over6 = { family: 'IPv6', nodePort: 30_001 } as const;
  assert.equal(nodeAddressFor(anywhere, over6, [], NODES), 'fd00:172:31::11');
  assert.equal(nodeAddressFor(local, over6, [slice], NODES), undefined, 'no endpoint of that family');
});
