// The bundle's Headers beside Node's own: the same operations, the same answers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Headers as Plain } from './plain-headers.ts';

const name = fc.oneof(
  fc.constantFrom(
    'grpc-status',
    'Grpc-Status',
    'TE',
    'content-type',
    'Content-Type',
    'x-a',
    '',
    'no name',
    'é',
  ),
  fc.string({ maxLength: 4 }),
);
const value = fc.oneof(
  fc.constantFrom('application/grpc', ' padded\t', '', 'a, b', 'a\nb', '\n', 'é', '…', 'a\0'),
  fc.string({ unit: 'binary', maxLength: 4 }),
);
const step = fc.record({ call: fc.constantFrom('append', 'set', 'get', 'has', 'delete'), name, value });

function outcome(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return (error as Error).name;
  }
}

function all(headers: Headers | Plain): unknown[] {
  const told: string[][] = [];
  headers.forEach((text, key) => void told.push([key, text]));
  return [told, [...headers], [...headers.entries()], [...headers.keys()], [...headers.values()]];
}

function apply(
  headers: Headers | Plain,
  { call, name, value }: { call: string; name: string; value: string },
) {
  if (call === 'append') return headers.append(name, value);
  if (call === 'set') return headers.set(name, value);
  if (call === 'get') return headers.get(name);
  if (call === 'has') return headers.has(name);
  return headers.delete(name);
}

test('the Headers of the bundle answer as those of Node', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const [plain, nodes] = [new Plain(), new Headers()];
      for (const each of steps) {
        assert.deepEqual(
          outcome(() => apply(plain, each)),
          outcome(() => apply(nodes, each)),
        );
      }
      assert.deepEqual(all(plain), all(nodes));
      assert.deepEqual(all(new Plain(plain)), all(new Headers(nodes)));
      const record = Object.fromEntries(nodes);
      assert.deepEqual(all(new Plain(record)), all(new Headers(record)));
    }),
  );
});
