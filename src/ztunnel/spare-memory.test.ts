import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { BufferPool } from '#hbone/buffer-pool.ts';
import { giveBackSpareMemory, LOOK_EVERY_MS } from './spare-memory.ts';

function rig({ mock }: TestContext) {
  mock.timers.enable({ apis: ['setTimeout'] });
  const pools = [new BufferPool(100 * 1024, 8), new BufferPool(300 * 1024, 8)] as const;
  const scope = new Scope('test');
  const seen = { releases: 0, busy: 0, looks: 0, nowMs: 0 };
  giveBackSpareMemory(
    {
      clock: { now: () => 0, monotonicMs: () => seen.nowMs },
      scope,
      busyShare: () => {
        seen.looks++;
        return seen.busy;
      },
      release: () => {
        seen.releases++;
      },
    },
    pools,
  );
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= LOOK_EVERY_MS) {
      seen.nowMs += LOOK_EVERY_MS;
      mock.timers.tick(LOOK_EVERY_MS);
    }
  };
  /** So many buffers at once, all given back: what was not in stock is made. */
  const burst = (pool: BufferPool, count: number): void => {
    for (const buffer of Array.from({ length: count }, () => pool.take())) pool.giveBack(buffer);
  };
  const stockOf = (pool: BufferPool): number => {
    let fresh = 0;
    const { onFresh } = pool;
    pool.onFresh = () => fresh++;
    const taken = Array.from({ length: 20 }, () => pool.take());
    pool.onFresh = onFresh;
    for (const buffer of taken) pool.giveBack(buffer);
    return 20 - fresh;
  };
  return { pools, scope, seen, pass, burst, stockOf };
}

test('a proxy that makes no buffers is never looked at', (t) => {
  const { seen, pass } = rig(t);
  pass(600_000);
  assert.deepEqual([seen.looks, seen.releases], [0, 0]);
});

test('after bulk, once it is quiet: pools keep a small stock, and memory is given back once', (t) => {
  const { pools, seen, pass, burst, stockOf } = rig(t);
  burst(pools[0], 8);
  burst(pools[1], 8);
  assert.equal(seen.releases, 0, 'not while it runs');
  pass(LOOK_EVERY_MS);
  assert.equal(seen.releases, 1);
  pass(600_000);
  assert.equal(seen.releases, 1);
  // 256 KiB are two of 100 KiB; of larger ones one stays.
  assert.deepEqual(pools.map(stockOf), [2, 1]);
});

test('nothing is given back while the thread is busy, and everything when it is quiet at last', (t) => {
  const { pools, seen, pass, burst } = rig(t);
  seen.busy = 0.5;
  burst(pools[0], 3);
  pass(120_000);
  assert.equal(seen.releases, 0);
  seen.busy = 0.01;
  pass(LOOK_EVERY_MS);
  assert.equal(seen.releases, 1);
});

test('at most once a minute, however often bulk comes and goes', (t) => {
  const { pools, seen, pass, burst } = rig(t);
  for (let seconds = 0; seconds < 180; seconds += 5) {
    burst(pools[0], 8);
    pass(LOOK_EVERY_MS);
  }
  assert.equal(seen.releases, 3);
});

test('bulk that fits into what is there changes nothing', (t) => {
  const { pools, seen, pass, burst } = rig(t);
  burst(pools[0], 8);
  pass(LOOK_EVERY_MS);
  burst(pools[0], 2);
  pass(600_000);
  assert.equal(seen.releases, 1);
});

test('a closed data path is left alone', (t) => {
  const { pools, scope, seen, pass, burst } = rig(t);
  burst(pools[0], 8);
  scope.close();
  pass(600_000);
  burst(pools[1], 8);
  pass(600_000);
  assert.equal(seen.releases, 0);
});
