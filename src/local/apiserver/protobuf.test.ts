// Golden objects come from Kubernetes' own code (tools/k8s-schema/golden.go); the small ones are written out by hand.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { decodeObject } from './decode.ts';
import { isObject } from './object.ts';
import { PROTOBUF_SPECIALS } from './protobuf-specials.ts';
import { dataFile } from './schema-bundle.ts';
import { StatusError } from './status.ts';

const PROTOBUF = 'application/vnd.kubernetes.protobuf';
const golden = gunzipSync(readFileSync(join(import.meta.dirname, 'testdata/protobuf.tsv.gz')))
  .toString()
  .trimEnd()
  .split('\n')
  .map((line) => line.split('\t') as [string, string, string])
  .filter(([kind]) => kind !== 'quantity');

/** Go writes null and {} for what is not there, where JSON clients leave it out. */
function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (!isObject(value)) return value;
  const kept = Object.entries(value)
    .map(([name, each]) => [name, withoutEmpty(each)] as const)
    .filter(([, each]) => each !== null && !(isObject(each) && Object.keys(each).length === 0));
  return Object.fromEntries(kept);
}

test('golden objects of every kind decode to what Kubernetes makes of them', () => {
  assert.ok(golden.length > 150);
  assert.ok(new Set(golden.map(([kind]) => kind)).size > 60);
  for (const [kind, base64, json] of golden)
    assert.deepEqual(
      withoutEmpty(decodeObject(Buffer.from(base64, 'base64'), PROTOBUF)),
      withoutEmpty(JSON.parse(json)),
      kind,
    );
});

const bytes = (field: number, content: Buffer | string): Buffer => {
  const body = Buffer.from(content);
  assert.ok(body.length < 128 && field < 16);
  return Buffer.concat([Buffer.from([(field << 3) | 2, body.length]), body]);
};
const number = (field: number, value: number): Buffer => Buffer.from([field << 3, value]);
const envelope = (apiVersion: string, kind: string, raw: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from('k8s\0'),
    bytes(1, Buffer.concat([bytes(1, apiVersion), bytes(2, kind)])),
    bytes(2, raw),
  ]);
const decoded = (apiVersion: string, kind: string, ...fields: Buffer[]): unknown =>
  decodeObject(envelope(apiVersion, kind, Buffer.concat(fields)), PROTOBUF);

test('a pointer keeps its zero, a plain field leaves it out', () => {
  // DeploymentSpec: replicas = 1 (pointer), minReadySeconds = 5 (plain), paused = 7 (plain).
  const spec = Buffer.concat([number(1, 0), number(5, 0), number(7, 0)]);
  assert.deepEqual(decoded('apps/v1', 'Deployment', bytes(2, spec)), {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    spec: { replicas: 0 },
  });
  // PodSpec: volumes = 1; Volume: name = 1, volumeSource = 2 inline; emptyDir = 2 (pointer).
  const volume = Buffer.concat([bytes(1, 'tmp'), bytes(2, bytes(2, ''))]);
  assert.deepEqual(decoded('v1', 'Pod', bytes(2, bytes(1, volume))), {
    apiVersion: 'v1',
    kind: 'Pod',
    spec: { volumes: [{ name: 'tmp', emptyDir: {} }] },
  });
});

test('a number or text keeps its type, quantities become canonical, a zero time is left out', () => {
  const intOrString = (type: number, value: number, text: string): Buffer =>
    Buffer.concat([number(1, type), number(2, value), bytes(3, text)]);
  // ServiceSpec.ports = 1; ServicePort: protocol = 2, port = 3, targetPort = 4.
  const port = (target: Buffer): Buffer => bytes(1, Buffer.concat([number(3, 80), bytes(4, target)]));
  const spec = Buffer.concat([port(intOrString(0, 81, '')), port(intOrString(1, 0, '81'))]);
  assert.deepEqual(decoded('v1', 'Service', bytes(2, spec)), {
    apiVersion: 'v1',
    kind: 'Service',
    spec: {
      ports: [
        { port: 80, targetPort: 81 },
        { port: 80, targetPort: '81' },
      ],
    },
  });
  // ResourceQuota.spec = 2, hard = 1; ObjectMeta.creationTimestamp = 8.
  const entry = Buffer.concat([bytes(1, 'cpu'), bytes(2, bytes(1, '1000m'))]);
  assert.deepEqual(decoded('v1', 'ResourceQuota', bytes(1, bytes(8, '')), bytes(2, bytes(1, entry))), {
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    spec: { hard: { cpu: '1' } },
  });
});

test('a message in two pieces is merged, as protobuf demands', () => {
  const meta = (field: Buffer): Buffer => bytes(1, field);
  assert.deepEqual(decoded('v1', 'ConfigMap', meta(bytes(1, 'a')), meta(bytes(3, 'ns'))), {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'a', namespace: 'ns' },
  });
});

const refusal = (body: Buffer): string => {
  try {
    decodeObject(body, PROTOBUF);
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.body.code, 400);
    return error.message;
  }
  return '';
};

test('what is no object of a known kind is refused with a sentence', () => {
  const big = Buffer.concat([Buffer.from([0x12]), Buffer.from([0xff, 0xff, 0xff, 0x7f])]);
  for (const [body, sentence] of [
    [Buffer.from('{}'), /does not begin with the four bytes/],
    [Buffer.from('k8s\0'), /its envelope names no kind/],
    [envelope('v1', 'Nothing', Buffer.alloc(0)), /no kind "Nothing" in version "v1" is known in protobuf/],
    [envelope('v1', 'constructor', Buffer.alloc(0)), /no kind "constructor"/],
    [Buffer.concat([Buffer.from('k8s\0'), big]), /ends in the middle of a field/],
    [envelope('v1', 'Pod', Buffer.from([0x0a, 0x05, 0x00])), /ends in the middle of a field/],
    [envelope('v1', 'Pod', Buffer.from([0x00])), /a field has the impossible number 0/],
    [envelope('v1', 'Pod', Buffer.from([0x0b])), /field 1 has the unknown wire type 3/],
    [envelope('v1', 'Pod', Buffer.from([0x08, 0x00])), /has the wire type 0 in place of 2/],
    [
      envelope('v1', 'Pod', Buffer.from([0x0a, ...Array(11).fill(0xff)])),
      /a number is longer than ten bytes/,
    ],
    [envelope('v1', 'Pod', bytes(1, bytes(1, Buffer.from([0xff])))), /a text in it is not UTF-8/],
    [
      envelope('v1', 'ConfigMap', bytes(2, Buffer.concat([bytes(1, '__proto__'), bytes(2, 'x')]))),
      /may not be named "__proto__"/,
    ],
    [
      envelope(
        'v1',
        'ResourceQuota',
        bytes(2, bytes(1, Buffer.concat([bytes(1, 'cpu'), bytes(2, bytes(1, 'x'))]))),
      ),
      /quantities must match the regular expression/,
    ],
  ] as const)
    assert.match(refusal(body), sentence);
});

test('a message that nests without end is refused, and so is one of too many values', () => {
  // CustomResourceDefinition.spec = 2, versions = 7, schema = 4, openAPIV3Schema = 1, not = 28 (0xe2 0x01).
  const wrap = (tag: readonly number[], content: Buffer): Buffer => {
    const length: number[] = [];
    for (let rest = content.length; ; rest >>= 7) {
      length.push(rest > 127 ? (rest & 127) | 128 : rest);
      if (rest <= 127) break;
    }
    return Buffer.concat([Buffer.from([...tag, ...length]), content]);
  };
  let schema = Buffer.alloc(0) as Buffer;
  for (let depth = 0; depth < 400; depth++) schema = wrap([0xe2, 0x01], schema);
  const crd = wrap([0x12], wrap([0x3a], wrap([0x22], wrap([0x0a], schema))));
  const head = Buffer.concat([bytes(1, 'apiextensions.k8s.io/v1'), bytes(2, 'CustomResourceDefinition')]);
  const body = Buffer.concat([Buffer.from('k8s\0'), bytes(1, head), wrap([0x12], crd)]);
  assert.match(refusal(body), /nested deeper than 200 levels/);

  const podHead = Buffer.concat([bytes(1, 'v1'), bytes(2, 'Pod')]);
  const containers = Buffer.alloc(1_200_000, Buffer.from([0x12, 0x00]));
  const many = Buffer.concat([
    Buffer.from('k8s\0'),
    bytes(1, podHead),
    wrap([0x12], wrap([0x12], containers)),
  ]);
  assert.match(refusal(many), /holds more than 500000 values/);
});

test('garbage is refused with a sentence or read as something, never more', () => {
  const cases = golden.map(([, base64]) => Buffer.from(base64, 'base64'));
  const damaged = fc
    .tuple(
      fc.constantFrom(...cases),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      fc.nat(),
    )
    .map(([body, changes, cut]) => {
      const copy = Buffer.from(body);
      // The envelope's first bytes stay, so that most cases get past it.
      for (const [at, value] of changes) copy[30 + (at % Math.max(1, copy.length - 30))] = value;
      return cut % 3 === 0 ? copy.subarray(0, cut % copy.length) : copy;
    });
  const random = fc.uint8Array({ maxLength: 200 }).map((tail) => envelopeOf(Buffer.from(tail)));
  fc.assert(
    fc.property(fc.oneof(damaged, random), (body) => {
      try {
        assert.ok(isObject(decodeObject(body, PROTOBUF)));
      } catch (error) {
        assert.ok(error instanceof StatusError, String(error));
        assert.equal(error.body.code, 400);
        assert.ok(error.message.length > 20);
      }
    }),
    { numRuns: 2000 },
  );
});

function envelopeOf(raw: Buffer): Buffer {
  const head = Buffer.concat([bytes(1, 'v1'), bytes(2, 'Pod')]);
  const length = raw.length > 127 ? [(raw.length & 127) | 128, raw.length >> 7] : [raw.length];
  return Buffer.concat([Buffer.from('k8s\0'), bytes(1, head), Buffer.from([0x12, ...length]), raw]);
}

test('every message that the table names is in it', () => {
  const { kinds, messages } = JSON.parse(dataFile('protobuf.json').toString()) as {
    kinds: Record<string, string>;
    messages: Record<string, [number, string, string][]>;
  };
  const named = Object.values(messages).flatMap((fields) =>
    fields.map(([, , notation]) => notation.replace(/^\??\*?(\[\]|\{\})?/, '')),
  );
  for (const type of [...named, ...Object.values(kinds)])
    if (type.includes('.') && !Object.hasOwn(PROTOBUF_SPECIALS, type))
      assert.ok(Object.hasOwn(messages, type), type);
});
