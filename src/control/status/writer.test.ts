// When a status is written, and when not: a writer over informers that the test feeds, and an API server that records.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { AuthorizationPolicy, Namespace, Pod, Service } from '#k8s/objects.ts';
import { silentLogger } from '#telemetry/log.ts';
import { untilTelling } from '../../../test/lib/until.ts';
import { conditionsToApply, type HeldCondition, type Report } from './condition.ts';
import { Hands, object, waypoint } from './fixtures.ts';
import { Pace } from './pace.ts';
import { createStatusWriter } from './writer.ts';

interface Applied {
  readonly kind: string;
  readonly name: string;
  readonly manager: string;
  readonly conditions: readonly HeldCondition[];
}

let world: Hands;
let scope: Scope;
let leads: boolean;
let applied: Applied[];
let refuse: ((applied: Applied) => Error | undefined) | undefined;
let results: string[];

const policy = (name: string, spec: AuthorizationPolicy['spec'] = { rules: [{}] }): AuthorizationPolicy =>
  object<AuthorizationPolicy>('AuthorizationPolicy', `shop/${name}`, spec === undefined ? {} : { spec });

const client = {
  patch: async (
    resource: { kind: string },
    name: string,
    kind: string,
    body: { status: { conditions: HeldCondition[] } },
    options: { subresource: string; fieldManager: string },
  ) => {
    assert.deepEqual([kind, options.subresource], ['apply', 'status']);
    const write = {
      kind: resource.kind,
      name,
      manager: options.fieldManager,
      conditions: body.status.conditions,
    };
    const error = refuse?.(write);
    if (error !== undefined) throw error;
    applied.push(write);
    // The server tells everybody what is stored now.
    if (resource.kind === 'AuthorizationPolicy') {
      const held = world.authorizationPolicies.objects.get(`shop/${name}`);
      if (held !== undefined)
        world.authorizationPolicies.put({ ...held, status: { conditions: body.status.conditions } });
    }
    return {};
  },
} as unknown as KubeClient;

beforeEach(() => {
  world = new Hands();
  world.namespaces.put(object<Namespace>('Namespace', 'shop', {}));
  scope = new Scope('test');
  leads = true;
  applied = [];
  results = [];
  refuse = undefined;
});
afterEach(() => scope.close());

const start = () =>
  createStatusWriter(
    {
      client,
      informers: world.informers,
      view: world.view(),
      clock: systemClock,
      log: silentLogger,
      isLeader: () => leads,
      onWrite: (result) => results.push(result),
    },
    { rootNamespace: 'istio-system', dryRun: false, trustDomains: ['cluster.local'] },
  );

const until = untilTelling(() => JSON.stringify(applied));

/** Longer than changes are gathered: what would be written by mistake has been. */
const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 400));

describe('status writer', () => {
  test('who does not lead writes nothing; who begins to, everything; who goes on, only differences', async () => {
    const writer = start();
    world.authorizationPolicies.put(policy('a'));
    await settle();
    assert.deepEqual(applied, []);
    writer.lead(scope.child('term'));
    await until('the first', () => applied.length === 1);
    assert.deepEqual(
      applied.map(({ manager }) => manager),
      ['istio-ambient-ztunnel-policy'],
    );
    assert.partialDeepStrictEqual(applied.flatMap(({ conditions }) => conditions)[0], {
      type: 'ZtunnelAccepted',
      status: 'True',
      reason: 'Accepted',
      observedGeneration: '3',
    });
    world.authorizationPolicies.put(policy('b', { action: 'CUSTOM', rules: [{}] }));
    await until('the second', () => applied.length === 2);
    await settle();
    assert.deepEqual(
      applied.map(({ name }) => name),
      ['a', 'b'],
      'its own writes, told by the server, cause no others',
    );
    assert.deepEqual(results, ['written', 'written']);
  });

  test('a term that ends takes what waits with it', async () => {
    const writer = start();
    const term = scope.child('term');
    writer.lead(term);
    world.authorizationPolicies.put(policy('a'));
    term.close();
    await settle();
    world.authorizationPolicies.put(policy('b'));
    await settle();
    assert.deepEqual(applied, []);
    writer.lead(scope.child('next term'));
    await until('both', () => applied.length === 2);
  });

  test('a lease that ran out between decision and write stops the write', async () => {
    const writer = start();
    leads = false;
    writer.lead(scope.child('term'));
    world.authorizationPolicies.put(policy('a'));
    await settle();
    assert.deepEqual(applied, []);
  });

  test('a refused write is tried again; one of a deleted object is not', async () => {
    const writer = start();
    let refusals = 0;
    refuse = ({ name }) => {
      if (name === 'gone') {
        refusals++;
        return new MeshError('API_STATUS', 'gone', { details: { status: 404, reason: 'NotFound' } });
      }
      return results.length < 2 ? new MeshError('API_UNREACHABLE', 'away') : undefined;
    };
    world.authorizationPolicies.put(policy('gone'));
    world.authorizationPolicies.put(policy('kept'));
    writer.lead(scope.child('term'));
    await until('the third try', () => applied.length === 1);
    assert.deepEqual(results, ['failed', 'failed', 'written']);
    assert.equal(applied[0]?.name, 'kept');
    assert.equal(refusals, 1);
  });

  test('a waypoint that comes is told to the services of its namespace and to the policies aimed at it', async () => {
    const writer = start();
    world.services.put(
      object<Service>('Service', 'shop/web', { spec: {} }, { labels: { 'istio.io/use-waypoint': 'wp' } }),
    );
    world.authorizationPolicies.put(policy('p', { targetRefs: [{ kind: 'Gateway', name: 'wp' }] }));
    writer.lead(scope.child('term'));
    await until('both refusals', () => applied.length === 2);
    assert.deepEqual(
      applied
        .map(({ kind, conditions }) => `${kind} ${conditions[0]?.status}/${conditions[0]?.reason}`)
        .sort(),
      ['AuthorizationPolicy False/TargetNotFound', 'Service False/WaypointIsNotReady'],
    );
    applied.length = 0;
    world.gateways.put(waypoint('shop/wp'));
    await until('both acceptances', () => applied.length === 2);
    assert.deepEqual(
      applied
        .map(({ kind, conditions }) => `${kind} ${conditions[0]?.status}/${conditions[0]?.reason}`)
        .sort(),
      ['AuthorizationPolicy True/Accepted', 'Service True/WaypointAccepted'],
    );
  });

  test('a pod that comes is told to the policy that selects it', async () => {
    const writer = start();
    world.authorizationPolicies.put(policy('p', { selector: { matchLabels: { app: 'web' } } }));
    writer.lead(scope.child('term'));
    await until('the warning', () => applied.length === 1);
    assert.match(applied[0]?.conditions[0]?.message ?? '', /matches no workload/);
    world.pods.put(object<Pod>('Pod', 'shop/web', { spec: { containers: [] } }, { labels: { app: 'web' } }));
    await until('its end', () => applied.length === 2);
    assert.doesNotMatch(applied[1]?.conditions[0]?.message ?? '', /matches no workload/);
  });

  test('what is not wanted any more is taken away by applying nothing', async () => {
    const writer = start();
    const before = policy('p', { targetRefs: [{ kind: 'Gateway', name: 'wp' }] });
    world.authorizationPolicies.put({
      ...before,
      status: { conditions: [{ type: 'ZtunnelAccepted', status: 'True' }] },
    });
    writer.lead(scope.child('term'));
    await until('both writers', () => applied.length >= 2);
    assert.deepEqual(
      applied.find(({ manager }) => manager === 'istio-ambient-ztunnel-policy')?.conditions,
      [],
    );
  });
});

describe('conditions', () => {
  const report: Report = {
    manager: 'm',
    types: ['A', 'B'],
    statements: [{ type: 'A', status: true, reason: 'R', message: 'new', generation: 2 }],
  };
  const held: HeldCondition = {
    type: 'A',
    status: 'True',
    reason: 'R',
    message: 'old',
    lastTransitionTime: '2030-01-01T00:00:00Z',
    observedGeneration: '2',
  };
  const now = '2031-01-01T00:00:00Z';

  test('another message is no transition, another status is', () => {
    assert.equal(conditionsToApply(report, [held], now)?.[0]?.lastTransitionTime, held.lastTransitionTime);
    const turned = conditionsToApply(report, [{ ...held, status: 'False' }], now);
    assert.equal(turned?.[0]?.lastTransitionTime, now);
  });
  test('the same needs no write, a generation as a number is the same', () => {
    assert.equal(conditionsToApply(report, [{ ...held, message: 'new' }], now), undefined);
    assert.equal(
      conditionsToApply(report, [{ ...held, message: 'new', observedGeneration: 2 }], now),
      undefined,
    );
    assert.notEqual(
      conditionsToApply(report, [{ ...held, message: 'new', observedGeneration: '1' }], now),
      undefined,
    );
  });
  test('others’ conditions neither cause a write nor are written', () => {
    const other = { type: 'Other', status: 'True' };
    assert.equal(conditionsToApply(report, [{ ...held, message: 'new' }, other], now), undefined);
    const written = conditionsToApply(report, [held, { type: 'B', status: 'True' }, other], now);
    assert.deepEqual(
      written?.map(({ type }) => type),
      ['A'],
    );
  });
});

test('pace: a burst, then the rate; what was not used comes back up to the burst', () => {
  let nowMs = 0;
  const pace = new Pace({ now: () => nowMs, monotonicMs: () => nowMs }, { perSecond: 10, burst: 2 });
  assert.deepEqual([pace.takeMs(), pace.takeMs(), pace.takeMs(), pace.takeMs()], [0, 0, 100, 200]);
  nowMs = 10_000;
  assert.deepEqual([pace.takeMs(), pace.takeMs(), pace.takeMs()], [0, 0, 100]);
});
