import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Logger, silentLogger } from '#telemetry/log.ts';
import { createProtectionWatch, type ObservedPod, type Protection } from './protection.ts';

test('a pod that stays unprotected is told of once, and once more when it is captured', () => {
  const lines: string[] = [];
  const note =
    (level: string) =>
    (text: string, fields = {}): void => {
      lines.push(`${level} ${text} ${JSON.stringify(fields)}`);
    };
  const log: Logger = { ...silentLogger, info: note('info'), error: note('error') };
  let nowMs = 0;
  let protection: Protection = 'unprotected';
  const observe = (): ObservedPod[] => [
    { uid: 'u', namespace: 'shop', name: 'web', protection, reason: 'nft is not installed' },
    { uid: 'v', namespace: 'shop', name: 'cart', protection: 'waiting' },
  ];
  const watch = createProtectionWatch({ observe, clock: { monotonicMs: () => nowMs }, log });
  const checkAt = (atMs: number): string[] => {
    nowMs = atMs;
    watch.check();
    return lines.splice(0);
  };
  assert.deepEqual(checkAt(0), []);
  assert.deepEqual(checkAt(9000), []);
  const [line, ...more] = checkAt(11_000);
  assert.match(line ?? '', /^error a pod of the mesh is not captured.*"name":"web".*nft is not installed/);
  assert.deepEqual(more, []);
  assert.deepEqual(checkAt(20_000), []);
  assert.deepEqual([watch.count('unprotected'), watch.count('waiting')], [1, 1]);
  protection = 'captured';
  assert.match(checkAt(21_000)[0] ?? '', /^info the pod is captured now/);
  assert.deepEqual(checkAt(22_000), []);
  // A second time counts anew.
  protection = 'unprotected';
  assert.deepEqual(checkAt(23_000), []);
  assert.equal(checkAt(34_000).length, 1);
});
