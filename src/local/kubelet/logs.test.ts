import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import { type LogOptions, LogStore } from './logs.ts';

const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'ns', uid: 'u1' },
  spec: { containers: [] },
};
const withRestarts = (restartCount: number): Pod => ({
  ...pod,
  status: { containerStatuses: [{ name: 'c', image: 'i', ready: true, restartCount }] },
});
const line = (text: string): string => `2026-01-01T00:00:00.000Z stdout F ${text}\n`;

async function read(store: LogStore, of: Pod, options: LogOptions = {}): Promise<string> {
  let text = '';
  for await (const part of store.open(of, 'c', options)) text += Buffer.from(part).toString();
  return text;
}

test('the current run, the run before, limits, and what is not there', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-logs-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const store = new LogStore(dir);
  assert.throws(
    () => store.open(pod, 'c', {}),
    (error) => error instanceof MeshError && error.details.status === 400,
  );
  const first = store.writer(pod, 'c', 0);
  first.write(line('old'));
  first.end();
  assert.throws(
    () => store.open(withRestarts(0), 'c', { previous: true }),
    /previous terminated container "c"/,
  );
  const second = store.writer(pod, 'c', 1);
  second.write(line('one') + line('two'));

  assert.equal(await read(store, withRestarts(1)), 'one\ntwo\n');
  assert.equal(await read(store, withRestarts(0)), 'one\ntwo\n', 'the status may lag behind');
  assert.equal(await read(store, withRestarts(1), { previous: true }), 'old\n');
  assert.equal(await read(store, withRestarts(1), { tailLines: 1 }), 'two\n');
  assert.equal(await read(store, withRestarts(1), { limitBytes: 5 }), 'one\nt');
  assert.equal(await read(store, withRestarts(0), { previous: true }), 'old\n', 'the status may lag behind');

  second.end();
  store.prune(new Set(['u1']));
  assert.equal(await read(store, withRestarts(1)), 'one\ntwo\n');
  store.remove(pod);
  assert.throws(() => store.open(withRestarts(1), 'c', {}), /waiting to start/);
});

test('a follower is told everything once, and ends with the container or its own wish', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-logs-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const store = new LogStore(dir);
  const writer = store.writer(pod, 'c', 0);
  writer.write(line('before'));
  const followed = read(store, withRestarts(0), { follow: true });
  const leaving = new AbortController();
  const left = read(store, withRestarts(0), { follow: true, signal: leaving.signal });
  writer.write(line('during'));
  leaving.abort();
  assert.equal(await left, 'before\nduring\n');
  writer.write(line('after'));
  writer.end();
  assert.equal(await followed, 'before\nduring\nafter\n');
});
