import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { BufferPool } from '../buffer-pool.ts';
import { ByteQueue, newBlockPool } from './byte-queue.ts';

const step = fc.oneof(
  fc.record({ push: fc.nat(40_000) }),
  fc.record({ shift: fc.constant(true), putBack: fc.double({ min: 0, max: 1, noNaN: true }) }),
);

it('gives out what was put in, in order, whatever is put back and whoever uses the blocks before', () => {
  // Few blocks, so that the same ones come again and again.
  const pool = new BufferPool(1000, 3);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new ByteQueue(pool);
      let next = 0;
      let expected = 0;
      const check = (chunk: Uint8Array): void => {
        for (const byte of chunk) if (byte !== (expected++ & 0xff)) assert.fail(`byte ${expected - 1}`);
      };
      for (const each of steps) {
        if ('push' in each) {
          const chunk = Buffer.alloc(each.push);
          for (let at = 0; at < chunk.length; at++) chunk[at] = next++ & 0xff;
          queue.push(chunk);
          chunk.fill(0);
        } else {
          const chunk = queue.shift();
          if (chunk === undefined) continue;
          const taken = Math.floor(chunk.length * each.putBack);
          check(chunk.subarray(0, taken));
          queue.putBack(chunk.length - taken);
        }
        assert.equal(queue.bytes, next - expected);
      }
      for (let chunk = queue.shift(); chunk !== undefined; chunk = queue.shift()) check(chunk);
      assert.equal(expected, next);
      assert.equal(queue.bytes, 0);
    }),
    { numRuns: 50 },
  );
});

it('a hundred thousand single bytes take a few blocks', () => {
  const queue = new ByteQueue(newBlockPool());
  for (let each = 0; each < 100_000; each++) queue.push(Buffer.from([each & 0xff]));
  let chunks = 0;
  while (queue.shift() !== undefined) chunks += 1;
  assert.equal(chunks, Math.ceil(100_000 / 16_384));
});

it('blocks come back when their bytes are taken, or nobody wants them any more', () => {
  const taken: Buffer[] = [];
  const returned: Buffer[] = [];
  class Counting extends BufferPool {
    override take(): Buffer {
      const block = super.take();
      taken.push(block);
      return block;
    }
    override giveBack(block: Buffer): void {
      returned.push(block);
    }
  }
  const pool = new Counting(1000, 0);
  const read = new ByteQueue(pool);
  const dropped = new ByteQueue(pool);
  for (const queue of [read, dropped]) queue.push(Buffer.alloc(2500));
  for (let chunk = read.shift(); chunk !== undefined; chunk = read.shift());
  dropped.shift();
  dropped.clear();
  assert.equal(dropped.shift(), undefined);
  assert.equal(taken.length, 6);
  assert.deepEqual(new Set(returned), new Set(taken));
  assert.equal(returned.length, 6);
});
