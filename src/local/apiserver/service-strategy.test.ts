// Services as the API server takes them: node ports, changes of type, and what is refused, in Kubernetes' sentences.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ApiObject, JsonObject } from './object.ts';
import { StatusError } from './status.ts';
import { makeRig, type Rig } from './test-rig.ts';

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
const refused = (text: string) => (error: unknown) => {
  assert.ok(error instanceof StatusError);
  assert.equal(error.body.code, 422);
  assert.ok(error.message.includes(text), error.message);
  return true;
};

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
    assert.throws(() => create(rig, 'a', spec), refused(text));
  });

test('a node port is given once, and is free again when its service is gone', () => {
  const rig = makeRig();
  create(rig, 'a', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_100 }] });
  assert.throws(
    () => create(rig, 'b', { type: 'NodePort', ports: [{ port: 80, nodePort: 30_100 }] }),
    refused('spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated'),
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
