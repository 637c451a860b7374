// What Node objects ask the machine for.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Node } from '#k8s/objects.ts';
import { ip } from '#net/ip.ts';
import { freeIndex, missingNodes, POWER_ANNOTATION, podCidrsOf, wishOf } from './node-wishes.ts';
import {
  CLUSTER_FAMILIES,
  familiesOf,
  HIGHEST_NODE_INDEX,
  indexOfPodCidr,
  nodeAddresses,
  planNode,
  podAddresses,
} from './plan.ts';

const node = (podCIDR: string | undefined, metadata: Partial<Node['metadata']> = {}): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n3', ...metadata },
  spec: podCIDR === undefined ? {} : { podCIDR },
});

test('a Node becomes a plan by its pod range, a power switch by its annotation', () => {
  assert.deepEqual(wishOf(undefined, 'ipv4'), { kind: 'absent' });
  assert.deepEqual(wishOf(node('10.244.3.0/24', { deletionTimestamp: '2026-01-01T00:00:00Z' }), 'ipv4'), {
    kind: 'absent',
  });
  assert.deepEqual(wishOf(node(undefined), 'ipv4'), { kind: 'unplanned' });
  const wish = wishOf(node('10.244.3.0/24'), 'ipv4');
  assert.deepEqual(wish, {
    kind: 'on',
    plan: {
      name: 'n3',
      index: 3,
      zone: 'z1',
      networks: [
        { family: 'IPv4', address: '172.31.0.13', podPrefix: '10.244.3.', podCidr: '10.244.3.0/24' },
      ],
    },
  });
  assert.equal(
    wishOf(node('10.244.3.0/24', { annotations: { [POWER_ANNOTATION]: 'off' } }), 'ipv4').kind,
    'off',
  );
  const zoned = wishOf(node('10.244.3.0/24', { labels: { 'topology.kubernetes.io/zone': 'east' } }), 'ipv4');
  assert.equal(zoned.kind === 'on' && zoned.plan.zone, 'east');
  assert.equal(wishOf(node('10.0.0.0/24'), 'ipv4').kind, 'impossible');
  assert.equal(wishOf(node('10.244.245.0/24'), 'ipv4').kind, 'impossible');
});

test('in a cluster with two families the second address spells the first', () => {
  const wish = wishOf(node('10.244.3.0/24'), 'dual');
  assert.ok(wish.kind === 'on');
  assert.deepEqual(nodeAddresses(wish.plan), ['172.31.0.13', 'fd00:172:31::13']);
  assert.deepEqual(podCidrsOf(wish.plan), ['10.244.3.0/24', 'fd00:10:244:3::/64']);
  assert.deepEqual(podAddresses(wish.plan, ip('10.244.3.7')), ['10.244.3.7', 'fd00:10:244:3::7']);
});

test('in a cluster with IPv6 alone a node has nothing else, and a range of the other family is none of its own', () => {
  const wish = wishOf(node('fd00:10:244:3::/64'), 'ipv6');
  assert.ok(wish.kind === 'on');
  assert.deepEqual(nodeAddresses(wish.plan), ['fd00:172:31::13']);
  assert.deepEqual(podCidrsOf(wish.plan), ['fd00:10:244:3::/64']);
  assert.deepEqual(podAddresses(wish.plan, ip('fd00:10:244:3::254')), ['fd00:10:244:3::254']);
  const foreign = wishOf(node('10.244.3.0/24'), 'ipv6');
  assert.ok(foreign.kind === 'impossible');
  assert.match(foreign.reason, /none of fd00:10:244:1::\/64 to fd00:10:244:244::\/64/);
});

test('every index has addresses of its own, and its range leads back to it', () => {
  for (const cluster of CLUSTER_FAMILIES) {
    const addresses = new Set<string>();
    const families = familiesOf(cluster);
    for (let index = 1; index <= HIGHEST_NODE_INDEX; index++) {
      const plan = planNode('x', index, cluster);
      for (const address of nodeAddresses(plan)) addresses.add(address);
      assert.equal(indexOfPodCidr(plan.networks[0].podCidr, families[0]), index);
    }
    assert.equal(addresses.size, families.length * HIGHEST_NODE_INDEX);
  }
});

test('an index: the one of the name if free, never one that is taken, none when all are', () => {
  assert.equal(freeIndex('n5', new Set()), 5);
  assert.equal(freeIndex('n5', new Set([5])), 1);
  assert.equal(freeIndex('worker', new Set([1, 2])), 3);
  assert.equal(freeIndex('n999', new Set()), 1);
  fc.assert(
    fc.property(
      fc.string(),
      fc.uniqueArray(fc.integer({ min: 1, max: HIGHEST_NODE_INDEX })),
      (name, taken) => {
        const index = freeIndex(name, new Set(taken));
        assert.equal(index === undefined, taken.length === HIGHEST_NODE_INDEX);
        if (index !== undefined)
          assert.ok(!taken.includes(index) && index >= 1 && index <= HIGHEST_NODE_INDEX);
      },
    ),
  );
});

test('nodes at the start: the usual ones in a new cluster, those asked for in any, removed ones stay away', () => {
  assert.deepEqual(missingNodes([], undefined, 2), ['n1', 'n2']);
  assert.deepEqual(missingNodes(['n1'], undefined, 2), []);
  assert.deepEqual(missingNodes(['n1', 'x'], 3, 2), ['n2', 'n3']);
});
