import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Node, Pod } from '#k8s/objects.ts';
import { silentLogger } from '#telemetry/log.ts';
import { Hand } from '../fixtures-informer.ts';
import { createUntainter } from './untaint.ts';

const TAINT = { key: 'cni.istio.io/not-ready', effect: 'NoSchedule' };
const OTHER = { key: 'other', value: 'x', effect: 'NoExecute' };

interface Patch {
  readonly name: string;
  readonly body: readonly { readonly value: unknown }[];
}

let nodes: Hand<Node>;
let pods: Hand<Pod>;
let scope: Scope;
let patches: Patch[];
let leads: boolean;
let conflicts: number;

const node = (name: string, ...taints: (typeof TAINT | typeof OTHER)[]): Node => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  spec: { taints },
});
const agent = (
  nodeName: string,
  ready: boolean,
  namespace = 'istio-system',
  app = 'istio-cni-node',
): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: `cni-${nodeName}`, namespace, labels: { 'k8s-app': app } },
  spec: { nodeName, containers: [] },
  status: { phase: 'Running', conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
});

const client = {
  patch: async (_kind: unknown, name: string, _patch: string, body: readonly { value: unknown }[]) => {
    if (conflicts-- > 0)
      throw new MeshError('API_STATUS', 'the test failed', { details: { status: 422, reason: 'Invalid' } });
    patches.push({ name, body });
    return {};
  },
} as unknown as KubeClient;

beforeEach(() => {
  nodes = new Hand();
  pods = new Hand();
  scope = new Scope('test');
  patches = [];
  leads = true;
  conflicts = 0;
});
afterEach(() => scope.close());

const start = () =>
  createUntainter(
    { client, nodes: nodes.informer, pods: pods.informer, log: silentLogger, isLeader: () => leads },
    { namespace: 'istio-system', taint: TAINT.key },
  );

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
};

describe('untaint', () => {
  test('a node loses the taint when its agent is ready, and keeps the others', async () => {
    nodes.put(node('n1', TAINT, OTHER));
    nodes.put(node('n2', OTHER));
    start().lead(scope);
    pods.put(agent('n1', false));
    await turns();
    assert.deepEqual(patches, []);
    pods.put(agent('n1', true));
    pods.put(agent('n2', true));
    await turns();
    assert.deepEqual(patches, [
      {
        name: 'n1',
        body: [
          { op: 'test', path: '/spec/taints', value: [TAINT, OTHER] },
          { op: 'replace', path: '/spec/taints', value: [OTHER] },
        ],
      },
    ]);
  });

  test('a node that is tainted after its agent was ready', async () => {
    pods.put(agent('n1', true));
    start().lead(scope);
    nodes.put(node('n1', TAINT));
    await turns();
    assert.equal(patches.length, 1);
  });

  test('pods of other names and other namespaces are no agents', async () => {
    nodes.put(node('n1', TAINT));
    start().lead(scope);
    pods.put(agent('n1', true, 'shop'));
    pods.put(agent('n1', true, 'istio-system', 'web'));
    await turns();
    assert.deepEqual(patches, []);
  });

  test('who does not lead leaves nodes alone, who begins to lead looks at all', async () => {
    nodes.put(node('n1', TAINT));
    pods.put(agent('n1', true));
    const untainter = start();
    await turns();
    assert.deepEqual(patches, []);
    leads = false;
    const term = scope.child('term');
    untainter.lead(term);
    await turns();
    assert.deepEqual(patches, [], 'the lease ran out');
    leads = true;
    term.close();
    untainter.lead(scope.child('next'));
    await turns();
    assert.equal(patches.length, 1);
  });

  test('a list of taints that changed meanwhile is looked at again', async () => {
    nodes.put(node('n1', TAINT));
    pods.put(agent('n1', true));
    conflicts = 1;
    start().lead(scope);
    await turns();
    assert.deepEqual(patches, []);
    nodes.put(node('n1', TAINT, OTHER));
    await turns();
    assert.deepEqual(
      patches.flatMap((patch: Patch) => patch.body[0]?.value ?? []),
      [TAINT, OTHER],
    );
  });
});
