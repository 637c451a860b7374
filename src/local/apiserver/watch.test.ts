import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { loadCel } from './cel/engine.ts';
import type { ApiObject, JsonObject } from './object.ts';
import { type Filter, selectorFilter } from './selectors.ts';
import { makeRig, podNamed, type Rig } from './test-rig.ts';
import { startWatch, type WatchRequest } from './watch.ts';

// The definition of AuthorizationPolicy has rules.
before(loadCel);

interface Event {
  readonly type: string;
  readonly object: ApiObject & { readonly rows?: { readonly cells: unknown[] }[]; readonly code?: number };
}

function watch(rig: Rig, options: Partial<WatchRequest> = {}) {
  const events: Event[] = [];
  let ended = false;
  const stop = startWatch(
    rig,
    {
      kind: rig.kind('pods'),
      namespace: undefined,
      filter: () => true,
      form: 'object',
      include: 'Metadata',
      resourceVersion: undefined,
      sendInitialEvents: undefined,
      allowBookmarks: true,
      timeoutMs: 60_000,
      ...options,
    },
    {
      write: (line) => {
        assert.ok(line.endsWith('\n'));
        events.push(JSON.parse(line) as Event);
        return true;
      },
      end: () => {
        ended = true;
      },
    },
  );
  return {
    events,
    stop,
    ended: () => ended,
    told: () => events.map(({ type, object }) => `${type} ${object.metadata?.name ?? ''}`.trim()),
  };
}

const labelled = (rig: Rig, text: string): Filter =>
  selectorFilter(rig.kind('pods'), new URLSearchParams({ labelSelector: text }));

const relabel = (rig: Rig, name: string, labels: Record<string, string>): void => {
  const object = structuredClone(rig.get('pods', name)!) as ApiObject;
  object.metadata.labels = labels;
  rig.update('pods', object);
};

test('without a version: what there is, then what happens', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  const seen = watch(rig);
  rig.create('pods', podNamed('b'));
  rig.remove('pods', 'a');
  rig.create('configmaps', { metadata: { name: 'other' } });
  seen.stop();
  rig.create('pods', podNamed('c'));
  assert.deepEqual(seen.told(), ['ADDED a', 'ADDED b', 'DELETED a']);
});

test('WatchList: the state, a bookmark that says so, then what happens', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  const seen = watch(rig, { sendInitialEvents: true });
  rig.create('pods', podNamed('b'));
  seen.stop();
  assert.deepEqual(seen.told(), ['ADDED a', 'BOOKMARK', 'ADDED b']);
  const bookmark = seen.events[1]!.object.metadata;
  assert.deepEqual(bookmark.annotations, { 'k8s.io/initial-events-end': 'true' });
  assert.equal(bookmark.resourceVersion, String(rig.store.rev - 1));
});

test('from a version: exactly the changes since', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  const resourceVersion = String(rig.store.rev);
  rig.create('pods', podNamed('b'));
  relabel(rig, 'a', { x: '1' });
  const seen = watch(rig, { resourceVersion });
  seen.stop();
  assert.deepEqual(seen.told(), ['ADDED b', 'MODIFIED a']);
});

test('from a forgotten version: 410 inside the stream, and its end', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  rig.advance(3_600_000);
  rig.store.compact();
  const seen = watch(rig, { resourceVersion: '2' });
  assert.equal(seen.events[0]?.type, 'ERROR');
  assert.equal(seen.events[0]?.object.code, 410);
  assert.equal(seen.events[0]?.object.reason, 'Expired');
  assert.ok(seen.ended());
});

test('coming into and leaving the selection looks like birth and death', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  const seen = watch(rig, { filter: labelled(rig, 'on=1'), resourceVersion: String(rig.store.rev) });
  relabel(rig, 'a', { on: '1' });
  relabel(rig, 'a', { on: '1', more: '1' });
  relabel(rig, 'a', { on: '2' });
  relabel(rig, 'a', { on: '3' });
  seen.stop();
  assert.deepEqual(seen.told(), ['ADDED a', 'MODIFIED a', 'DELETED a']);
});

test('tables and metadata, row by row', () => {
  const rig = makeRig();
  rig.create('pods', podNamed('a'));
  const table = watch(rig, { form: 'table' });
  const metadata = watch(rig, { form: 'metadata' });
  table.stop();
  metadata.stop();
  assert.deepEqual(table.events[0]?.object.rows?.[0]?.cells.slice(0, 4), ['a', '0/1', 'Pending', '0']);
  assert.equal(metadata.events[0]?.object.kind, 'PartialObjectMetadata');
  assert.equal(metadata.events[0]?.object.spec, undefined);
});

test('another version of a kind shows its own name', () => {
  const rig = makeRig();
  rig.create('authorizationpolicies', { metadata: { name: 'p' }, spec: {} });
  const seen = watch(rig, { kind: rig.kind('authorizationpolicies', 'v1beta1') });
  seen.stop();
  assert.equal(seen.events[0]?.object.apiVersion, 'security.istio.io/v1beta1');
});

test('a sink that refuses ends the watch', () => {
  const rig = makeRig();
  let lines = 0;
  startWatch(
    rig,
    {
      kind: rig.kind('pods'),
      namespace: undefined,
      filter: () => true,
      form: 'object',
      include: 'None',
      resourceVersion: undefined,
      sendInitialEvents: undefined,
      allowBookmarks: false,
      timeoutMs: 60_000,
    },
    { write: () => ++lines < 2, end: () => {} },
  );
  for (const name of ['a', 'b', 'c']) rig.create('pods', podNamed(name) as JsonObject);
  assert.equal(lines, 2);
});
