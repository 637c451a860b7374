import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseTerminalSize, Resizes, statusOfEnd } from './command-client.ts';
import type { TerminalSize } from './pod-streams.ts';

test('the end of a command is told as channel protocol v4 wants it', () => {
  assert.deepEqual(statusOfEnd({ kind: 'exited', code: 0 }), { metadata: {}, status: 'Success' });
  const failed = statusOfEnd({ kind: 'exited', code: 137 });
  assert.equal(failed.reason, 'NonZeroExitCode');
  assert.deepEqual(failed.details, { causes: [{ reason: 'ExitCode', message: '137' }] });
  const broken = statusOfEnd({ kind: 'failed', message: 'no such thing' });
  assert.equal(broken.reason, 'InternalError');
  assert.match(String(broken.message), /no such thing/);
});

test('sizes are two positive numbers of 16 bits', () => {
  assert.deepEqual(parseTerminalSize('{"Width":80,"Height":24}'), { columns: 80, rows: 24 });
  for (const text of [
    '',
    'x',
    '{}',
    '{"Width":0,"Height":1}',
    '{"Width":70000,"Height":1}',
    '{"Width":"8","Height":1}',
    'null',
  ])
    assert.equal(parseTerminalSize(text), undefined, text);
});

test('a listener that comes late hears the last size', () => {
  const resizes = new Resizes();
  resizes.set({ columns: 80, rows: 24 });
  resizes.set({ columns: 100, rows: 30 });
  const heard: TerminalSize[] = [];
  resizes.listen((size) => heard.push(size));
  resizes.set(undefined);
  resizes.set({ columns: 90, rows: 20 });
  assert.deepEqual(heard, [
    { columns: 100, rows: 30 },
    { columns: 90, rows: 20 },
  ]);
});
