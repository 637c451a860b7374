import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#telemetry/log.ts';
import { until } from '../../../test/lib/until.ts';
import { createRuleWriter } from './rule-writer.ts';

const options = { what: 'rules', node: 'n1' };

test('many changes become one write; a change during a write becomes another', async () => {
  let state = 0;
  const seen: number[] = [];
  let release = (): void => {};
  const writer = createRuleWriter({ log: silentLogger }, options, async () => {
    seen.push(state);
    if (seen.length === 1)
      await new Promise<void>((resolve) => {
        release = resolve;
      });
  });
  for (state = 1; state < 10; state++) writer.changed();
  await until('the first write', () => seen.length === 1);
  assert.deepEqual(seen, [10]);
  state = 11;
  writer.changed();
  release();
  await until('the second write', () => seen.length === 2);
  assert.deepEqual(seen, [10, 11]);
  writer.close();
});

test('a failed write is told to who waits for it, and tried again', async () => {
  let attempts = 0;
  const writer = createRuleWriter({ log: silentLogger }, options, async () => {
    attempts++;
    if (attempts === 1) throw new Error('nft is busy');
  });
  await assert.rejects(writer.write(), /nft is busy/);
  await until('the second attempt', () => attempts === 2);
  writer.close();
});

test('nothing is written after the end', async () => {
  let attempts = 0;
  const writer = createRuleWriter({ log: silentLogger }, options, async () => {
    attempts++;
  });
  writer.close();
  await writer.write();
  writer.changed();
  assert.equal(attempts, 0);
});
