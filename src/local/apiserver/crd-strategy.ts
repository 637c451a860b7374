// Rules of CustomResourceDefinition itself: defaults of its names, checks, and the status that makes it served at once.

import { isCelLoaded, loadCel } from './cel/engine.ts';
import { checkRules } from './cel/rules.ts';
import type { Strategy, StrategyContext } from './kind.ts';
import { checkName } from './names.ts';
import { type ApiObject, at, isObject, type JsonObject, kubeTime } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import { type FieldError, invalid, notSupported, required } from './status.ts';

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
  load: async (body) => {
    if (body.includes('x-kubernetes-validations')) await loadCel();
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

/** There is one server, and no other that could dispute a name: a definition is accepted as it is stored. */
function establishedStatus(object: ApiObject, old: unknown, { clock }: StrategyContext): JsonObject {
  const storage = versionsOf(object).find((version) => version.storage === true)?.name;
  const stored = (at(old, 'storedVersions') ?? []) as unknown[];
  const condition = (type: string, reason: string, message: string): JsonObject => ({
    type,
    status: 'True',
    lastTransitionTime: kubeTime(clock.now()),
    reason,
    message,
  });
  return {
    conditions: at(old, 'conditions') ?? [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
    ],
    acceptedNames: at(object, 'spec', 'names'),
    storedVersions: storage === undefined || stored.includes(storage) ? stored : [...stored, storage],
  };
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
  });
  if (at(object, 'spec', 'conversion', 'strategy') !== 'None')
    errors.push(
      notSupported('spec.conversion.strategy', at(object, 'spec', 'conversion', 'strategy'), ['None']),
    );
  return errors;
}
