import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { ip } from '#net/ip.ts';
import { IpPool } from './ip-pool.ts';

test('no address is given twice, and all 253 can be given', () => {
  const pool = new IpPool('10.244.1.');
  pool.reserve(ip('10.244.1.7'));
  const given = new Set<string>();
  for (let count = 0; count < 252; count++) given.add(pool.take());
  assert.equal(given.size, 252);
  assert.ok(!given.has('10.244.1.7') && !given.has('10.244.1.1') && !given.has('10.244.1.255'));
  assert.throws(
    () => pool.take(),
    (error) => error instanceof MeshError && error.code === 'LOCAL_MACHINE_FAILED',
  );
  pool.release(ip('10.244.1.9'));
  assert.equal(pool.take(), '10.244.1.9');
});

test('any order of taking, reserving and releasing keeps addresses unique', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('take', 'reserve', 'release'), fc.integer({ min: 2, max: 30 }))),
      (steps) => {
        const pool = new IpPool('10.0.0.');
        const used = new Set<string>();
        for (const [step, host] of steps) {
          const address = ip(`10.0.0.${host}`);
          if (step === 'take') {
            const taken = pool.take();
            assert.ok(!used.has(taken));
            used.add(taken);
          } else if (step === 'reserve') {
            pool.reserve(address);
            used.add(address);
          } else {
            pool.release(address);
            used.delete(address);
          }
        }
      },
    ),
  );
});
