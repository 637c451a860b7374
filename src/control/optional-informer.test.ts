import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StartInformer } from '#k8s/informer.ts';
import type { CustomResourceDefinition, Gateway } from '#k8s/mesh-objects.ts';
import { GATEWAYS } from '#k8s/mesh-objects.ts';
import { silentLogger } from '#telemetry/log.ts';
import { Hand } from './fixtures-informer.ts';
import { startWhenDefined } from './optional-informer.ts';

const DEFINITION: CustomResourceDefinition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'gateways.gateway.networking.k8s.io' },
  spec: { versions: [{ name: 'v1', served: true }] },
  status: { conditions: [{ type: 'Established', status: 'True' }] },
};
const GATEWAY: Gateway = {
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind: 'Gateway',
  metadata: { name: 'wp' },
};

function setUp() {
  const definitions = new Hand<CustomResourceDefinition>();
  const started: Hand<Gateway>[] = [];
  const selected: (string | undefined)[] = [];
  const start = ((_deps, resource, options) => {
    if (resource.kind === 'CustomResourceDefinition') {
      selected.push(options?.fieldSelector);
      return definitions.informer;
    }
    const hand = new Hand<Gateway>();
    started.push(hand);
    return hand.informer;
  }) as StartInformer;
  const informer = startWhenDefined(start, { client: {} as never, log: silentLogger }, GATEWAYS);
  const seen: string[] = [];
  informer.addHandlers({
    upsert: ({ metadata }) => seen.push(`+${metadata.name}`),
    remove: ({ metadata }) => seen.push(`-${metadata.name}`),
  });
  return { definitions, started, selected, informer, seen };
}

test('a cluster without the kind is synced and empty', async () => {
  const { definitions, started, selected, informer } = setUp();
  assert.deepEqual(selected, ['metadata.name=gateways.gateway.networking.k8s.io']);
  assert.equal(informer.hasSynced, false);
  definitions.sync();
  await informer.synced;
  assert.equal(informer.hasSynced, true);
  assert.deepEqual([...informer.all()], []);
  assert.equal(started.length, 0);
});

test('with the kind it is synced when the objects are', async () => {
  const { definitions, started, informer, seen } = setUp();
  definitions.put(DEFINITION);
  definitions.sync();
  let synced = false;
  const waiting = informer.synced.then(() => {
    synced = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(synced, false);
  started[0]?.put(GATEWAY);
  started[0]?.sync();
  await waiting;
  assert.equal(informer.get('wp'), GATEWAY);
  assert.deepEqual(seen, ['+wp']);
});

test('a definition that comes later starts it; one that goes takes the objects along', () => {
  const { definitions, started, informer, seen } = setUp();
  definitions.sync();
  definitions.put({ ...DEFINITION, status: {} });
  assert.equal(started.length, 0, 'not before the API server serves it');
  definitions.put(DEFINITION);
  definitions.put(DEFINITION);
  assert.equal(started.length, 1);
  started[0]?.put(GATEWAY);
  definitions.drop(DEFINITION);
  assert.deepEqual(seen, ['+wp', '-wp']);
  assert.equal(started[0]?.closed, true);
  assert.equal(informer.get('wp'), undefined);
  definitions.put(DEFINITION);
  assert.equal(started.length, 2);
});

test('closing closes both', () => {
  const { definitions, started, informer } = setUp();
  definitions.put(DEFINITION);
  informer.close();
  assert.ok(definitions.closed && started[0]?.closed);
});
