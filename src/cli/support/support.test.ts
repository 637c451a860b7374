import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import type { KubeClient } from '#k8s/client.ts';
import type { KubeObject, Pod, Resource } from '#k8s/objects.ts';
import { gather } from './gather.ts';
import { redactObject, redactText } from './redact.ts';
import { tarArchive } from './tar.ts';

const KEY = '-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBsecretsecretsecret\n-----END EC PRIVATE KEY-----\n';
const CERTIFICATE = '-----BEGIN CERTIFICATE-----\nMIIBpublicpublic\n-----END CERTIFICATE-----\n';
const TOKEN = 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlc2lnbmF0dXJl';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('keys, tokens and passwords are taken out of any text; certificates stay', () => {
  const cases: readonly [string, RegExp | undefined][] = [
    [KEY, /secretsecret/],
    [`a: ${JSON.stringify(KEY)}`, /secretsecret/],
    [KEY.slice(0, 60), /secretse/],
    [`"pem": "${base64(KEY)}"`, new RegExp(base64(KEY).slice(20, 40))],
    [`token ${TOKEN}, and on`, /eyJzdWIi/],
    ['Authorization: Bearer abcdefghijklmnopqrst', /abcdefghij/],
    ['postgres://shop:hunter2@db:5432/x', /hunter2/],
  ];
  for (const [text, secret] of cases) {
    const left = redactText(text);
    assert.doesNotMatch(left, secret as RegExp, text);
    assert.match(left, /\(left out\)/);
  }
  for (const harmless of [
    CERTIFICATE,
    `"pem": "${base64(CERTIFICATE)}"`,
    'src.identity="spiffe://a/ns/b/sa/c"',
  ])
    assert.equal(redactText(harmless), harmless);
});

test('a key inside any other text never survives', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), fc.boolean(), (before, after, encoded) => {
      // Base64 that runs on into other base64 characters is no text of its own.
      const left = redactText(`${before}\n${encoded ? base64(KEY) : KEY}\n${after}`);
      assert.ok(!left.includes('secretsecret') && !left.includes(base64(KEY).slice(20)));
    }),
  );
});

test('objects lose environment values that are named like secrets, and their copies in annotations', () => {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'web',
      annotations: {
        'kubectl.kubernetes.io/last-applied-configuration': '{"secret":"s3cret"}',
        plain: 'kept',
      },
      managedFields: [{}],
    },
    spec: {
      containers: [
        {
          name: 'c',
          image: 'i',
          env: [
            { name: 'DB_PASSWORD', value: 's3cret' },
            { name: 'MODE', value: 'kept' },
          ],
          args: ['--auth-token=s3cret', '--mode=kept'],
        },
      ],
    },
  } as unknown as Pod;
  const text = JSON.stringify(redactObject(pod));
  assert.doesNotMatch(text, /s3cret|managedFields/);
  assert.equal(text.match(/kept/g)?.length, 3);
  assert.match(JSON.stringify(pod), /s3cret/, 'the object itself is not changed');
});

test('the archive is one that tar reads, long paths included', {
  skip: spawnSync('tar', ['--version']).status !== 0 && 'no tar here',
}, () => {
  const long = `folder/${'p'.repeat(90)}/${'n'.repeat(80)}.txt`;
  const archive = tarArchive(
    [
      { path: 'a.txt', text: 'ä\n' },
      { path: 'empty', text: '' },
      { path: long, text: 'x'.repeat(1024) },
    ],
    Date.parse('2026-01-01T00:00:00Z'),
  );
  const list = spawnSync('tar', ['-tf', '-'], { input: archive, encoding: 'utf8' });
  assert.equal(list.status, 0, list.stderr);
  assert.deepEqual(list.stdout.trim().split('\n'), ['a.txt', 'empty', long]);
  const body = spawnSync('tar', ['-xOf', '-', 'a.txt'], { input: archive, encoding: 'utf8' });
  assert.equal(body.stdout, 'ä\n');
  assert.throws(() => tarArchive([{ path: 'n'.repeat(101), text: '' }], 0), /too long/);
});

test('Secrets and ConfigMaps are never asked for; what fails is named and the rest is there', async () => {
  const asked: string[] = [];
  const client = {
    list: (resource: Resource) => {
      asked.push(resource.kind);
      if (resource.kind === 'Event') return Promise.reject(new Error('forbidden'));
      const item: KubeObject = {
        apiVersion: 'v1',
        kind: resource.kind,
        metadata: { name: 'x', namespace: 'istio-system' },
      };
      return Promise.resolve({ items: resource.kind === 'Pod' ? [] : [item], resourceVersion: '1' });
    },
    request: () => Promise.resolve({ gitVersion: 'v1' }),
  } as unknown as KubeClient;
  const { files, missing } = await gather({
    client,
    fetchFromPod: () => Promise.reject(new Error('unreachable')),
    onGathered: () => {},
  });
  assert.ok(!asked.includes('Secret') && !asked.includes('ConfigMap'));
  assert.ok(files.some(({ path }) => path === 'objects/services.json'));
  assert.ok(missing.includes('objects/events.json: forbidden'));
});
