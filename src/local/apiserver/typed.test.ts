// Golden cases come from Kubernetes' own strict decoder (tools/k8s-schema/typed.go).

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { isObject, type JsonObject } from './object.ts';
import { builtInSchema } from './schema-bundle.ts';
import { readTyped, TypedError } from './typed.ts';

const golden = gunzipSync(readFileSync(join(import.meta.dirname, 'testdata/typed.tsv.gz')))
  .toString()
  .replace(/\n$/, '')
  .split('\n')
  .map((line) => line.split('\t') as [kind: string, json: string, sentence: string, result: string]);

/** What the decoder makes of an object: its form and its complaint, as Kubernetes words it. */
function read(key: string, json: string): { sentence: string; object: JsonObject | undefined } {
  const [kind, version, group] = key.split('/').reverse();
  const object = JSON.parse(json) as JsonObject;
  try {
    const unknown = readTyped(builtInSchema(group ?? '', version!, kind!)!, object);
    for (const { parent, name } of unknown) delete parent[name];
    const sentences = unknown.map(({ path }) => `unknown field ${JSON.stringify(path)}`);
    return {
      sentence: sentences.length === 0 ? '' : `strict decoding error: ${sentences.join(', ')}`,
      object,
    };
  } catch (error) {
    assert.ok(error instanceof TypedError, String(error));
    return { sentence: error.message, object: undefined };
  }
}

/** Go writes what is not there as null, {} or "" where JSON leaves it out, and leaves out what is empty. */
function withoutEmpty(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .map(([name, each]) => [name, withoutEmpty(each)] as const)
      .filter(
        ([, each]) =>
          each !== null &&
          each !== '' &&
          each !== 0 &&
          each !== false &&
          !(typeof each === 'object' && Object.keys(each as object).length === 0),
      ),
  );
}

test('what Kubernetes refuses is refused in its words, and the rest takes the form it gives it', () => {
  assert.ok(golden.length >= 300);
  for (const [kind, json, sentence, result] of golden) {
    const found = read(kind, json);
    // Go names embedded structs in paths (`spec.PersistentVolumeSource.fc`), which appear nowhere in the object.
    const expected = sentence.replace(/(?<=\.)[A-Z]\w*\./g, '');
    assert.equal(found.sentence, expected, `${kind} ${json}`);
    if (result !== '')
      assert.deepEqual(withoutEmpty(found.object), withoutEmpty(JSON.parse(result)), `${kind} ${json}`);
  }
});

const pod = (text: string): ReturnType<typeof read> => read('v1/Pod', text);

test('paths of unknown fields name list positions and map keys', () => {
  const { sentence, object } = pod(
    '{"spec":{"containers":[{"name":"a"},{"name":"b","imagge":"x","env":[{"nam":"y"}]}]},"extra":1}',
  );
  assert.equal(
    sentence,
    'strict decoding error: unknown field "spec.containers[1].imagge", unknown field "spec.containers[1].env[0].nam", unknown field "extra"',
  );
  assert.deepEqual(object, { spec: { containers: [{ name: 'a' }, { name: 'b', env: [{}] }] } });
});

test('null is absent, quantities and times have one form, numbers and texts keep their type', () => {
  assert.deepEqual(
    pod(
      '{"metadata":{"creationTimestamp":null,"deletionTimestamp":"2026-01-01T01:00:00.5+01:00"},"spec":{"nodeName":null,"containers":[{"resources":{"limits":{"cpu":"1000m","memory":1073741824}},"livenessProbe":{"httpGet":{"port":"http"},"periodSeconds":5}}],"overhead":{"cpu":0.5}}}',
    ).object,
    {
      metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' },
      spec: {
        containers: [
          {
            resources: { limits: { cpu: '1', memory: '1073741824' } },
            livenessProbe: { httpGet: { port: 'http' }, periodSeconds: 5 },
          },
        ],
        overhead: { cpu: '500m' },
      },
    },
  );
});

test('fields of prototypes are unknown fields, and raw values are left alone', () => {
  assert.equal(
    pod('{"constructor":{},"spec":{"toString":1}}').sentence,
    'strict decoding error: unknown field "constructor", unknown field "spec.toString"',
  );
  const fields = '{"metadata":{"managedFields":[{"fieldsV1":{"f:spec":{"f:any":null}}}]}}';
  assert.deepEqual(pod(fields).object, JSON.parse(fields));
});

test('any object is read or refused, and what was read once is read again unchanged', () => {
  const names = fc.constantFrom(
    'metadata',
    'spec',
    'containers',
    'name',
    'ports',
    'containerPort',
    'status',
    'x',
  );
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom<unknown>(null, true, 1, 1.5, 2 ** 40, 'a', '', '5m', '2026-01-01T00:00:00Z'),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(names, tie('value'), { maxKeys: 5 }),
    ),
  }));
  fc.assert(
    fc.property(fc.dictionary(names, value), (object) => {
      const once = pod(JSON.stringify(object));
      if (once.object === undefined) return;
      const again = pod(JSON.stringify(once.object));
      assert.equal(again.sentence, '');
      assert.deepEqual(again.object, once.object);
    }),
    { numRuns: 1000 },
  );
});
