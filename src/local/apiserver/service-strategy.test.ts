// Services as the API server takes them: node ports, changes of type, and what is refused, in Kubernetes' sentences.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ApiObject, JsonObject } from './object.ts';
import { makeRig, type Rig, refused } from './test-rig.ts';

const service = (name: string, spec: JsonObject): JsonObject => ({
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});
const specOf = (object: ApiObject): JsonObject & { ports: JsonObject[] } =>
  object.spec as JsonObject & { ports: JsonObject[] };
const create = (rig: Rig, name: string, spec: JsonObject): ReturnType<typeof specOf> =>
  specOf(rig.create('services', service(name, spec)));
const update = (rig: Rig, name: string, spec: JsonObject): ReturnType<typeof specOf> =>
  specOf(rig.update('services', service(name, spec)));

const REFUSALS: readonly (readonly [spec: JsonObject, text: string])[] = [
  [
    { type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] },
    'spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767',
  ],
  [
    { ports: [{ port: 80, nodePort: 30_001 }] },
    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
  ],
  [
    {
      type: 'NodePort',
      ports: [
        { name: 'a', port: 1, nodePort: 30_001 },
        { name: 'b', port: 2, nodePort: 30_001 },
      ],
    },
    'spec.ports[1].nodePort: Duplicate value: 30001',
  ],
  [
    { type: 'NodePort', clusterIP: 'None' },
    'spec.clusterIPs[0]: Invalid value: "None": may not be set to \'None\' for NodePort services',
  ],
  [
    { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 86_401 } } },
    'spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400',
  ],
  [
    { sessionAffinity: 'Cookie' },
    'spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"',
  ],
  [
    { sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 } } },
    'spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None',
  ],
  [
    { externalTrafficPolicy: 'Local' },
    'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
  ],
  [{ internalTrafficPolicy: 'Near' }, 'spec.internalTrafficPolicy: Unsupported value: "Near"'],
  [
    { externalIPs: ['127.0.0.1'] },
    'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range',
  ],
  [{ externalIPs: ['web'] }, 'spec.externalIPs[0]: Invalid value: "web": must be a valid IP address'],
  [
    { ports: [{ port: 80, targetPort: 'Not_A_Name' }] },
    'spec.ports[0].targetPort: Invalid value: "Not_A_Name"',
  ],
  [{ ports: [{ port: 80, targetPort: 70_000 }] }, 'spec.ports[0].targetPort: Invalid value: 70000'],
  [{ type: 'ExternalName' }, 'spec.externalName: Required value'],
  [{ type: 'ExternalName', externalName: 'a b' }, 'spec.externalName: Invalid value: "a b"'],
  [{ ipFamilies: ['IPv6'] }, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'],
  [
    { ipFamilyPolicy: 'RequireDualStack' },
    'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
  ],
];

for (const [spec, text] of REFUSALS)
  test(`refused: ${text.slice(0, 90)}`, () => {
    const rig = makeRig();
    assert.throws(() => create(rig, 'a', spec), refused(422, text));
  });

test('a node port is given once, and is free again when its service is gone', () => {
  const rig = makeRig();
  create(rig, 'a', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_100 }] });
  assert.throws(
    () => create(rig, 'b', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_100 }] }),
    refused(422, 'spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated'),
  );
  rig.remove('services', 'a');
  create(rig, 'b', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_100 }] });
});

test('TCP and UDP of one port share their node port', () => {
  const { ports } = create(makeRig(), 'dns', {
    type: 'NodePort',
    ports: [
      { name: 'udp', port: 53, protocol: 'UDP' },
      { name: 'tcp', port: 53 },
    ],
  });
  assert.deepEqual(
    ports.map(({ nodePort }) => nodePort),
    [30_000, 30_000],
  );
});

test('a service keeps its node port over an apply without it, and loses it with the type', () => {
  const rig = makeRig();
  assert.equal(create(rig, 'a', { type: 'NodePort' }).ports[0]?.nodePort, 30_000);
  assert.equal(update(rig, 'a', { type: 'NodePort' }).ports[0]?.nodePort, 30_000);
  const plain = update(rig, 'a', { type: 'ClusterIP', ports: [{ port: 80, nodePort: 30_000 }] });
  assert.equal(plain.ports[0]?.nodePort, undefined);
  assert.equal(plain.externalTrafficPolicy, undefined);
});

test('a load balancer without node ports gets none', () => {
  const rig = makeRig();
  const spec = { type: 'LoadBalancer', allocateLoadBalancerNodePorts: false };
  assert.equal(create(rig, 'a', spec).ports[0]?.nodePort, undefined);
});

test('a service that becomes an external name gives its address back', () => {
  const rig = makeRig();
  const { clusterIP } = create(rig, 'a', {});
  assert.notEqual(clusterIP, undefined);
  const named = update(rig, 'a', { type: 'ExternalName', externalName: 'a.example' });
  assert.equal(named.clusterIP, undefined);
  create(rig, 'b', { clusterIP: clusterIP as string });
});

test('session affinity is three hours unless told otherwise', () => {
  assert.deepEqual(create(makeRig(), 'a', { sessionAffinity: 'ClientIP' }).sessionAffinityConfig, {
    clientIP: { timeoutSeconds: 10_800 },
  });
});

const DUAL = { serviceFamilies: ['IPv4', 'IPv6'] } as const;
const families = (spec: JsonObject): JsonObject => {
  const { clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy } = spec;
  return { clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy };
};

test('two families: a service has the first unless it asks for more; the list and its first agree', () => {
  const rig = makeRig(DUAL);
  assert.deepEqual(families(create(rig, 'plain', {})), {
    clusterIP: '10.96.1.1',
    clusterIPs: ['10.96.1.1'],
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
  });
  assert.deepEqual(families(create(rig, 'both', { ipFamilyPolicy: 'PreferDualStack' })), {
    clusterIP: '10.96.1.2',
    clusterIPs: ['10.96.1.2', 'fd00:10:96::101'],
    ipFamilies: ['IPv4', 'IPv6'],
    ipFamilyPolicy: 'PreferDualStack',
  });
  assert.deepEqual(families(create(rig, 'six', { ipFamilies: ['IPv6'] })), {
    clusterIP: 'fd00:10:96::102',
    clusterIPs: ['fd00:10:96::102'],
    ipFamilies: ['IPv6'],
    ipFamilyPolicy: 'SingleStack',
  });
  assert.deepEqual(
    families(create(rig, 'first6', { ipFamilyPolicy: 'RequireDualStack', clusterIP: 'fd00:10:96::7' })),
    {
      clusterIP: 'fd00:10:96::7',
      clusterIPs: ['fd00:10:96::7', '10.96.1.3'],
      ipFamilies: ['IPv6', 'IPv4'],
      ipFamilyPolicy: 'RequireDualStack',
    },
  );
  assert.deepEqual(families(create(rig, 'headless', { clusterIP: 'None', selector: { app: 'a' } })), {
    clusterIP: 'None',
    clusterIPs: ['None'],
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
  });
});

test('one family: who prefers two gets one, who needs two is refused; a headless service without selector names both', () => {
  const rig = makeRig();
  assert.deepEqual(create(rig, 'prefers', { ipFamilyPolicy: 'PreferDualStack' }).ipFamilies, ['IPv4']);
  assert.deepEqual(create(rig, 'free', { clusterIP: 'None' }).ipFamilies, ['IPv4', 'IPv6']);
  assert.throws(
    () => create(rig, 'six', { clusterIP: 'fd00:10:96::9' }),
    refused(
      422,
      'spec.clusterIPs[0]: Invalid value: ["fd00:10:96::9"]: IPv6 is not configured on this cluster',
    ),
  );
});

test('IPv6 alone: every service has it, IPv4 is refused', () => {
  const rig = makeRig({ serviceFamilies: ['IPv6'] });
  assert.deepEqual(families(create(rig, 'plain', {})), {
    clusterIP: 'fd00:10:96::101',
    clusterIPs: ['fd00:10:96::101'],
    ipFamilies: ['IPv6'],
    ipFamilyPolicy: 'SingleStack',
  });
  assert.throws(
    () => create(rig, 'four', { clusterIP: '10.96.0.9' }),
    refused(422, 'spec.clusterIPs[0]: Invalid value: ["10.96.0.9"]: IPv4 is not configured on this cluster'),
  );
});

test('the second address comes and goes with the policy; the first stays', () => {
  const rig = makeRig(DUAL);
  const one = create(rig, 'a', {});
  const two = update(rig, 'a', { ipFamilyPolicy: 'PreferDualStack' });
  assert.deepEqual(two.clusterIPs, [one.clusterIP, 'fd00:10:96::101']);
  assert.deepEqual(update(rig, 'a', {}).clusterIPs, two.clusterIPs, 'an apply without it changes nothing');
  assert.throws(
    () => update(rig, 'a', { clusterIP: one.clusterIP, clusterIPs: [one.clusterIP] }),
    refused(422, "must be 'SingleStack' to release the secondary cluster IP"),
  );
  const back = update(rig, 'a', { ipFamilyPolicy: 'SingleStack' });
  assert.deepEqual([back.clusterIPs, back.ipFamilies], [[one.clusterIP], ['IPv4']]);
  create(rig, 'b', { clusterIP: 'fd00:10:96::101' });
  assert.throws(
    () => update(rig, 'a', { ipFamilies: ['IPv6'], clusterIP: '', clusterIPs: [] }),
    refused(
      422,
      'spec.clusterIPs[0]: Invalid value: "10.96.1.1": expected an IPv6 value as indicated by `ipFamilies[0]`',
    ),
  );
});

const DUAL_REFUSALS: readonly (readonly [spec: JsonObject, text: string])[] = [
  [
    { ipFamilies: ['IPv4', 'IPv6'] },
    "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
  ],
  [{ ipFamilies: ['IPv4', 'IPv4'] }, 'spec.ipFamilies[1]: Duplicate value: "IPv4"'],
  [{ ipFamilies: ['IPX'] }, 'spec.ipFamilies[0]: Unsupported value: "IPX": supported values: "IPv4", "IPv6"'],
  [
    { ipFamilyPolicy: 'Both' },
    'spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"',
  ],
  [
    { clusterIP: '10.96.0.7', clusterIPs: ['10.96.0.8'] },
    'spec.clusterIPs: Invalid value: ["10.96.0.8"]: first value must match `clusterIP`',
  ],
  [
    { clusterIPs: ['10.96.0.7'] },
    'spec.clusterIPs: Invalid value: ["10.96.0.7"]: must be empty when `clusterIP` is not specified',
  ],
  [
    { ipFamilyPolicy: 'PreferDualStack', clusterIP: '10.96.0.7', clusterIPs: ['10.96.0.7', '10.96.0.8'] },
    'spec.clusterIPs: Invalid value: ["10.96.0.7","10.96.0.8"]: may specify no more than one IP for each IP family',
  ],
  [
    { ipFamilies: ['IPv4'], clusterIP: 'fd00:10:96::7' },
    'spec.clusterIPs[0]: Invalid value: "fd00:10:96::7": expected an IPv4 value as indicated by `ipFamilies[0]`',
  ],
  [
    { clusterIP: 'fd00:99::7' },
    'spec.clusterIPs: Invalid value: ["fd00:99::7"]: failed to allocate IP: the provided IP is not in the valid range fd00:10:96::/112',
  ],
  [
    { clusterIP: 'None', clusterIPs: ['None', '10.96.0.7'] },
    'spec.clusterIPs: Invalid value: ["None","10.96.0.7"]: \'None\' must be the first and only value',
  ],
];

for (const [spec, text] of DUAL_REFUSALS)
  test(`refused with two families: ${text.slice(0, 90)}`, () => {
    assert.throws(() => create(makeRig(DUAL), 'a', spec), refused(422, text));
  });

test('an IPv6 address is taken however it is written', () => {
  const rig = makeRig(DUAL);
  create(rig, 'a', { clusterIP: 'fd00:10:96::a' });
  assert.throws(
    () => create(rig, 'b', { clusterIP: 'FD00:10:96:0::000A' }),
    refused(422, 'failed to allocate IP FD00:10:96:0::000A: provided IP is already allocated'),
  );
});
