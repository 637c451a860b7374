// The steps of an election against a lease in memory and a clock that the test moves.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { Clock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Lease } from '#k8s/objects.ts';
import { silentLogger } from '#telemetry/log.ts';
import { Candidate } from './election.ts';

const refusal = (status: number, reason: string): MeshError =>
  new MeshError('API_STATUS', reason, { details: { status, reason } });

/** One lease, with the optimistic locking that makes an election safe. */
class Leases {
  held: Lease | undefined;
  away = false;
  /** Runs between a candidate's read and its write. */
  beforeWrite = (): void => {};
  #version = 0;
  readonly client = {
    get: async () => {
      this.#answer();
      if (this.held === undefined) throw refusal(404, 'NotFound');
      return structuredClone(this.held);
    },
    create: async (_kind: unknown, lease: Lease) => {
      this.beforeWrite();
      this.#answer();
      if (this.held !== undefined) throw refusal(409, 'AlreadyExists');
      return this.#store(lease);
    },
    update: async (_kind: unknown, lease: Lease) => {
      this.beforeWrite();
      this.#answer();
      if (lease.metadata.resourceVersion !== this.held?.metadata.resourceVersion)
        throw refusal(409, 'Conflict');
      return this.#store(lease);
    },
  } as unknown as KubeClient;

  #store(lease: Lease): Lease {
    this.held = structuredClone(lease);
    this.held.metadata.resourceVersion = String(++this.#version);
    return structuredClone(this.held);
  }

  #answer(): void {
    if (this.away) throw new MeshError('API_UNREACHABLE', 'nobody answers');
  }
}

const OPTIONS = {
  namespace: 'istio-system',
  name: 'lock',
  leaseMs: 10_000,
  renewDeadlineMs: 7000,
  retryMs: 2000,
};

let leases: Leases;
let nowMs: number;
let scope: Scope;
let terms: string[];

const clock: Clock = { now: () => Date.UTC(2030, 0, 1) + nowMs, monotonicMs: () => nowMs };

function candidate(identity: string): Candidate {
  return new Candidate(
    {
      client: leases.client,
      clock,
      random: () => 0,
      log: silentLogger,
      scope,
      lead: (term) => {
        terms.push(`${identity} leads`);
        term.onClose(() => terms.push(`${identity} ends`));
      },
    },
    { ...OPTIONS, identity },
  );
}

beforeEach(() => {
  leases = new Leases();
  nowMs = 0;
  scope = new Scope('test');
  terms = [];
});
afterEach(() => scope.close());

describe('election', () => {
  test('the first takes the lease, the second waits while it is renewed', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    await a.attempt();
    await b.attempt();
    assert.deepEqual([a.isLeader, b.isLeader, b.holder], [true, false, 'a']);
    assert.deepEqual(leases.held?.spec, {
      holderIdentity: 'a',
      leaseDurationSeconds: 10,
      acquireTime: '2030-01-01T00:00:00.000000Z',
      renewTime: '2030-01-01T00:00:00.000000Z',
      leaseTransitions: 0,
    });
    for (let step = 0; step < 20; step++) {
      nowMs += 2000;
      await a.attempt();
      await b.attempt();
    }
    assert.deepEqual([a.isLeader, b.isLeader], [true, false]);
    assert.equal(leases.held?.spec?.renewTime, '2030-01-01T00:00:40.000000Z');
    assert.equal(leases.held?.spec?.acquireTime, '2030-01-01T00:00:00.000000Z', 'a renewal is no new term');
    assert.deepEqual(terms, ['a leads']);
  });

  test('a dead leader is replaced when its lease has run out since it was seen to change, not earlier', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    await a.attempt();
    nowMs = 5000;
    await b.attempt();
    nowMs = 14_999;
    await b.attempt();
    assert.equal(b.isLeader, false, 'the writer may have a slow clock: only what was seen counts');
    nowMs = 15_000;
    await b.attempt();
    assert.equal(b.isLeader, true);
    assert.equal(leases.held?.spec?.leaseTransitions, 1);
    assert.equal(leases.held?.spec?.acquireTime, '2030-01-01T00:00:15.000000Z');
  });

  test('a leader that stood still believes itself no longer, before anybody else may lead', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    await a.attempt();
    await b.attempt();
    nowMs = 6999;
    assert.equal(a.isLeader, true);
    nowMs = 7000;
    assert.equal(a.isLeader, false, 'without any timer having run');
    nowMs = 10_000;
    await b.attempt();
    await a.attempt();
    assert.deepEqual([a.isLeader, b.isLeader], [false, true]);
    assert.deepEqual(terms, ['a leads', 'b leads', 'a ends']);
  });

  test('an API server that is away ends the term at the deadline; the same leader goes on when it is back', async () => {
    const a = candidate('a');
    await a.attempt();
    leases.away = true;
    nowMs = 2000;
    await a.attempt();
    assert.equal(a.isLeader, true, 'one failure is none');
    nowMs = 8000;
    await a.attempt();
    assert.equal(a.isLeader, false);
    leases.away = false;
    nowMs = 9000;
    await a.attempt();
    assert.equal(a.isLeader, true);
    assert.deepEqual(terms, ['a leads', 'a ends', 'a leads']);
    assert.equal(leases.held?.spec?.leaseTransitions, 0, 'nobody else led in between');
  });

  test('of two that take over in one moment one wins', async () => {
    const [a, b, c] = [candidate('a'), candidate('b'), candidate('c')];
    await a.attempt();
    await b.attempt();
    await c.attempt();
    nowMs = 10_000;
    await Promise.all([b.attempt(), c.attempt()]);
    assert.equal([b, c].filter(({ isLeader }) => isLeader).length, 1);
  });

  test('of two that make the lease in one moment one wins', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    await Promise.all([a.attempt(), b.attempt()]);
    assert.equal([a, b].filter(({ isLeader }) => isLeader).length, 1);
  });

  test('an answer that comes after the deadline makes no leader', async () => {
    const a = candidate('a');
    leases.beforeWrite = () => {
      nowMs = 7000;
    };
    await a.attempt();
    assert.equal(a.isLeader, false);
    assert.deepEqual(terms, []);
  });

  test('given back at the end, it is the next one’s at once', async () => {
    const [a, b] = [candidate('a'), candidate('b')];
    await a.attempt();
    await b.attempt();
    a.stop();
    await a.giveBack();
    assert.equal(leases.held?.spec?.holderIdentity, '');
    assert.equal(leases.held?.spec?.leaseDurationSeconds, 1);
    await b.attempt();
    assert.equal(b.isLeader, true);
    b.stop();
    await a.giveBack();
    assert.equal(leases.held?.spec?.holderIdentity, 'b', 'nobody gives back what is another’s');
  });

  test('a longer lease of another make is respected', async () => {
    const a = candidate('a');
    leases.held = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'lock', namespace: 'istio-system', resourceVersion: 'x' },
      spec: { holderIdentity: 'istiod-1', leaseDurationSeconds: 30 },
    };
    await a.attempt();
    nowMs = 29_999;
    await a.attempt();
    assert.equal(a.isLeader, false);
    nowMs = 30_000;
    await a.attempt();
    assert.equal(a.isLeader, true);
  });

  test('one that comes back under its own name leads on at once', async () => {
    await candidate('a').attempt();
    const again = candidate('a');
    await again.attempt();
    assert.equal(again.isLeader, true);
  });

  test('a lease deleted by hand is made again', async () => {
    const a = candidate('a');
    await a.attempt();
    leases.held = undefined;
    nowMs = 2000;
    await a.attempt();
    assert.equal(a.isLeader, true);
    assert.equal(leases.held === undefined, false);
    assert.deepEqual(terms, ['a leads']);
  });
});
