// From a stored CustomResourceDefinition to the kinds it defines, one per served version.

import { loadCel } from './cel/engine.ts';
import { evaluateRules, hasRules } from './cel/rules.ts';
import { ageOf } from './cells.ts';
import { DEFAULT_COLUMNS } from './columns.ts';
import { evaluateJsonPath, parseJsonPath } from './json-path.ts';
import { ALL_VERBS, type Column, type Kind, type ScalePaths, type Strategy } from './kind.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { checkPolicy } from './policy-checks.ts';
import { type StructuralSchema, validateSchema } from './schema.ts';
import { resourceKey } from './store.ts';

/**
 * Security policies: a field that is silently dropped (`form:` for `from:`) turns "allow these" into "allow all".
 * The rule holds for the group whatever definition is loaded.
 */
const ALWAYS_STRICT_GROUPS: ReadonlySet<string> = new Set(['security.istio.io']);

export function kindsOfCrd(crd: ApiObject): Kind[] {
  const versions = at(crd, 'spec', 'versions');
  if (!Array.isArray(versions)) return [];
  const storage = versions.filter(isObject).find((version) => version.storage === true);
  return versions
    .filter(isObject)
    .filter((version) => version.served !== false)
    .map((version) => kindOfVersion(crd, version, String(storage?.name)));
}

function kindOfVersion(crd: ApiObject, version: JsonObject, storageVersion: string): Kind {
  const group = String(at(crd, 'spec', 'group'));
  const names = at(crd, 'spec', 'names') as JsonObject;
  const plural = String(names.plural);
  const name = String(version.name);
  const schema = (at(version, 'schema', 'openAPIV3Schema') ?? {}) as StructuralSchema;
  return {
    group,
    version: name,
    apiVersion: `${group}/${name}`,
    storageApiVersion: `${group}/${storageVersion}`,
    plural,
    kind: String(names.kind),
    singular: String(names.singular),
    listKind: String(names.listKind),
    namespaced: at(crd, 'spec', 'scope') === 'Namespaced',
    shortNames: strings(names.shortNames),
    categories: strings(names.categories),
    verbs: ALL_VERBS,
    status: at(version, 'subresources', 'status') !== undefined,
    scale: scaleOf(at(version, 'subresources', 'scale')),
    extra: [],
    resource: resourceKey(group, plural),
    columns: columnsOf(version.additionalPrinterColumns),
    selectableFields: (Array.isArray(version.selectableFields) ? version.selectableFields : []).map((each) =>
      String(at(each, 'jsonPath')).replace(/^\./, ''),
    ),
    strategy: customStrategy(schema, ALWAYS_STRICT_GROUPS.has(group)),
    schema,
    alwaysStrict: ALWAYS_STRICT_GROUPS.has(group),
  };
}

const strings = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

function customStrategy(schema: StructuralSchema, isPolicy: boolean): Strategy {
  const rules = hasRules(schema);
  return {
    generation: true,
    nameRule: 'subdomain',
    ...(rules ? { load: loadCel } : {}),
    validate: (object, old) => {
      // metadata has its own checks; the schema may only say "object" about it.
      const { metadata: _, ...rest } = object;
      const { metadata: __, ...properties } = schema.properties ?? {};
      const required = (schema.required ?? []).filter((name) => name !== 'metadata');
      const errors = validateSchema({ ...schema, properties, required }, rest, '');
      if (errors.length === 0 && rules) errors.push(...evaluateRules(schema, object, old));
      return isPolicy && errors.length === 0 ? checkPolicy(object) : errors;
    },
  };
}

function scaleOf(scale: unknown): ScalePaths | undefined {
  if (!isObject(scale)) return undefined;
  const labelSelector = scale.labelSelectorPath;
  return {
    specReplicas: String(scale.specReplicasPath),
    statusReplicas: String(scale.statusReplicasPath),
    ...(typeof labelSelector === 'string' ? { labelSelector } : {}),
  };
}

function columnsOf(columns: unknown): readonly Column[] {
  if (!Array.isArray(columns) || columns.length === 0) return DEFAULT_COLUMNS;
  return [DEFAULT_COLUMNS[0]!, ...columns.filter(isObject).map(columnOf)];
}

function columnOf(column: JsonObject): Column {
  const path = parseJsonPath(String(column.jsonPath ?? ''));
  const type = String(column.type ?? 'string') as Column['type'];
  return {
    name: String(column.name),
    type,
    description: String(column.description ?? ''),
    priority: Number(column.priority ?? 0),
    cell: (object, nowMs) => {
      const [first, ...more] = path === undefined ? [] : evaluateJsonPath(path, object);
      if (first === undefined || first === null) return null;
      if (type === 'date') return ageOf(String(first), nowMs);
      if (type === 'integer' || type === 'number') return typeof first === 'number' ? first : null;
      if (type === 'boolean') return typeof first === 'boolean' ? first : null;
      if (more.length > 0) return [first, ...more].map(String).join(',');
      return typeof first === 'string' ? first : JSON.stringify(first);
    },
  };
}
