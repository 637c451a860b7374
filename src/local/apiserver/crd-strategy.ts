// Rules of CustomResourceDefinition itself: defaults of its names, checks, and the status that makes it served at once.

import { isCelLoaded, loadCel } from './cel/engine.ts';
import { checkRules } from './cel/rules.ts';
import { acceptNames } from './crd-names.ts';
import type { Strategy, StrategyContext } from './kind.ts';
import { checkName } from './names.ts';
import { type ApiObject, at, isObject, type JsonObject, kubeTime } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { duplicate, type FieldError, invalid, notSupported, required } from './status.ts';
import { resourceKey } from './store.ts';

const SCOPES = ['Cluster', 'Namespaced'];

const specOf = (object: ApiObject): JsonObject => {
  if (!isObject(object.spec)) object.spec = {};
  return object.spec as JsonObject;
};

const versionsOf = (object: ApiObject): JsonObject[] => {
  const found = at(object, 'spec', 'versions');
  return Array.isArray(found) ? found.filter(isObject) : [];
};

export const crdStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  load: async (body, stored) => {
    if (body.includes(RULES) && !hasOnlyRulesOf(stored, body)) await loadCel();
  },
  defaults: (object) => {
    const names = at(object, 'spec', 'names');
    if (isObject(names)) {
      names.singular ??= String(names.kind ?? '').toLowerCase();
      names.listKind ??= `${String(names.kind ?? '')}List`;
    }
    specOf(object).conversion ??= { strategy: 'None' };
  },
  prepareCreate: (object, context) => {
    object.status = establishedStatus(object, undefined, context);
  },
  prepareUpdate: (object, old, context) => {
    object.status = establishedStatus(object, old.status, context);
  },
  validate,
};

const CRDS = resourceKey('apiextensions.k8s.io', 'customresourcedefinitions');

/** A definition is accepted as it is stored, unless another one of its group has one of its names. */
function establishedStatus(object: ApiObject, old: unknown, context: StrategyContext): JsonObject {
  const { clock, store } = context;
  const storage = versionsOf(object).find((version) => version.storage === true)?.name;
  const stored = (at(old, 'storedVersions') ?? []) as unknown[];
  const before = at(old, 'conditions');
  const held = (Array.isArray(before) ? before : []).filter(isObject);
  const condition = (type: string, status: boolean, reason: string, message: string): JsonObject => {
    const known = held.find((each) => each.type === type);
    const same = known?.status === (status ? 'True' : 'False') && known.reason === reason;
    if (same && known.message === message) return known;
    const lastTransitionTime = same ? known.lastTransitionTime : kubeTime(clock.now());
    return { type, status: status ? 'True' : 'False', lastTransitionTime, reason, message };
  };
  const { conflict } = acceptNames(
    object,
    store.list(CRDS).map((each) => each.object),
  );
  return {
    conditions: [
      ...(conflict === undefined
        ? [
            condition('NamesAccepted', true, 'NoConflicts', 'no conflicts found'),
            condition('Established', true, 'InitialNamesAccepted', 'the initial names have been accepted'),
          ]
        : [
            condition('NamesAccepted', false, conflict.reason, conflict.message),
            condition('Established', false, 'NotAccepted', 'not all names are accepted'),
          ]),
      ...held.filter(({ type }) => type === 'Terminating'),
    ],
    acceptedNames: conflict === undefined ? at(object, 'spec', 'names') : (at(old, 'acceptedNames') ?? {}),
    storedVersions: storage === undefined || stored.includes(storage) ? stored : [...stored, storage],
  };
}

const RULES = 'x-kubernetes-validations';

/**
 * Whether a definition or a patch of one brings no rule that the stored definition lacks. Whoever installs the mesh into a cluster
 * that has its definitions already need not load the evaluator, several megabytes, for rules that are there.
 */
function hasOnlyRulesOf(stored: ApiObject | undefined, body: Buffer): boolean {
  if (stored === undefined) return false;
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString());
  } catch {
    return false; // YAML or protobuf
  }
  // A JSON patch has its keys in paths.
  if (!isObject(parsed)) return false;
  const known = new Set(expressionsIn(stored));
  return expressionsIn(parsed).every((expression) => known.has(expression));
}

/** Every rule and message expression, wherever it stands: what compiles in one place compiles in any. */
function expressionsIn(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(expressionsIn);
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([key, child]) =>
    key === RULES && Array.isArray(child)
      ? child.map((rule) => JSON.stringify([at(rule, 'rule'), at(rule, 'messageExpression')]))
      : expressionsIn(child),
  );
}

function validate(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const group = at(object, 'spec', 'group');
  const plural = at(object, 'spec', 'names', 'plural');
  if (typeof group !== 'string' || group === '') errors.push(required('spec.group'));
  else errors.push(...checkName('subdomain', group, 'spec.group'));
  if (typeof plural !== 'string' || plural === '') errors.push(required('spec.names.plural'));
  else errors.push(...checkName('label1035', plural, 'spec.names.plural'));
  if (!at(object, 'spec', 'names', 'kind')) errors.push(required('spec.names.kind'));
  if (errors.length === 0 && object.metadata.name !== `${String(plural)}.${String(group)}`)
    errors.push(invalid('metadata.name', object.metadata.name, 'must be spec.names.plural+"."+spec.group'));
  const scope = at(object, 'spec', 'scope');
  if (!SCOPES.includes(String(scope))) errors.push(notSupported('spec.scope', scope, SCOPES));
  if (old !== undefined && at(old, 'spec', 'scope') !== scope)
    errors.push(invalid('spec.scope', scope, 'field is immutable'));
  const versions = versionsOf(object);
  if (versions.length === 0) errors.push(required('spec.versions'));
  else if (versions.filter((version) => version.storage === true).length !== 1)
    errors.push(invalid('spec.versions', 'array', 'must have exactly one version marked as storage version'));
  versions.forEach((version, index) => {
    const path = `spec.versions[${index}]`;
    if (typeof version.name !== 'string') errors.push(required(`${path}.name`));
    if (!isObject(at(version, 'schema', 'openAPIV3Schema')))
      errors.push(required(`${path}.schema.openAPIV3Schema`, 'schemas are required'));
    else if (at(version, 'schema', 'openAPIV3Schema', 'type') !== 'object')
      errors.push(
        invalid(
          `${path}.schema.openAPIV3Schema.type`,
          at(version, 'schema', 'openAPIV3Schema', 'type') ?? '',
          'must be object at the root',
        ),
      );
    // At start the definitions of this program itself come without the evaluator.
    else if (isCelLoaded())
      errors.push(
        ...checkRules(
          at(version, 'schema', 'openAPIV3Schema') as StructuralSchema,
          `${path}.schema.openAPIV3Schema`,
        ),
      );
    errors.push(...checkSelectableFields(version, path));
  });
  if (at(object, 'spec', 'conversion', 'strategy') !== 'None')
    errors.push(
      notSupported('spec.conversion.strategy', at(object, 'spec', 'conversion', 'strategy'), ['None']),
    );
  return errors;
}

const MAX_SELECTABLE_FIELDS = 8;

/** A plain path to a value that has a text: `.spec.colour`. */
function checkSelectableFields(version: JsonObject, path: string): FieldError[] {
  const fields = version.selectableFields;
  if (fields === undefined) return [];
  const at_ = `${path}.selectableFields`;
  if (!Array.isArray(fields)) return [invalid(at_, fields, 'must be a list')];
  if (fields.length > MAX_SELECTABLE_FIELDS)
    return [
      {
        path: at_,
        type: 'TooMany',
        message: `${fields.length}: must have at most ${MAX_SELECTABLE_FIELDS} items`,
      },
    ];
  const seen = new Set<string>();
  return fields.flatMap((each: unknown, index): FieldError[] => {
    const jsonPath = at(each, 'jsonPath');
    const here = `${at_}[${index}].jsonPath`;
    if (typeof jsonPath !== 'string' || jsonPath === '') return [required(here)];
    if (!/^(\.[A-Za-z_][A-Za-z0-9_]*)+$/.test(jsonPath))
      return [invalid(here, jsonPath, 'must be a simple path')];
    if (seen.has(jsonPath)) return [duplicate(here, jsonPath)];
    seen.add(jsonPath);
    const names = jsonPath.slice(1).split('.');
    const schema = at(version, 'schema', 'openAPIV3Schema', ...names.flatMap((name) => ['properties', name]));
    if (names[0] === 'metadata' || !['string', 'boolean', 'integer'].includes(String(at(schema, 'type'))))
      return [
        invalid(here, jsonPath, 'must point to a field of type string, boolean or integer in the schema'),
      ];
    return [];
  });
}
