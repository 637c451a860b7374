import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { ByteQueue } from './byte-queue.ts';

const step = fc.oneof(
  fc.record({ push: fc.nat(40_000), borrowed: fc.boolean() }),
  fc.record({ shift: fc.constant(true), putBack: fc.double({ min: 0, max: 1, noNaN: true }) }),
);

it('gives out what was put in, in order, whatever is put back', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const queue = new ByteQueue();
      let next = 0;
      let expected = 0;
      const check = (chunk: Uint8Array): void => {
        for (const byte of chunk) assert.equal(byte, expected++ & 0xff);
      };
      for (const each of steps) {
        if ('push' in each) {
          const chunk = Buffer.alloc(each.push);
          for (let at = 0; at < chunk.length; at++) chunk[at] = next++ & 0xff;
          queue.push(chunk, each.borrowed);
          if (each.borrowed) chunk.fill(0);
        } else {
          const chunk = queue.shift();
          if (chunk === undefined) continue;
          const taken = Math.floor(chunk.length * each.putBack);
          check(chunk.subarray(0, taken));
          if (taken < chunk.length) queue.unshift(chunk.subarray(taken));
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
  const queue = new ByteQueue();
  for (let each = 0; each < 100_000; each++) queue.push(Buffer.from([each & 0xff]), false);
  let chunks = 0;
  while (queue.shift() !== undefined) chunks += 1;
  assert.equal(chunks, Math.ceil(100_000 / 16_384));
});
