import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StreamTable } from './stream-table.ts';

test('holds what a Map holds, whatever opens and closes', () => {
  // Numbers that share their first places, those of a wrapped table's ends among them.
  const number = fc.oneof(
    fc.nat(40).map((each) => 2 * each + 1),
    fc.nat(6).map((each) => 2 * (each * 16 + 15) + 1),
    fc.nat(6).map((each) => 2 * (each * 64) + 1),
  );
  fc.assert(
    fc.property(fc.array(number, { maxLength: 200 }), (ids) => {
      const table = new StreamTable<{ readonly id: number }>();
      const expected = new Set<number>();
      for (const id of ids) {
        const isIn = expected.delete(id);
        assert.equal(table.get(id)?.id, isIn ? id : undefined);
        assert.equal(table.delete(id), isIn);
        if (!isIn) {
          expected.add(id);
          table.add({ id });
        }
        assert.equal(table.size, expected.size);
        assert.deepEqual(new Set(table.values().map((each) => each.id)), expected);
      }
      for (const id of expected) assert.ok(table.has(id));
      table.clear();
      assert.deepEqual([table.size, table.values()], [0, []]);
    }),
    { numRuns: 300 },
  );
});
