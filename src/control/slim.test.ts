// Nothing that the mesh is computed from is lost when objects are slimmed: every golden set comes to the same with and
// without it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod } from '#k8s/objects.ts';
import { goldenCases } from './golden/cases.ts';
import { Held } from './golden/held.ts';
import { slimNode, slimPod } from './slim.ts';

test('every golden set has the same outcome from slimmed pods and nodes', () => {
  let pods = 0;
  for (const { config, options, objects, says } of goldenCases()) {
    const [whole, slimmed] = [new Held(options), new Held(options)];
    for (const held of [whole, slimmed]) held.model.configure(config);
    for (const given of objects) {
      const { kind, object } = given;
      whole.put(given);
      if (kind === 'pod') pods++;
      if (kind === 'pod') slimmed.put({ kind, object: slimPod(object as Pod) });
      else slimmed.put(kind === 'node' ? { kind, object: slimNode(object as Node) } : given);
    }
    for (const held of [whole, slimmed]) held.model.index.flush();
    assert.deepEqual(slimmed.contents(), whole.contents(), says);
  }
  assert.ok(pods > 100, `${pods} pods`);
});

test('what nobody asks for is gone', () => {
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'a',
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', kept: 'yes' },
    },
    spec: {
      nodeName: 'n1',
      volumes: [{ name: 'v' }],
      containers: [{ name: 'c', image: 'i', env: [{ name: 'A' }], ports: [{ containerPort: 80 }] }],
      initContainers: [{ name: 'once', image: 'i' }],
    },
    status: {
      phase: 'Running',
      podIP: '10.0.0.1',
      containerStatuses: [],
      conditions: [
        { type: 'Initialized', status: 'True' },
        { type: 'Ready', status: 'True', lastTransitionTime: 'x' },
      ],
    },
  };
  assert.deepEqual(slimPod(pod), {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'a', annotations: { kept: 'yes' } },
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80 }] }],
      initContainers: [],
    },
    status: { phase: 'Running', podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'True' }] },
  });
});
