import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import type { Container, Pod } from '#k8s/objects.ts';
import { readTerminationMessage, terminationFile, terminationMessage } from './termination-message.ts';

const pod = (containers: number): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p' },
  spec: { containers: Array.from({ length: containers }, (_, i) => ({ name: `c${i}`, image: 'i' })) },
});
const say = (policy: Container['terminationMessagePolicy'], exitCode: number, message: string, of = pod(1)) =>
  terminationMessage(
    of,
    { name: 'c', image: 'i', terminationMessagePolicy: policy ?? 'File' },
    { exitCode, message },
    () => 'from the log',
  );

test('the log counts only after a failure, only where asked, and only without a message', () => {
  assert.equal(say('File', 1, ''), '');
  assert.equal(say('FallbackToLogsOnError', 1, ''), 'from the log');
  assert.equal(say('FallbackToLogsOnError', 0, ''), '');
  assert.equal(say('FallbackToLogsOnError', 1, 'said'), 'said');
});

test('the end of a long file, and of many containers less each', (t) => {
  const dir = mkdtempSync(`${tmpdir()}/culvert-words-`);
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(terminationFile(dir), `${'a'.repeat(5000)}end`);
  const message = readTerminationMessage(dir);
  assert.equal(message.length, 4096);
  assert.ok(message.endsWith('aend'));
  assert.equal(say('File', 0, message, pod(6)).length, 2048);
  rmSync(terminationFile(dir));
  assert.match(readTerminationMessage(dir), /^Error on reading termination log /);
});
