// For this folder's tests: a store in memory with the default namespaces and the policy definitions, a clock that
// stands still until it is moved, and the verbs on kinds by their plural.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { ADDRESSES, API_PORT } from '#local/machine/plan.ts';
import type { WriteOptions } from './admit.ts';
import { bootstrap } from './bootstrap.ts';
import type { Kind, ServiceFamilies } from './kind.ts';
import type { ApiObject, JsonObject } from './object.ts';
import { createObject, getStored, type ObjectsDeps, type Part, updateObject } from './objects.ts';
import { Registry } from './registry.ts';
import { type DeleteOptions, type DeleteResult, deleteObject } from './removal.ts';
import { StatusError } from './status.ts';
import { Store } from './store.ts';

const CRD_FOLDER = join(import.meta.dirname, '../../../deploy/crds');

export const policyCrdTexts = (): string[] =>
  readdirSync(CRD_FOLDER).map((name) => readFileSync(join(CRD_FOLDER, name), 'utf8'));

export interface Rig extends ObjectsDeps {
  readonly store: Store;
  readonly registry: Registry;
  /** Moves the clock. */
  readonly advance: (ms: number) => void;
  readonly kind: (plural: string, version?: string) => Kind;
  readonly create: (plural: string, object: JsonObject, options?: Partial<WriteOptions>) => ApiObject;
  readonly update: (
    plural: string,
    object: JsonObject,
    part?: Part,
    options?: Partial<WriteOptions>,
  ) => ApiObject;
  readonly remove: (plural: string, name: string, options?: Partial<DeleteOptions>) => DeleteResult;
  readonly get: (plural: string, name: string) => ApiObject | undefined;
}

/** Namespaced objects live in `default`. */
export function makeRig(
  options: { readonly ringSize?: number; readonly serviceFamilies?: ServiceFamilies } = {},
): Rig {
  let nowMs = Date.parse('2026-01-01T00:00:00Z');
  let seed = 1;
  const clock = { now: () => nowMs, monotonicMs: () => nowMs };
  // Any sequence will do, as long as it is the same in every run.
  const random = (): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const { serviceFamilies = ['IPv4'], ...storeOptions } = options;
  const store = new Store({ path: ':memory:', clock, ...storeOptions });
  const registry = new Registry(store);
  const deps: ObjectsDeps = { store, registry, clock, random, serviceFamilies };
  const crds = policyCrdTexts().map((text) => parseYaml(text) as JsonObject);
  bootstrap(deps, {
    advertise: { address: ADDRESSES[serviceFamilies[0] ?? 'IPv4'].machine, port: API_PORT },
    crds,
  });
  const kind = (plural: string, version?: string): Kind => {
    const found = registry.kinds.find(
      (each) => each.plural === plural && (version === undefined || each.version === version),
    );
    if (found === undefined) throw new Error(`no kind ${plural}`);
    return found;
  };
  const where = (each: Kind): string | undefined => (each.namespaced ? 'default' : undefined);
  const write = (options: Partial<WriteOptions> | undefined): WriteOptions => ({
    dryRun: false,
    fieldManager: 'test',
    fieldValidation: 'Warn',
    warnings: [],
    ...options,
  });
  return {
    ...deps,
    advance: (ms) => {
      nowMs += ms;
    },
    kind,
    create: (plural, object, options) =>
      createObject(deps, kind(plural), where(kind(plural)), object, write(options)).object,
    update: (plural, object, part = 'object', options) => {
      const name = (object.metadata as { name: string }).name;
      const stored = getStored(deps, kind(plural), where(kind(plural)), name);
      return updateObject(deps, kind(plural), stored, () => object, part, write(options)).object;
    },
    remove: (plural, name, options) =>
      deleteObject(deps, kind(plural), getStored(deps, kind(plural), where(kind(plural)), name), {
        dryRun: false,
        ...options,
      }),
    get: (plural, name) => store.get(kind(plural).resource, where(kind(plural)), name)?.object,
  };
}

export const podNamed = (name: string, extra: JsonObject = {}): JsonObject => ({
  metadata: { name, labels: { app: name } },
  spec: { containers: [{ name: 'main', image: 'local/shell' }], ...extra },
});

/** For assert.throws: a refusal with this code, whose message has the text. */
export const refused =
  (code: number, text: string | RegExp) =>
  (error: unknown): true => {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.body.code, code);
    if (typeof text === 'string') assert.ok(error.message.includes(text), error.message);
    else assert.match(error.message, text);
    return true;
  };

/** What the server says no with. */
export function refusalOf(work: () => unknown): StatusError {
  try {
    work();
  } catch (error) {
    if (error instanceof StatusError) return error;
    throw error;
  }
  assert.fail('it was not refused');
}
