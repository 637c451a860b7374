import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Member, Roster } from './roster.ts';

test('holds what a Set holds, whatever comes and goes', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20)), (toggles) => {
      const members = Array.from({ length: 21 }, (_, name): Member & { name: number } => ({ name }));
      const roster = new Roster<Member & { name: number }>();
      const expected = new Set<number>();
      for (const name of toggles) {
        const member = members[name]!;
        const isIn = expected.delete(name);
        assert.equal(roster.delete(member), isIn);
        if (!isIn) {
          expected.add(name);
          roster.add(member);
        }
        assert.equal(roster.size, expected.size);
        const names = roster.all().map((each) => each.name);
        assert.deepEqual(new Set(names), expected);
        assert.equal(names.length, expected.size);
      }
    }),
  );
});
