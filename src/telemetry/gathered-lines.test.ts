import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gatherLines } from './gathered-lines.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('the lines of one turn are written together, in order; those that follow soon wait for one another', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const written: string[] = [];
  const lines = gatherLines((text) => written.push(text));
  lines.write('a\n');
  lines.write('b\n');
  assert.deepEqual(written, []);
  await turn();
  assert.deepEqual(written, ['a\nb\n']);
  lines.write('c\n');
  await turn();
  lines.write('d\n');
  await turn();
  assert.deepEqual(written, ['a\nb\n']);
  t.mock.timers.tick(10);
  assert.deepEqual(written, ['a\nb\n', 'c\nd\n']);
  // A quiet moment later a line is again written with its turn.
  t.mock.timers.tick(10);
  lines.write('e\n');
  await turn();
  assert.deepEqual(written.at(-1), 'e\n');
});

test('what waits is written at the end of the process, and a flood is not held back', () => {
  const written: string[] = [];
  const lines = gatherLines((text) => written.push(text));
  lines.write('last words\n');
  lines.flush();
  assert.deepEqual(written, ['last words\n']);
  lines.flush();
  assert.equal(written.length, 1);
  const long = `${'x'.repeat(40_000)}\n`;
  lines.write(long);
  lines.write(long);
  assert.equal(written[1], long + long);
});
