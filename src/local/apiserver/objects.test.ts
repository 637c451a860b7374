import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ApiObject, at, type JsonObject } from './object.ts';
import { StatusError } from './status.ts';
import { makeRig, podNamed, refused } from './test-rig.ts';

const changed = (object: ApiObject, change: (copy: ApiObject & { spec: JsonObject }) => void): ApiObject => {
  const copy = structuredClone(object) as ApiObject & { spec: JsonObject };
  change(copy);
  return copy;
};

const deployment = (): JsonObject => ({
  metadata: { name: 'web' },
  spec: {
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: { containers: [{ name: 'web', image: 'local/web' }] },
    },
  },
});

test('create gives uid, time, version and generation; a name of its own from generateName', () => {
  const rig = makeRig();
  const pod = rig.create('pods', { ...podNamed(''), metadata: { generateName: 'web-' } });
  assert.match(pod.metadata.name, /^web-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  assert.match(pod.metadata.uid ?? '', /^[0-9a-f-]{36}$/);
  assert.equal(pod.metadata.creationTimestamp, '2026-01-01T00:00:00Z');
  assert.equal(pod.metadata.generation, 1);
  assert.equal(pod.metadata.resourceVersion, String(rig.store.rev));
});

test('create refuses what cannot be new', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  assert.throws(() => rig.create('pods', podNamed('a')), refused(409, /^pods "a" already exists$/));
  assert.throws(
    () => rig.create('pods', { ...podNamed('b'), metadata: { name: 'b', resourceVersion: '7' } }),
    refused(400, /resourceVersion should not be set/),
  );
  assert.throws(
    () => rig.create('pods', { ...podNamed('b'), metadata: { name: 'b', namespace: 'other' } }),
    refused(400, /namespace of the provided object does not match/),
  );
  assert.throws(
    () => rig.create('pods', { ...podNamed('B') }),
    refused(422, /metadata\.name: Invalid value: "B"/),
  );
  assert.throws(
    () => rig.create('pods', { ...podNamed('b'), kind: 'Service' }),
    refused(400, /cannot be handled as a Pod/),
  );
  assert.throws(
    () => rig.create('pods', { metadata: {} }),
    refused(422, /name or generateName is required.*spec\.containers: Required value/),
  );
});

test('generation rises when the spec changes, not with metadata or status', () => {
  const rig = makeRig();
  const made = rig.create('deployments', deployment());
  const labelled = rig.update(
    'deployments',
    changed(made, (copy) => (copy.metadata.labels = { a: 'b' })),
  );
  assert.equal(labelled.metadata.generation, 1);
  const counted = rig.update('deployments', { ...labelled, status: { replicas: 1 } }, 'status');
  assert.equal(counted.metadata.generation, 1);
  const scaled = rig.update(
    'deployments',
    changed(counted, (copy) => (copy.spec.replicas = 2)),
  );
  assert.equal(scaled.metadata.generation, 2);
  assert.deepEqual(scaled.status, { replicas: 1 });
});

test('a write that changes nothing keeps the version and wakes nobody', () => {
  const rig = makeRig();
  const made = rig.create('deployments', deployment());
  const { rev } = rig.store;
  const again = rig.update('deployments', deployment());
  assert.equal(again.metadata.resourceVersion, made.metadata.resourceVersion);
  assert.equal(rig.store.rev, rev);
});

test('an old version is a conflict, another uid too', () => {
  const rig = makeRig();
  const made = rig.create('pods', podNamed('a'));
  rig.update(
    'pods',
    changed(made, (copy) => (copy.metadata.labels = { x: '1' })),
  );
  assert.throws(
    () =>
      rig.update(
        'pods',
        changed(made, (copy) => (copy.metadata.labels = { x: '2' })),
      ),
    refused(409, /^Operation cannot be fulfilled on pods "a": the object has been modified/),
  );
  assert.throws(
    () => rig.update('pods', { ...podNamed('a'), metadata: { name: 'a', uid: 'other' } }),
    refused(409, /Precondition failed: UID/),
  );
  assert.throws(
    () => rig.remove('pods', 'a', { preconditions: { uid: 'other' } }),
    refused(409, /Precondition failed: UID/),
  );
});

test('status through its subresource only, and nothing else through it but labels and annotations of pods', () => {
  const rig = makeRig();
  const made = rig.create('pods', { ...podNamed('a'), status: { phase: 'Running' } });
  assert.deepEqual((made.status as JsonObject).phase, 'Pending');
  const tried = rig.update('pods', { ...made, status: { phase: 'Running' } });
  assert.deepEqual((tried.status as JsonObject).phase, 'Pending');
  const written = rig.update(
    'pods',
    changed(made, (copy) => {
      copy.status = { phase: 'Running' };
      copy.metadata.annotations = { 'ambient.istio.io/redirection': 'enabled' };
      copy.spec.nodeName = 'n1';
    }),
    'status',
  );
  assert.deepEqual(written.status, { phase: 'Running' });
  assert.deepEqual(written.metadata.annotations, { 'ambient.istio.io/redirection': 'enabled' });
  assert.equal((written.spec as JsonObject).nodeName, undefined);
});

test('finalizers hold a deleted object; the last one removed lets it go', () => {
  const rig = makeRig();
  const made = rig.create('configmaps', { metadata: { name: 'a', finalizers: ['x.io/hold'] } });
  assert.equal(rig.remove('configmaps', 'a').kind, 'terminating');
  const held = rig.get('configmaps', 'a')!;
  assert.equal(held.metadata.deletionTimestamp, '2026-01-01T00:00:00Z');
  assert.throws(
    () =>
      rig.update(
        'configmaps',
        changed(held, (copy) => copy.metadata.finalizers!.push('x.io/more')),
      ),
    refused(422, /no new finalizers can be added/),
  );
  rig.update(
    'configmaps',
    changed(held, (copy) => delete copy.metadata.finalizers),
  );
  assert.equal(rig.get('configmaps', 'a'), undefined);
  assert.equal(made.metadata.name, 'a');
});

test('a scheduled pod ends gracefully: marked first, gone when the kubelet says so', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a', { nodeName: 'n1' }));
  const first = rig.remove('pods', 'a');
  assert.equal(first.kind, 'terminating');
  assert.equal(first.object.metadata.deletionGracePeriodSeconds, 30);
  assert.equal(first.object.metadata.deletionTimestamp, '2026-01-01T00:00:30Z');
  const { rev } = rig.store;
  assert.equal(rig.remove('pods', 'a', { gracePeriodSeconds: 60 }).kind, 'terminating');
  assert.equal(rig.store.rev, rev, 'a longer grace changes nothing');
  assert.equal(
    rig.remove('pods', 'a', { gracePeriodSeconds: 5 }).object.metadata.deletionGracePeriodSeconds,
    5,
  );
  assert.equal(rig.remove('pods', 'a', { gracePeriodSeconds: 0 }).kind, 'gone');
  assert.equal(rig.get('pods', 'a'), undefined);
});

test('a pod without a node, or at its end, goes at once', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('waiting'));
  assert.equal(rig.remove('pods', 'waiting').kind, 'gone');
  const done = rig.create('pods', podNamed('done', { nodeName: 'n1' }));
  rig.update('pods', { ...done, status: { phase: 'Succeeded' } }, 'status');
  assert.equal(rig.remove('pods', 'done').kind, 'gone');
});

test('a namespace stays until it is emptied and finalized, and takes nothing new meanwhile', () => {
  const rig = makeRig();
  rig.create('namespaces', { metadata: { name: 'shop' } });
  assert.deepEqual(rig.get('namespaces', 'shop')!.metadata.labels, { 'kubernetes.io/metadata.name': 'shop' });
  const result = rig.remove('namespaces', 'shop');
  assert.equal(result.kind, 'terminating');
  assert.deepEqual(result.object.status, { phase: 'Terminating' });
  const ended = rig.get('namespaces', 'shop')!;
  rig.update('namespaces', { ...ended, spec: { finalizers: [] } });
  assert.ok(rig.get('namespaces', 'shop'), 'an ordinary update does not finalize');
  rig.update('namespaces', { ...rig.get('namespaces', 'shop')!, spec: { finalizers: [] } }, 'finalize');
  assert.equal(rig.get('namespaces', 'shop'), undefined);
  assert.throws(() => rig.remove('namespaces', 'default'), refused(403, /may not be deleted/));
});

test('content of an ending or missing namespace is refused', () => {
  const rig = makeRig();
  const hold = rig.create('namespaces', { metadata: { name: 'shop' } });
  rig.store.put(rig.kind('namespaces').resource, {
    ...structuredClone(hold),
    metadata: { ...hold.metadata, name: 'default', deletionTimestamp: '2026-01-01T00:00:00Z' },
  });
  assert.throws(() => rig.create('pods', podNamed('a')), refused(403, /because it is being terminated/));
  rig.store.remove(rig.kind('namespaces').resource, undefined, 'default');
  assert.throws(() => rig.create('pods', podNamed('a')), refused(404, /^namespaces "default" not found$/));
});

test('orphan and foreground leave a mark for the garbage collector, where something depends on the object', () => {
  const rig = makeRig();
  const owner = rig.create('configmaps', { metadata: { name: 'owner' } });
  const reference = { apiVersion: 'v1', kind: 'ConfigMap', name: 'owner', uid: owner.metadata.uid };
  rig.create('configmaps', { metadata: { name: 'child', ownerReferences: [reference] } });
  assert.deepEqual(
    rig.remove('configmaps', 'owner', { propagationPolicy: 'Orphan' }).object.metadata.finalizers,
    ['orphan'],
  );
  assert.equal(rig.remove('configmaps', 'child', { propagationPolicy: 'Foreground' }).kind, 'gone');
});

test('a dry run answers as if, and stores nothing', () => {
  const rig = makeRig();
  const { rev } = rig.store;
  assert.equal(rig.create('pods', podNamed('a'), { dryRun: true }).metadata.name, 'a');
  assert.equal(rig.get('pods', 'a'), undefined);
  rig.create('pods', podNamed('b'));
  assert.equal(rig.remove('pods', 'b', { dryRun: true }).kind, 'gone');
  assert.ok(rig.get('pods', 'b'));
  assert.equal(rig.store.rev, rev + 1);
});

test('pods get what the field gives them: defaults and the mounted token', () => {
  const rig = makeRig();
  const spec = rig.create('pods', podNamed('a')).spec as JsonObject & {
    volumes: JsonObject[];
    containers: (JsonObject & { volumeMounts: JsonObject[] })[];
  };
  assert.equal(spec.restartPolicy, 'Always');
  assert.equal(spec.dnsPolicy, 'ClusterFirst');
  assert.equal(spec.terminationGracePeriodSeconds, 30);
  assert.equal(spec.serviceAccountName, 'default');
  assert.match(String(spec.volumes[0]!.name), /^kube-api-access-.{5}$/);
  assert.deepEqual(spec.containers[0]!.volumeMounts, [
    {
      name: spec.volumes[0]!.name,
      readOnly: true,
      mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
    },
  ]);
  const without = rig.create('pods', podNamed('b', { automountServiceAccountToken: false }))
    .spec as JsonObject;
  assert.equal(without.volumes, undefined);
});

test('a limit without a request is the request of a pod, not of a template', () => {
  const rig = makeRig();
  const spec = {
    containers: [
      {
        name: 'a',
        image: 'x',
        resources: { limits: { cpu: '1', memory: '64Mi' }, requests: { cpu: '250m' } },
      },
    ],
  };
  const requests = (object: JsonObject): unknown =>
    (object as { containers: { resources: JsonObject }[] }).containers[0]?.resources.requests;
  assert.deepEqual(requests(rig.create('pods', { metadata: { name: 'p' }, spec }).spec as JsonObject), {
    cpu: '250m',
    memory: '64Mi',
  });
  const labels = { app: 'd' };
  const made = rig.create('deployments', {
    metadata: { name: 'd' },
    spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec } },
  }).spec as { template: { spec: JsonObject } };
  assert.deepEqual(requests(made.template.spec), { cpu: '250m' });
});

test('what a node shall have of the machine is a quantity', () => {
  const rig = makeRig();
  const node = (name: string, cpu: string): JsonObject => ({
    metadata: { name, annotations: { 'culvert.local/cpu': cpu } },
  });
  rig.create('nodes', node('small', '500m'));
  assert.throws(
    () => rig.create('nodes', node('odd', 'two')),
    refused(422, /metadata\.annotations\[culvert\.local\/cpu\]: Invalid value: "two": quantities must match/),
  );
});

test("a pod's spec stands, but for its node, once", () => {
  const rig = makeRig();
  const made = rig.create('pods', podNamed('a'));
  const placed = rig.update(
    'pods',
    changed(made, (copy) => (copy.spec.nodeName = 'n1')),
  );
  assert.throws(
    () =>
      rig.update(
        'pods',
        changed(placed, (copy) => (copy.spec.nodeName = 'n2')),
      ),
    refused(422, /spec: Forbidden: pod updates may not change fields/),
  );
  assert.throws(
    () =>
      rig.update(
        'pods',
        changed(placed, (copy) => (copy.spec.hostNetwork = true)),
      ),
    refused(422, /spec: Forbidden/),
  );
});

test('a pod is checked in the words of Kubernetes', () => {
  const rig = makeRig();
  const cases: readonly [JsonObject, RegExp][] = [
    [{ containers: [{ name: 'A', image: 'x' }] }, /spec\.containers\[0\]\.name: Invalid value: "A"/],
    [{ containers: [{ name: 'a' }] }, /spec\.containers\[0\]\.image: Required value/],
    [
      {
        containers: [
          { name: 'a', image: 'x' },
          { name: 'a', image: 'x' },
        ],
      },
      /spec\.containers\[1\]\.name: Duplicate value: "a"/,
    ],
    [
      { containers: [{ name: 'a', image: 'x', volumeMounts: [{ name: 'v', mountPath: '/v' }] }] },
      /volumeMounts\[0\]\.name: Invalid value: "v": not found|"v": not found/,
    ],
    [
      { containers: [{ name: 'a', image: 'x', ports: [{ containerPort: 70000 }] }] },
      /containerPort: Invalid value: 70000: must be between 1 and 65535/,
    ],
    [
      {
        containers: [
          { name: 'a', image: 'x', resources: { requests: { cpu: '1.2' }, limits: { cpu: '1100m' } } },
        ],
      },
      /spec\.containers\[0\]\.resources\.requests: Invalid value: "1200m": must be less than or equal to cpu limit of 1100m/,
    ],
    [
      { containers: [{ name: 'a', image: 'x' }], restartPolicy: 'Sometimes' },
      /spec\.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"/,
    ],
  ];
  for (const [spec, text] of cases)
    assert.throws(() => rig.create('pods', { metadata: { name: 'p' }, spec }), refused(422, text));
});

test('services get an address of their own and keep it', () => {
  const rig = makeRig();
  const service = (name: string, spec: JsonObject = {}): JsonObject => ({
    metadata: { name },
    spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec },
  });
  const a = rig.create('services', service('a')).spec as JsonObject;
  const b = rig.create('services', service('b')).spec as JsonObject;
  assert.match(String(a.clusterIP), /^10\.96\.\d+\.\d+$/);
  assert.notEqual(a.clusterIP, b.clusterIP);
  assert.deepEqual(a.clusterIPs, [a.clusterIP]);
  assert.deepEqual(a.ports, [{ port: 80, protocol: 'TCP', targetPort: 80 }]);
  const again = rig.update('services', service('a', { ports: [{ port: 81 }] })).spec as JsonObject;
  assert.equal(again.clusterIP, a.clusterIP);
  assert.throws(
    () => rig.update('services', service('a', { clusterIP: '10.96.9.9' })),
    refused(422, /may not change once set/),
  );
  rig.remove('services', 'b');
  assert.notEqual((rig.create('services', service('c')).spec as JsonObject).clusterIP, a.clusterIP);
});

test('services: asked-for addresses, headless and named ones', () => {
  const rig = makeRig();
  const service = (name: string, spec: JsonObject): JsonObject => ({ metadata: { name }, spec });
  const dns = rig.create(
    'services',
    service('kube-dns', { clusterIP: '10.96.0.10', ports: [{ port: 53, protocol: 'UDP' }] }),
  );
  assert.equal((dns.spec as JsonObject).clusterIP, '10.96.0.10');
  assert.throws(
    () => rig.create('services', service('other', { clusterIP: '10.96.0.10', ports: [{ port: 53 }] })),
    refused(422, /provided IP is already allocated/),
  );
  assert.throws(
    () => rig.create('services', service('far', { clusterIP: '10.97.0.1', ports: [{ port: 53 }] })),
    refused(422, /not in the valid range/),
  );
  const headless = rig.create('services', service('headless', { clusterIP: 'None' }));
  assert.deepEqual((headless.spec as JsonObject).clusterIPs, ['None']);
  const named = rig.create('services', service('named', { type: 'ExternalName', externalName: 'a.example' }));
  assert.equal((named.spec as JsonObject).clusterIP, undefined);
  const node = rig.create(
    'services',
    service('node', {
      type: 'NodePort',
      ports: [
        { port: 1, name: 'a' },
        { port: 2, name: 'b' },
      ],
    }),
  );
  assert.deepEqual(
    (node.spec as { ports: { nodePort: number }[] }).ports.map(({ nodePort }) => nodePort),
    [30000, 30001],
  );
  assert.throws(
    () => rig.create('services', service('two', { ports: [{ port: 1 }, { port: 2 }] })),
    refused(422, /spec\.ports\[0\]\.name: Required value/),
  );
});

test('workloads: defaults, and a selector that stands and matches the template', () => {
  const rig = makeRig();
  const spec = rig.create('deployments', deployment()).spec as JsonObject;
  assert.equal(spec.replicas, 1);
  assert.deepEqual(spec.strategy, {
    type: 'RollingUpdate',
    rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' },
  });
  const other = changed(deployment() as unknown as ApiObject, (copy) => {
    copy.metadata.name = 'other';
    copy.spec.selector = { matchLabels: { app: 'nobody' } };
  });
  assert.throws(
    () => rig.create('deployments', other),
    refused(
      422,
      /spec\.template\.metadata\.labels: Invalid value: \{"app":"web"\}: `selector` does not match template `labels`/,
    ),
  );
  other.metadata.name = 'web';
  assert.throws(
    () => rig.update('deployments', other),
    refused(422, /spec\.selector: Invalid value: .*: field is immutable/),
  );
});

test('secrets: plain text becomes base64', () => {
  const rig = makeRig();
  const secret = rig.create('secrets', {
    metadata: { name: 's' },
    stringData: { user: 'anna' },
    data: { old: 'b2xk' },
  });
  assert.deepEqual(secret.data, { old: 'b2xk', user: 'YW5uYQ==' });
  assert.equal(secret.stringData, undefined);
  assert.equal(secret.type, 'Opaque');
});

test('unknown fields of built-in kinds are seen at the root and in metadata', () => {
  const rig = makeRig();
  const warnings: string[] = [];
  const pod = rig.create(
    'pods',
    { ...podNamed('a'), spce: {}, metadata: { name: 'a', lables: {} } },
    { warnings },
  );
  assert.deepEqual(warnings, ['unknown field "metadata.lables"', 'unknown field "spce"']);
  assert.equal(pod.spce, undefined);
  assert.throws(
    () => rig.create('pods', { ...podNamed('b'), spce: {} }, { fieldValidation: 'Strict' }),
    refused(400, /strict decoding error: unknown field "spce"/),
  );
});

test('a definition is served at once, and takes its objects along when it goes', () => {
  const rig = makeRig();
  const schema = {
    openAPIV3Schema: {
      type: 'object',
      properties: { spec: { type: 'object', properties: { size: { type: 'integer', default: 3 } } } },
    },
  };
  const crd = {
    metadata: { name: 'boxes.example.io' },
    spec: {
      group: 'example.io',
      scope: 'Namespaced',
      names: { plural: 'boxes', kind: 'Box' },
      versions: [{ name: 'v1', served: true, storage: true, schema }],
    },
  };
  const made = rig.create('customresourcedefinitions', crd);
  assert.deepEqual(
    (made.status as { conditions: { type: string; status: string }[] }).conditions.map(({ type, status }) => [
      type,
      status,
    ]),
    [
      ['NamesAccepted', 'True'],
      ['Established', 'True'],
    ],
  );
  const warnings: string[] = [];
  const box = rig.create('boxes', { metadata: { name: 'b' }, spec: { colour: 'red' } }, { warnings });
  assert.deepEqual(box.spec, { size: 3 });
  assert.deepEqual(warnings, ['unknown field "spec.colour"']);
  assert.equal(box.metadata.generation, 1);
  const removed: string[] = [];
  rig.store.subscribe(rig.kind('boxes').resource, ({ type }) => removed.push(type));
  rig.remove('customresourcedefinitions', 'boxes.example.io');
  assert.deepEqual(removed, ['DELETED']);
  assert.equal(rig.registry.find('example.io', 'v1', 'boxes'), undefined);
});

test('definitions that cannot work are refused', () => {
  const rig = makeRig();
  assert.throws(
    () =>
      rig.create('customresourcedefinitions', {
        metadata: { name: 'x.example.io' },
        spec: { group: 'example.io', scope: 'Galaxy', names: { plural: 'boxes', kind: 'Box' }, versions: [] },
      }),
    refused(
      422,
      /must be spec\.names\.plural.*spec\.scope: Unsupported value: "Galaxy".*spec\.versions: Required value/,
    ),
  );
});

test('a pod of a service account that does not exist is refused; of the default one, which is about to be made, not', () => {
  const rig = makeRig();
  assert.throws(
    () => rig.create('pods', podNamed('p', { serviceAccountName: 'ghost' })),
    (error) =>
      error instanceof StatusError &&
      error.body.code === 403 &&
      error.message ===
        'pods "p" is forbidden: error looking up service account default/ghost: serviceaccount "ghost" not found',
  );
  rig.create('serviceaccounts', { metadata: { name: 'ghost' } });
  rig.create('pods', podNamed('p', { serviceAccountName: 'ghost' }));
  rig.create('pods', podNamed('q'));
});

test('a pod tolerates a short outage of its node, unless it says otherwise', () => {
  const rig = makeRig();
  const tolerations = (name: string, given?: JsonObject[]): unknown =>
    at(
      rig.create('pods', podNamed(name, given === undefined ? {} : { tolerations: given })),
      'spec',
      'tolerations',
    );
  const short = (key: string) => ({
    key: `node.kubernetes.io/${key}`,
    operator: 'Exists',
    effect: 'NoExecute',
    tolerationSeconds: 20,
  });
  assert.deepEqual(tolerations('a'), [short('not-ready'), short('unreachable')]);
  const own = { key: 'node.kubernetes.io/unreachable', operator: 'Exists', tolerationSeconds: 1 };
  assert.deepEqual(tolerations('b', [own]), [own, short('not-ready')]);
  assert.deepEqual(tolerations('c', [{ operator: 'Exists' }]), [{ operator: 'Exists' }]);
});
