// Random scripts of several managers, with what Kubernetes' own field manager made of each step (tools/apply-oracle).

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { applyObject } from './apply.ts';
import type { Kind } from './kind.ts';
import { BUILT_IN_KINDS } from './kinds.ts';
import { mergeTypeOf } from './merge-type.ts';
import { type ApiObject, clone, isObject, type JsonObject } from './object.ts';
import { entriesOf, ownersAfterUpdate, ownersOf, type Writer } from './owners.ts';
import type { StructuralSchema } from './schema.ts';
import { StatusError } from './status.ts';

interface Entry {
  readonly manager: string;
  readonly operation: string;
  readonly apiVersion: string;
  readonly subresource?: string;
  readonly timed: boolean;
  readonly fieldsV1: JsonObject;
}

interface Step {
  readonly op: 'apply' | 'update' | 'clear';
  readonly manager: string;
  readonly force?: boolean;
  readonly subresource?: string;
  readonly object: ApiObject;
  readonly live?: JsonObject;
  readonly managed?: readonly Entry[];
  readonly error?: string;
  readonly causes?: readonly { readonly message: string; readonly field: string }[];
}

interface Script {
  readonly kind: string;
  readonly schema?: StructuralSchema;
  readonly steps?: readonly Step[];
}

const [definition, ...scripts] = gunzipSync(
  readFileSync(join(import.meta.dirname, 'testdata/apply-cases.jsonl.gz')),
)
  .toString()
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Script);

function kindNamed(name: string): Kind {
  const builtIn = BUILT_IN_KINDS.find((kind) => kind.kind === name && kind.group !== 'events.k8s.io');
  if (builtIn !== undefined) return builtIn;
  const pattern = BUILT_IN_KINDS[0]!;
  return {
    ...pattern,
    group: 'example.com',
    version: 'v1',
    apiVersion: 'example.com/v1',
    kind: 'Thing',
    schema: definition!.schema!,
  };
}

const kinds = new Map(
  ['Service', 'Deployment', 'Pod', 'ConfigMap', 'Thing'].map((name) => [name, kindNamed(name)]),
);

/** As each door of the oracle was set up. */
const DOORS: Readonly<Record<string, Writer['owns']>> = {
  '': ({ 'f:status': _, ...rest }) => rest,
  status: ({ 'f:status': status }) => (status === undefined ? {} : { 'f:status': status }),
};

function run(kind: Kind, live: ApiObject | undefined, step: Step): ApiObject {
  const subresource = step.subresource ?? '';
  const writer: Writer = {
    manager: step.manager,
    apiVersion: kind.apiVersion,
    subresource,
    nowMs: 0,
    owns: DOORS[subresource]!,
  };
  const status = subresource === 'status';
  if (step.op === 'apply') {
    const next = applyObject(kind, live, step.object, { ...writer, force: step.force ?? false });
    // What the other door is for stays as it was (the registry's part, not the field manager's).
    const { managedFields } = next.metadata;
    const kept = status
      ? { ...next, spec: live!.spec, metadata: { ...live!.metadata, managedFields } }
      : { ...next, status: live?.status };
    return dropped(kept) as ApiObject;
  }
  const given = status
    ? { ...withoutEntries(live!), status: step.object.status }
    : { ...step.object, status: live?.status };
  const owners = step.op === 'clear' ? new Map() : ownersOf(live?.metadata.managedFields);
  const tracked = live === undefined || owners.size > 0;
  const after = tracked
    ? ownersAfterUpdate(
        mergeTypeOf(kind),
        live === undefined ? {} : withoutEntries(live),
        given,
        owners,
        writer,
      )
    : owners;
  const next = dropped(clone(given)) as ApiObject;
  next.metadata.managedFields = entriesOf(after);
  return next;
}

function withoutEntries(object: ApiObject): ApiObject {
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}

/** Without what is null or undefined. */
function dropped(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(dropped);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, each]) => each !== undefined && each !== null)
      .map(([key, each]) => [key, dropped(each)]),
  );
}

function entries(object: ApiObject): unknown {
  return (object.metadata.managedFields ?? [])
    .map(({ fieldsType: _, time, ...entry }) => ({ ...entry, timed: time !== undefined }))
    .sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

const order = (entry: { operation?: string; manager?: string; subresource?: string }): string =>
  `${entry.operation} ${entry.manager} ${entry.subresource ?? ''}`;

function replay(script: Script): void {
  const kind = kinds.get(script.kind)!;
  let live: ApiObject | undefined;
  script.steps!.forEach((step, index) => {
    const what = `step ${index}: ${step.op} by ${step.manager} ${step.subresource ?? ''}`;
    const given = JSON.stringify([live, step.object]);
    try {
      const next = run(kind, live, step);
      assert.equal(step.error, undefined, `${what} should have been refused`);
      assert.deepEqual(withoutEntries(next), step.live, what);
      assert.deepEqual(entries(next), step.managed ?? [], what);
      assert.equal(JSON.stringify([live, step.object]), given, `${what}: arguments stay as they were`);
      live = next;
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      assert.equal(error.message, step.error, what);
      const causes = (error.body.details?.causes ?? []).map(({ message, field }) => ({
        message,
        field: field!,
      }));
      causes.sort((a, b) => (`${a.message} ${a.field}` < `${b.message} ${b.field}` ? -1 : 1));
      assert.deepEqual(causes, step.causes ?? [], what);
    }
  });
}

for (const kind of kinds.keys())
  test(`server-side apply: scripts on ${kind} end as in Kubernetes`, () => {
    const chosen = scripts
      .map((script, line) => ({ script, line }))
      .filter(({ script }) => script.kind === kind);
    assert.ok(chosen.length >= 50);
    for (const { script, line } of chosen)
      try {
        replay(script);
      } catch (error) {
        assert.fail(`line ${line + 2}: ${error instanceof Error ? error.message : String(error)}`);
      }
  });
