// NetworkPolicies as the API server takes them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from './object.ts';
import { makeRig, refused } from './test-rig.ts';

const create = (spec: JsonObject): JsonObject =>
  makeRig().create('networkpolicies', { metadata: { name: 'p' }, spec }).spec as JsonObject;

test('the types follow the rules, ports are TCP unless told otherwise', () => {
  assert.deepEqual(create({ podSelector: {} }), { podSelector: {}, policyTypes: ['Ingress'] });
  assert.deepEqual(create({ egress: [{ ports: [{ port: 53 }] }] }), {
    podSelector: {},
    egress: [{ ports: [{ port: 53, protocol: 'TCP' }] }],
    policyTypes: ['Ingress', 'Egress'],
  });
  assert.deepEqual(create({ policyTypes: ['Egress'] }), { podSelector: {}, policyTypes: ['Egress'] });
});

const from = (peer: JsonObject): JsonObject => ({ ingress: [{ from: [peer] }] });
const port = (each: JsonObject): JsonObject => ({ egress: [{ ports: [each] }] });
const REFUSALS: readonly (readonly [spec: JsonObject, text: string])[] = [
  [
    { policyTypes: ['Inbound'] },
    'spec.policyTypes: Unsupported value: "Inbound": supported values: "Egress", "Ingress"',
  ],
  [from({}), 'spec.ingress[0].from[0]: Required value: must specify a peer'],
  [
    from({ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }),
    'spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer',
  ],
  [from({ ipBlock: {} }), 'spec.ingress[0].from[0].ipBlock.cidr: Required value'],
  [
    from({ ipBlock: { cidr: '10.0.0.1' } }),
    'spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.1": must be a valid CIDR value',
  ],
  [
    from({ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }),
    'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
  ],
  [
    from({ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0/8'] } }),
    'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`',
  ],
  [
    from({ podSelector: { matchExpressions: [{ key: 'a', operator: 'Is' }] } }),
    'spec.ingress[0].from[0].podSelector.matchExpressions[0].operator: Unsupported value: "Is"',
  ],
  [
    from({ namespaceSelector: { matchExpressions: [{ key: 'a', operator: 'In' }] } }),
    "namespaceSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
  ],
  [port({ protocol: 'ICMP' }), 'spec.egress[0].ports[0].protocol: Unsupported value: "ICMP"'],
  [port({ port: 0 }), 'spec.egress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535'],
  [port({ port: 'NotAName' }), 'spec.egress[0].ports[0].port: Invalid value: "NotAName"'],
  [
    port({ endPort: 5 }),
    'spec.egress[0].ports[0].port: Required value: must be specified when `endPort` is specified',
  ],
  [
    port({ port: 'http', endPort: 5 }),
    'spec.egress[0].ports[0].endPort: Invalid value: 5: may not be specified when `port` is non-numeric',
  ],
  [
    port({ port: 9, endPort: 5 }),
    'spec.egress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`',
  ],
];
for (const [spec, text] of REFUSALS)
  test(`refused: ${text.slice(0, 90)}`, () => {
    assert.throws(() => create(spec), refused(422, text));
  });

test('kubectl get netpol shows whom a policy is for', () => {
  const cells = (spec: JsonObject): unknown[] => {
    const rig = makeRig();
    const object = rig.create('networkpolicies', { metadata: { name: 'p' }, spec });
    return rig
      .kind('networkpolicies')
      .columns.slice(0, 2)
      .map(({ cell }) => cell(object, 0));
  };
  assert.deepEqual(cells({}), ['p', '<none>']);
  assert.deepEqual(cells({ podSelector: { matchLabels: { app: 'web' } } }), ['p', 'app=web']);
});
