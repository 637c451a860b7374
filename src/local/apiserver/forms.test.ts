// The small readers and printers: selectors, JSON paths, ages, Accept headers, URL paths, request bodies.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { acceptedForm, acceptsAggregatedDiscovery } from './accept.ts';
import { duration } from './cells.ts';
import { podStatusWord } from './columns-pod.ts';
import { decode, decodeObject } from './decode.ts';
import { compareVersions } from './discovery.ts';
import { evaluateJsonPath, parseJsonPath, setAtJsonPath } from './json-path.ts';
import { checkLabels, checkName } from './names.ts';
import type { ApiObject, JsonObject } from './object.ts';
import { parseResourcePath } from './paths.ts';
import { selectorFilter } from './selectors.ts';
import { StatusError } from './status.ts';
import { makeRig, podNamed } from './test-rig.ts';

const S = 1000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;

// As k8s.io/apimachinery's HumanDuration prints them.
const DURATIONS: readonly (readonly [ms: number, text: string])[] = [
  [0, '0s'],
  [119 * S, '119s'],
  [2 * M, '2m'],
  [3 * M + 7 * S, '3m7s'],
  [10 * M + 30 * S, '10m'],
  [179 * M, '179m'],
  [3 * H, '3h'],
  [4 * H + 5 * M, '4h5m'],
  [9 * H, '9h'],
  [47 * H, '47h'],
  [2 * D, '2d'],
  [2 * D + 3 * H, '2d3h'],
  [9 * D, '9d'],
  [700 * D, '700d'],
  [2 * 365 * D + 10 * D, '2y10d'],
  [9 * 365 * D, '9y'],
  [-5 * S, '<invalid>'],
];

test('ages as kubectl prints them', () => {
  for (const [ms, text] of DURATIONS) assert.equal(duration(ms), text);
});

test('JSON paths of printer columns', () => {
  const object = {
    spec: {
      'a.b': 1,
      list: [
        { type: 'x', v: 1 },
        { type: 'Ready', v: 2 },
      ],
    },
    metadata: { name: 'n' },
  };
  const read = (text: string): unknown[] => evaluateJsonPath(parseJsonPath(text)!, object);
  assert.deepEqual(read('.metadata.name'), ['n']);
  assert.deepEqual(read('.spec.list[1].v'), [2]);
  assert.deepEqual(read('.spec.list[*].v'), [1, 2]);
  assert.deepEqual(read('.spec.list[?(@.type=="Ready")].v'), [2]);
  assert.deepEqual(read(".spec['a.b']"), [1]);
  assert.deepEqual(read('.spec.a\\.b'), [1]);
  assert.deepEqual(read('.spec.constructor'), []);
  assert.equal(parseJsonPath('spec'), undefined);
  assert.equal(parseJsonPath('.__proto__.x'), undefined);
  const target: JsonObject = { spec: {} };
  setAtJsonPath(parseJsonPath('.spec.scale.replicas')!, target, 3);
  assert.deepEqual(target, { spec: { scale: { replicas: 3 } } });
});

test('Accept: tables and metadata where asked for, JSON in any other case', () => {
  const kubectl =
    'application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json';
  assert.deepEqual(acceptedForm(kubectl), { form: 'table', yaml: false });
  assert.deepEqual(acceptedForm('application/vnd.kubernetes.protobuf,application/json'), {
    form: 'object',
    yaml: false,
  });
  assert.deepEqual(acceptedForm('application/vnd.kubernetes.protobuf'), { form: 'object', yaml: false });
  assert.deepEqual(acceptedForm(undefined), { form: 'object', yaml: false });
  assert.deepEqual(acceptedForm('application/yaml'), { form: 'object', yaml: true });
  assert.equal(
    acceptedForm('application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io').form,
    'metadata',
  );
  assert.ok(
    acceptsAggregatedDiscovery(
      'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json',
    ),
  );
  assert.ok(
    !acceptsAggregatedDiscovery('application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList'),
  );
});

test('URL paths of resources', () => {
  const parts = (path: string): unknown[] | undefined => {
    const found = parseResourcePath(path);
    return (
      found && [found.group, found.version, found.namespace, found.plural, found.name, found.subresource]
    );
  };
  assert.deepEqual(parts('/api/v1/pods'), ['', 'v1', undefined, 'pods', undefined, undefined]);
  assert.deepEqual(parts('/api/v1/namespaces/shop'), ['', 'v1', undefined, 'namespaces', 'shop', undefined]);
  assert.deepEqual(parts('/api/v1/namespaces/shop/finalize'), [
    '',
    'v1',
    undefined,
    'namespaces',
    'shop',
    'finalize',
  ]);
  assert.deepEqual(parts('/api/v1/namespaces/shop/pods/web/log'), ['', 'v1', 'shop', 'pods', 'web', 'log']);
  assert.deepEqual(parts('/apis/apps/v1/namespaces/shop/deployments/web/'), [
    'apps',
    'v1',
    'shop',
    'deployments',
    'web',
    undefined,
  ]);
  assert.deepEqual(parts('/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode'), [
    'rbac.authorization.k8s.io',
    'v1',
    undefined,
    'clusterroles',
    'system:node',
    undefined,
  ]);
  for (const path of [
    '/',
    '/api',
    '/api/v1',
    '/apis/apps/v1',
    '/metrics',
    '/api/v1//pods',
    '/api/v1/pods/%zz',
    '/api/v1/pods/a/log/b',
  ])
    assert.equal(parts(path), undefined, path);
});

test('versions in the order of preference', () => {
  assert.deepEqual(['v1beta1', 'v2', 'v1alpha3', 'v1', 'foo', 'v1beta2'].sort(compareVersions), [
    'v2',
    'v1',
    'v1beta2',
    'v1beta1',
    'v1alpha3',
    'foo',
  ]);
});

test('label and field selectors', () => {
  const rig = makeRig();
  const pod = rig.create('pods', podNamed('web', { nodeName: 'n1' }));
  const matches = (query: string, object: ApiObject = pod): boolean =>
    selectorFilter(rig.kind('pods'), new URLSearchParams(query))(object);
  for (const query of [
    '',
    'labelSelector=app%3Dweb',
    'labelSelector=app in (web,db)',
    'labelSelector=!tier',
    'fieldSelector=spec.nodeName=n1',
    'fieldSelector=metadata.name==web',
    'fieldSelector=status.phase!=Failed',
    'fieldSelector=metadata.namespace=default,status.phase=Pending',
    'labelSelector=app=web&fieldSelector=spec.nodeName=n1',
  ])
    assert.ok(matches(query), query);
  for (const query of [
    'labelSelector=app!=web',
    'labelSelector=app notin (web)',
    'fieldSelector=spec.nodeName=',
    'fieldSelector=spec.nodeName=n2',
  ])
    assert.ok(!matches(query), query);
  for (const query of [
    'fieldSelector=spec.image=x',
    'fieldSelector=a',
    'labelSelector=a in (b',
    'labelSelector===',
  ])
    assert.throws(
      () => matches(query),
      (error) => error instanceof StatusError && error.body.code === 400,
      query,
    );
});

test('field selectors: a field that is not written has its value all the same', () => {
  const rig = makeRig();
  const matches = (plural: string, name: string, selector: string): boolean =>
    selectorFilter(
      rig.kind(plural),
      new URLSearchParams({ fieldSelector: selector }),
    )(rig.get(plural, name)!);
  rig.create('nodes', { metadata: { name: 'open' } });
  rig.create('nodes', { metadata: { name: 'cordoned' }, spec: { unschedulable: true } });
  assert.ok(matches('nodes', 'open', 'spec.unschedulable=false'));
  assert.ok(!matches('nodes', 'cordoned', 'spec.unschedulable=false'));
  assert.ok(matches('nodes', 'cordoned', 'spec.unschedulable=true'));
  rig.create('events', {
    metadata: { name: 'e' },
    involvedObject: { kind: 'Pod', name: 'p' },
    source: { component: 'kubelet', host: 'n1' },
  });
  assert.ok(matches('events', 'e', 'source=kubelet,involvedObject.kind=Pod,involvedObject.name=p'));
  assert.ok(!matches('events', 'e', 'source=scheduler'));
});

test('bodies: JSON and YAML; hostile ones are refused', () => {
  const read = (text: string, type?: string): JsonObject => decodeObject(Buffer.from(text), type);
  assert.deepEqual(read('{"a":1}'), { a: 1 });
  assert.deepEqual(read('a: 1', 'application/yaml'), { a: 1 });
  assert.deepEqual(read('{"a":1}', 'application/json; charset=utf-8'), { a: 1 });
  const code = (run: () => unknown): number => {
    try {
      run();
    } catch (error) {
      assert.ok(error instanceof StatusError);
      return error.body.code;
    }
    return 200;
  };
  assert.equal(
    code(() => read('k8s\0…', 'application/vnd.kubernetes.protobuf')),
    400,
  );
  assert.equal(
    code(() => read('{}', 'text/plain')),
    415,
  );
  assert.equal(
    code(() => read('{')),
    400,
  );
  assert.equal(
    code(() => read('[]')),
    400,
  );
  assert.equal(
    code(() => read('{"a":{"__proto__":{"x":1}}}')),
    400,
  );
  assert.equal(
    code(() => read('['.repeat(1000) + ']'.repeat(1000))),
    400,
  );
  assert.equal(
    code(() => decode(Buffer.from([0xff, 0xfe]), 'json')),
    400,
  );
  const bomb = `a: &a [x,x]\n${Array.from('bcdefghij', (name, index) => `${name}: &${name} [*${'abcdefghij'[index]},*${'abcdefghij'[index]},*${'abcdefghij'[index]},*${'abcdefghij'[index]}]`).join('\n')}`;
  assert.equal(
    code(() => read(bomb, 'application/yaml')),
    400,
  );
});

test('bodies: any bytes give an object or a refusal', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.constantFrom('application/json', 'application/yaml'), (bytes, type) => {
      try {
        decodeObject(Buffer.from(bytes), type);
      } catch (error) {
        assert.ok(error instanceof StatusError, String(error));
      }
    }),
  );
});

test('names and labels', () => {
  for (const [rule, good, bad] of [
    ['subdomain', 'a.b-c', 'a_b'],
    ['label', '0a', 'a.b'],
    ['label1035', 'a0', '0a'],
    ['path', 'system:node', 'a/b'],
  ] as const) {
    assert.deepEqual(checkName(rule, good), []);
    assert.equal(checkName(rule, bad).length, 1);
  }
  assert.equal(checkName('label', 'a'.repeat(64)).length, 1);
  assert.deepEqual(checkLabels({ 'istio.io/dataplane-mode': 'ambient', a: '' }, 'x'), []);
  for (const labels of [{ 'a b': 'x' }, { a: 'b c' }, { '/a': 'x' }, { a: 'x'.repeat(64) }, { 'A.b/': 'x' }])
    assert.notDeepEqual(checkLabels(labels, 'x'), [], JSON.stringify(labels));
});

test('the STATUS of a pod in one word', () => {
  const word = (status: JsonObject, meta: JsonObject = {}, spec: JsonObject = {}): string =>
    podStatusWord({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p', ...meta },
      spec: { containers: [{}], ...spec },
      status,
    } as unknown as ApiObject);
  const container = (state: JsonObject, ready = false): JsonObject => ({ state, ready, restartCount: 0 });
  assert.equal(word({ phase: 'Pending' }), 'Pending');
  assert.equal(
    word({ phase: 'Pending', containerStatuses: [container({ waiting: { reason: 'ErrImagePull' } })] }),
    'ErrImagePull',
  );
  assert.equal(
    word({ phase: 'Running', containerStatuses: [container({ waiting: { reason: 'CrashLoopBackOff' } })] }),
    'CrashLoopBackOff',
  );
  assert.equal(word({ phase: 'Running', containerStatuses: [container({ running: {} }, true)] }), 'Running');
  assert.equal(
    word({ phase: 'Failed', containerStatuses: [container({ terminated: { exitCode: 3 } })] }),
    'ExitCode:3',
  );
  assert.equal(
    word({
      phase: 'Failed',
      containerStatuses: [container({ terminated: { exitCode: 1, reason: 'Error' } })],
    }),
    'Error',
  );
  assert.equal(word({ phase: 'Running' }, { deletionTimestamp: 'x' }), 'Terminating');
  assert.equal(
    word(
      { phase: 'Pending', initContainerStatuses: [container({ running: {} })] },
      {},
      { initContainers: [{}, {}] },
    ),
    'Init:0/2',
  );
});
