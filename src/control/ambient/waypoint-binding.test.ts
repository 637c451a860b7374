// The reasons why a waypoint is not used (control-plane.md §2.12, §3.6). What is published then stands in the golden cases.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Labels } from './labels.ts';
import type { Waypoint } from './waypoint.ts';
import { type BindingError, bindService, bindWorkload, type WaypointLookup } from './waypoint-binding.ts';

const waypoint = (
  namespace: string,
  name: string,
  handles: Waypoint['handles'],
  from: 'All' | 'Same',
): Waypoint => ({
  namespace,
  name,
  handles,
  admits: { from },
  serviceAccounts: [],
  binding: undefined,
  destination: {
    destination: { kind: 'hostname', namespace, hostname: `${name}.${namespace}` },
    hbonePort: 15008,
  },
});

const WAYPOINTS = [
  waypoint('shop', 'svc', 'service', 'Same'),
  waypoint('shop', 'wl', 'workload', 'Same'),
  waypoint('shop', 'new', 'service', 'Same'),
  waypoint('mesh', 'open', 'all', 'All'),
  waypoint('mesh', 'closed', 'all', 'Same'),
];

const looking = (labels: Labels = {}): WaypointLookup => ({
  namespaceLabels: () => labels,
  namespaceAnnotations: () => ({}),
  waypoint: (namespace, name) => WAYPOINTS.find((it) => it.namespace === namespace && it.name === name),
});

const use = (name: string, more: Labels = {}): Labels => ({ 'istio.io/use-waypoint': name, ...more });
const IN_MESH = { 'istio.io/use-waypoint-namespace': 'mesh' };
const canary = (name: string): Labels => ({ 'istio.io/use-waypoint-canary': name });

const SERVICES: readonly [labels: Labels, bound: string | undefined, reason: BindingError | undefined][] = [
  [use('svc'), 'svc', undefined],
  [use('gone'), undefined, 'WaypointIsNotReady'],
  [use(''), undefined, 'WaypointIsNotReady'],
  [use('none'), undefined, undefined],
  [use('wl'), undefined, 'UnsupportedTrafficType'],
  [use('open', IN_MESH), 'open', undefined],
  [use('closed', IN_MESH), undefined, 'AttachmentDenied'],
  [use('svc', canary('svc')), 'svc', 'CanarySameAsPrimary'],
  [use('svc', canary('gone')), 'svc', 'WaypointIsNotReady'],
  [use('svc', canary('wl')), 'svc', 'UnsupportedTrafficType'],
  [use('svc', canary('none')), 'svc', undefined],
  [use('svc', canary('new')), 'svc', undefined],
];
for (const [labels, bound, reason] of SERVICES)
  test(`a service with ${JSON.stringify(labels)}: ${bound ?? 'no waypoint'}, ${reason ?? 'no error'}`, () => {
    const target = { namespace: 'shop', labels };
    const binding = bindService(target, looking(), { sameNamespaceOnly: false });
    assert.equal(binding.waypoint?.name, bound);
    assert.equal(binding.error?.reason, reason);
  });

test('a weight that is no percentage is said; the primary stays', () => {
  for (const weight of ['101', '-1', 'x', '', '1.5'])
    assert.deepEqual(
      bindService(
        {
          namespace: 'shop',
          labels: use('svc', canary('new')),
          annotations: { 'istio.io/use-waypoint-canary-weight': weight },
        },
        looking(),
        { sameNamespaceOnly: false },
      ).error,
      { reason: 'CanaryInvalidWeight', waypoint: 'shop/new' },
    );
});

test('what only its namespace sees may not leave it', () => {
  const target = { namespace: 'shop', labels: use('open', IN_MESH) };
  assert.deepEqual(bindService(target, looking(), { sameNamespaceOnly: true }).error, {
    reason: 'CrossNamespaceWaypointForbidden',
    waypoint: 'mesh/open',
  });
});

test('a workload with a label of its own is told of the wrong traffic; one that inherits is not', () => {
  assert.equal(
    bindWorkload({ namespace: 'shop', labels: use('svc') }, looking()).error?.reason,
    'UnsupportedTrafficType',
  );
  const inherits = bindWorkload({ namespace: 'shop', labels: {} }, looking(use('svc')));
  assert.deepEqual(inherits, { waypoint: undefined, applicationTunnel: undefined });
  const bound = bindWorkload({ namespace: 'shop', labels: {} }, looking(use('wl')));
  assert.equal(bound.waypoint?.name, 'wl');
});
