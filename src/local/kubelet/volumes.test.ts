// Volumes as files of a node: what is in them, with which permissions, and what is said when something is missing.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Pod, Volume } from '#k8s/objects.ts';
import { dividedQuantity } from './quantity.ts';
import type { PodTokens } from './tokens.ts';
import { syncVolumes } from './volumes.ts';

function nodeRoot(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-volumes-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const sync = (root: string, volume: Omit<Volume, 'name'>) => {
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'ns', labels: { app: 'web' } },
    spec: {
      containers: [
        { name: 'c', image: 'i', resources: { limits: { memory: '64Mi' }, requests: { cpu: '250m' } } },
      ],
      volumes: [{ name: 'v', ...volume }],
    },
  };
  return syncVolumes(pod, {
    nodeRoot: root,
    podDir: '/pod',
    facts: {
      podIps: ['10.244.1.2'],
      hostIps: ['172.31.0.11'],
      nodeName: 'n1',
      allocatable: { cpu: '1500m' },
    },
    node: { metadata: { name: 'n1' } },
    source: {
      configMap: (_, name) =>
        name === 'cm'
          ? {
              apiVersion: 'v1',
              kind: 'ConfigMap',
              metadata: { name },
              data: { text: 'hello' },
              binaryData: { raw: 'AP8=' },
            }
          : undefined,
      secret: (_, name) =>
        name === 's'
          ? { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { key: 'c2VjcmV0' } }
          : undefined,
      claim: () => undefined,
      persistentVolume: () => undefined,
      synced: Promise.resolve(),
      onChange: () => () => {},
      close: () => {},
    },
    tokens: {} as PodTokens,
  });
};
const read = (root: string, path: string): Buffer => readFileSync(join(root, 'pod/volumes/v', path));
const modeOf = (root: string, path: string): number =>
  statSync(join(root, 'pod/volumes/v', path)).mode & 0o777;

test('config maps: text and binary keys, chosen items, modes of the volume and of an item', async (t) => {
  const root = nodeRoot(t);
  await sync(root, { configMap: { name: 'cm', defaultMode: 0o600 } });
  assert.equal(read(root, 'text').toString(), 'hello');
  assert.deepEqual([...read(root, 'raw')], [0, 255]);
  assert.equal(modeOf(root, 'raw'), 0o600);
  await sync(root, { configMap: { name: 'cm', items: [{ key: 'text', path: 'deep/er.txt', mode: 0o400 }] } });
  assert.equal(read(root, 'deep/er.txt').toString(), 'hello');
  assert.equal(modeOf(root, 'deep/er.txt'), 0o400);
  assert.throws(() => read(root, 'text'), /ENOENT/);
});

test('the downward API as a volume', async (t) => {
  const root = nodeRoot(t);
  const resource = (path: string, name: string, divisor?: string) => ({
    path,
    resourceFieldRef: { containerName: 'c', resource: name, ...(divisor === undefined ? {} : { divisor }) },
  });
  await sync(root, {
    downwardAPI: {
      items: [
        { path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } },
        resource('memory', 'limits.memory'),
        resource('megs', 'limits.memory', '1Mi'),
        resource('cpu', 'requests.cpu', '1m'),
        // No limit: what the node offers.
        resource('most', 'limits.cpu', '1m'),
      ],
    },
  });
  const texts = ['labels', 'memory', 'megs', 'cpu', 'most'].map((path) => read(root, path).toString());
  assert.deepEqual(texts, ['app="web"', '67108864', '64', '250', '1500']);
});

test('what is missing is named; what is optional may be missing', async (t) => {
  const root = nodeRoot(t);
  const says = async (volume: Omit<Volume, 'name'>): Promise<string> => {
    const result = await sync(root, volume);
    return result.kind === 'waiting' ? result.message : 'ready';
  };
  const failed = 'MountVolume.SetUp failed for volume "v": ';
  assert.equal(await says({ configMap: { name: 'no' } }), `${failed}configmap "no" not found`);
  assert.equal(await says({ configMap: { name: 'no', optional: true } }), 'ready');
  assert.equal(
    await says({ secret: { secretName: 's', items: [{ key: 'x', path: 'x' }] } }),
    `${failed}secret "s" has no key "x"`,
  );
  assert.match(
    await says({ downwardAPI: { items: [{ path: 'f', fieldRef: { fieldPath: 'spec.nope' } }] } }),
    /spec\.nope/,
  );
});

test('quantities are rounded up to whole units', () => {
  for (const [value, divisor, expected] of [
    ['250m', '1', '1'],
    ['3m', '1m', '3'],
    ['1.5', '1m', '1500'],
    ['1Gi', '1Mi', '1024'],
    ['1G', '1Mi', '954'],
    ['12e3', '1k', '12'],
    ['2', '0', '2'],
  ] as const)
    assert.equal(dividedQuantity(value, divisor), expected, `${value} / ${divisor}`);
  assert.equal(dividedQuantity('much', '1'), undefined);
});
