import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import { checkTarget, judgePod, parseTarget, wantedMode } from './enrolment.ts';

const pod = (
  change: {
    mode?: string;
    hostNetwork?: boolean;
    annotations?: Record<string, string>;
    phase?: 'Succeeded';
  } = {},
): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'web',
    namespace: 'shop',
    ...(change.mode === undefined ? {} : { labels: { 'istio.io/dataplane-mode': change.mode } }),
    ...(change.annotations === undefined ? {} : { annotations: change.annotations }),
  },
  spec: { containers: [], ...(change.hostNetwork === undefined ? {} : { hostNetwork: change.hostNetwork }) },
  ...(change.phase === undefined ? {} : { status: { phase: change.phase } }),
});

test('who is carried: by its own label first, then by its namespace', () => {
  const cases: readonly [Pod, string | undefined, boolean][] = [
    [pod(), 'ambient', true],
    [pod(), undefined, false],
    [pod({ mode: 'ambient' }), undefined, true],
    [pod({ mode: 'none' }), 'ambient', false],
    [pod({ mode: 'other' }), 'ambient', true],
    [pod({ mode: 'other' }), undefined, false],
    [pod({ hostNetwork: true }), 'ambient', false],
    [pod({ annotations: { 'sidecar.istio.io/status': '{}' } }), 'ambient', false],
    [pod({ phase: 'Succeeded' }), 'ambient', false],
  ];
  for (const [subject, mode, carried] of cases)
    assert.equal(judgePod(subject, mode).carried, carried, JSON.stringify([subject, mode]));
});

test('a target is a namespace unless it says pod', () => {
  assert.deepEqual(parseTarget('shop', 'x'), { kind: 'namespace', name: 'shop' });
  assert.deepEqual(parseTarget('ns/shop', 'x'), { kind: 'namespace', name: 'shop' });
  assert.deepEqual(parseTarget('pod/web', 'shop'), { kind: 'pod', name: 'web', namespace: 'shop' });
  for (const wrong of ['service/web', 'a/b/c', 'pod/', ''])
    assert.throws(() => parseTarget(wrong, 'x'), /expected/);
});

test('a pod leaves an enrolled namespace by saying none, everything else by losing the label', () => {
  const web = parseTarget('pod/web', 'shop');
  const shop = parseTarget('shop', 'x');
  assert.equal(wantedMode(web, false, 'ambient'), 'none');
  assert.equal(wantedMode(web, false, undefined), null);
  assert.equal(wantedMode(shop, false, 'ambient'), null);
  assert.equal(wantedMode(web, true, undefined), 'ambient');
});

test('what the mesh stands on is never enrolled', () => {
  assert.throws(() => checkTarget(parseTarget('istio-system', 'x')), /never enrolled/);
  assert.throws(() => checkTarget(parseTarget('pod/x', 'kube-system')), /never enrolled/);
  checkTarget(parseTarget('shop', 'x'));
});
