import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AuthorizationPolicy, MutualTlsMode } from '#k8s/objects.ts';
import { authorizationPolicy, namespace, node, peerAuthentication, pod, service, slice } from './fixtures.ts';
import { indexesForTest as setUp } from './fixtures-index.ts';
import type { ResourceSet } from './resource-set.ts';

// Few names and few values, so that random events meet each other.
const names = fc.constantFrom('a', 'b');
const spaces = fc.constantFrom('shop', 'istio-system');
const labels = fc.constantFrom({ app: 'x' }, { app: 'y' }) as fc.Arbitrary<Record<string, string>>;
const modes = fc.constantFrom('UNSET', 'STRICT', 'PERMISSIVE', 'DISABLE') as fc.Arbitrary<MutualTlsMode>;

const podEvent = fc
  .record({
    name: names,
    space: spaces,
    labels,
    ip: fc.constantFrom('10.0.0.1', '10.0.0.2', ''),
    node: fc.constantFrom('n1', 'n2'),
    uid: fc.nat(4).map((die) => (die === 0 ? 'u1' : 'u2')),
    ready: fc.boolean(),
    hbone: fc.boolean(),
    phase: fc.nat(5).map((die) => (die === 0 ? ('Failed' as const) : ('Running' as const))),
  })
  .map((it) => ({
    kind: 'pod' as const,
    object: pod({
      name: it.name,
      namespace: it.space,
      labels: it.labels,
      node: it.node,
      uid: it.uid,
      ready: it.ready,
      phase: it.phase,
      ports: [{ name: 'http', containerPort: 8080 }],
      ...(it.ip === '' ? {} : { ip: it.ip }),
      ...(it.hbone ? { annotations: { 'ambient.istio.io/redirection': 'enabled' } } : {}),
    }),
  }));
const serviceEvent = fc
  .record({
    name: names,
    space: spaces,
    selector: fc.option(labels, { nil: undefined, freq: 1 }),
    external: fc.nat(5).map((die) => die === 0),
    target: fc.constantFrom<number | string>(80, 'http'),
  })
  .map((it) => ({
    kind: 'service' as const,
    object: service(
      it.name,
      {
        ports: [{ name: 'p', port: 80, targetPort: it.target }],
        ...(it.selector === undefined ? {} : { selector: it.selector }),
        ...(it.external ? { type: 'ExternalName' as const } : {}),
      },
      it.space,
    ),
  }));
const sliceEvent = fc
  .record({
    name: names,
    space: spaces,
    of: names,
    pod: names,
    uid: fc.nat(4).map((die) => (die === 0 ? 'u1' : 'u2')),
    ip: fc.constantFrom('192.0.2.1', '192.0.2.2'),
  })
  .map((it) => ({
    kind: 'slice' as const,
    object: slice(
      it.name,
      it.of,
      [
        { addresses: [it.ip] },
        {
          addresses: ['10.0.0.1'],
          targetRef: { kind: 'Pod', name: it.pod, namespace: it.space, uid: it.uid },
        },
      ],
      [{ name: 'p', port: 81 }],
      it.space,
    ),
  }));
const nodeEvent = fc
  .record({ name: fc.constantFrom('n1', 'n2'), zone: fc.constantFrom('z1', 'z2') })
  .map((it) => ({
    kind: 'node' as const,
    object: node(it.name, { 'topology.kubernetes.io/zone': it.zone }),
  }));
const namespaceEvent = fc
  .record({
    name: spaces,
    network: fc.constantFrom('', 'net'),
    distribution: fc.constantFrom('PreferClose', 'x'),
  })
  .map((it) => ({
    kind: 'namespace' as const,
    object: namespace(
      it.name,
      { 'topology.istio.io/network': it.network },
      { 'networking.istio.io/traffic-distribution': it.distribution },
    ),
  }));
const policyEvent = fc
  .record({
    name: names,
    space: spaces,
    selector: fc.option(labels, { nil: undefined, freq: 1 }),
    action: fc.constantFrom('ALLOW', 'DENY', 'AUDIT'),
    rev: fc.constantFrom('default', 'other'),
  })
  .map((it) => {
    const object = authorizationPolicy(
      it.name,
      {
        action: it.action as 'ALLOW',
        ...(it.selector === undefined ? {} : { selector: { matchLabels: it.selector } }),
        rules: [{}],
      },
      it.space,
    );
    return {
      kind: 'authorization' as const,
      object: {
        ...object,
        metadata: { ...object.metadata, labels: { 'istio.io/rev': it.rev } },
      } satisfies AuthorizationPolicy,
    };
  });
const peerEvent = fc
  .record({
    name: names,
    space: spaces,
    selector: fc.option(labels, { nil: undefined, freq: 1 }),
    mode: modes,
    port: modes,
    age: fc.constantFrom('2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'),
  })
  .map((it) => ({
    kind: 'peer' as const,
    object: peerAuthentication(
      it.name,
      {
        mtls: { mode: it.mode },
        portLevelMtls: { '80': { mode: it.port } },
        ...(it.selector === undefined ? {} : { selector: { matchLabels: it.selector } }),
      },
      it.space,
      it.age,
    ),
  }));
const anyEvent = fc.oneof(
  podEvent,
  serviceEvent,
  sliceEvent,
  nodeEvent,
  namespaceEvent,
  policyEvent,
  peerEvent,
);
type Event = typeof anyEvent extends fc.Arbitrary<infer E> ? E : never;

function deliver({ index, policyIndex }: ReturnType<typeof setUp>, event: Event, removed: boolean): void {
  switch (event.kind) {
    case 'pod':
      if (removed) index.remove('pod', event.object);
      else index.upsert('pod', event.object);
      break;
    case 'service':
      if (removed) index.remove('service', event.object);
      else index.upsert('service', event.object);
      break;
    case 'slice':
      if (removed) index.remove('slice', event.object);
      else index.upsert('slice', event.object);
      break;
    case 'node':
      if (removed) index.remove('node', event.object);
      else index.upsert('node', event.object);
      break;
    case 'namespace':
      if (removed) index.remove('namespace', event.object);
      else index.upsert('namespace', event.object);
      break;
    case 'authorization':
      if (removed) policyIndex.removeAuthorization(event.object);
      else policyIndex.upsertAuthorization(event.object);
      break;
    case 'peer':
      if (removed) policyIndex.removePeerAuthentication(event.object);
      else policyIndex.upsertPeerAuthentication(event.object);
      break;
  }
}

test('after any sequence of events the state is what a new control plane would compute', () => {
  const step = fc.record({
    event: anyEvent,
    removed: fc.nat(4).map((die) => die === 0),
    flush: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60, size: 'max' }), (steps) => {
      const lived = setUp();
      const final = new Map<string, Event>();
      for (const { event, removed, flush } of steps) {
        deliver(lived, event, removed);
        const id = `${event.kind} ${event.object.metadata.namespace ?? ''}/${event.object.metadata.name}`;
        if (removed) final.delete(id);
        else final.set(id, event);
        if (flush) lived.index.flush();
      }
      lived.index.flush();
      const fresh = setUp();
      for (const event of [...final.values()].reverse()) deliver(fresh, event, false);
      fresh.index.flush();
      const contents = (set: ResourceSet) =>
        [...set.list()].map(({ name, version }) => `${name} ${version}`).sort();
      assert.deepEqual(contents(lived.addresses), contents(fresh.addresses));
      assert.deepEqual(contents(lived.policies), contents(fresh.policies));
    }),
    { numRuns: 400 },
  );
});
