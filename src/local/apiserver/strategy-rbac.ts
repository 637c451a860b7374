// Rules of roles and bindings: defaults of their references, and checks in Kubernetes' words. What a role grants is judged
// by rbac/write-guard.ts.

import { RBAC_GROUP } from '#k8s/rbac.ts';
import type { Strategy } from './kind.ts';
import { type ApiObject, at, equal, isObject, type JsonObject } from './object.ts';
import { type FieldError, fieldForbidden, invalid, notSupported, required, typeInvalid } from './status.ts';

const LISTS = ['verbs', 'apiGroups', 'resources', 'resourceNames', 'nonResourceURLs'] as const;

const objects = (value: unknown): JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);
const strings = (rule: JsonObject, name: string): unknown[] =>
  Array.isArray(rule[name]) ? (rule[name] as unknown[]) : [];

export const roleStrategy: Strategy = {
  generation: false,
  nameRule: 'path',
  defaults: (object) => {
    // Clients that print empty lists as null mean absent ones.
    for (const rule of objects(object.rules))
      for (const name of LISTS) if (rule[name] === null) delete rule[name];
    object.rules ??= null;
  },
  validate: (object) => {
    if (object.rules === null || object.rules === undefined) return [];
    if (!Array.isArray(object.rules)) return [typeInvalid('rules', object.rules, 'must be a list')];
    return object.rules.flatMap((rule: unknown, index) =>
      checkRule(rule, `rules[${index}]`, object.kind === 'Role'),
    );
  },
};

function checkRule(rule: unknown, path: string, namespaced: boolean): FieldError[] {
  if (!isObject(rule)) return [];
  const errors: FieldError[] = [];
  if (strings(rule, 'verbs').length === 0)
    errors.push(required(`${path}.verbs`, 'verbs must contain at least one value'));
  const urls = strings(rule, 'nonResourceURLs');
  if (urls.length > 0) {
    if (namespaced)
      errors.push(
        invalid(`${path}.nonResourceURLs`, urls, 'namespaced rules cannot apply to non-resource URLs'),
      );
    if (['apiGroups', 'resources', 'resourceNames'].some((name) => strings(rule, name).length > 0))
      errors.push(
        invalid(
          `${path}.nonResourceURLs`,
          urls,
          'rules cannot apply to both regular resources and non-resource URLs',
        ),
      );
    return errors;
  }
  if (strings(rule, 'apiGroups').length === 0)
    errors.push(required(`${path}.apiGroups`, 'resource rules must supply at least one api group'));
  if (strings(rule, 'resources').length === 0)
    errors.push(required(`${path}.resources`, 'resource rules must supply at least one resource'));
  return errors;
}

const SUBJECT_KINDS = ['ServiceAccount', 'User', 'Group'];
const BINDABLE: Readonly<Record<string, readonly string[]>> = {
  RoleBinding: ['Role', 'ClusterRole'],
  ClusterRoleBinding: ['ClusterRole'],
};

export const bindingStrategy: Strategy = {
  generation: false,
  nameRule: 'path',
  defaults: (object) => {
    if (isObject(object.roleRef) && !object.roleRef.apiGroup) object.roleRef.apiGroup = RBAC_GROUP;
    for (const subject of objects(object.subjects))
      if (subject.kind === 'User' || subject.kind === 'Group') subject.apiGroup ||= RBAC_GROUP;
  },
  validate: (object, old) => {
    const errors = checkRoleRef(object, old);
    if (object.subjects === null || object.subjects === undefined) return errors;
    if (!Array.isArray(object.subjects))
      return [...errors, typeInvalid('subjects', object.subjects, 'must be a list')];
    object.subjects.forEach((subject: unknown, index) => {
      errors.push(...checkSubject(subject, `subjects[${index}]`));
    });
    return errors;
  },
};

function checkRoleRef(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const reference = object.roleRef;
  const errors: FieldError[] = [];
  const kinds = BINDABLE[object.kind] ?? [];
  if (at(reference, 'apiGroup') !== RBAC_GROUP)
    errors.push(notSupported('roleRef.apiGroup', at(reference, 'apiGroup'), [RBAC_GROUP]));
  if (!kinds.includes(String(at(reference, 'kind'))))
    errors.push(notSupported('roleRef.kind', at(reference, 'kind'), kinds));
  if (typeof at(reference, 'name') !== 'string' || at(reference, 'name') === '')
    errors.push(required('roleRef.name'));
  if (old !== undefined && !equal(reference, old.roleRef))
    errors.push(invalid('roleRef', reference, 'cannot change roleRef'));
  return errors;
}

function checkSubject(subject: unknown, path: string): FieldError[] {
  if (!isObject(subject)) return [typeInvalid(path, subject, 'must be an object')];
  const { kind, name, namespace, apiGroup } = subject;
  const errors: FieldError[] = [];
  if (typeof name !== 'string' || name === '') errors.push(required(`${path}.name`));
  if (!SUBJECT_KINDS.includes(String(kind))) {
    errors.push(notSupported(`${path}.kind`, kind, SUBJECT_KINDS));
    return errors;
  }
  const wanted = kind === 'ServiceAccount' ? '' : RBAC_GROUP;
  if ((apiGroup ?? '') !== wanted) errors.push(notSupported(`${path}.apiGroup`, apiGroup, [wanted]));
  if (kind === 'ServiceAccount') {
    if (typeof namespace !== 'string' || namespace === '') errors.push(required(`${path}.namespace`));
  } else if (namespace !== undefined && namespace !== '')
    errors.push(fieldForbidden(`${path}.namespace`, `a ${String(kind)} has no namespace`));
  return errors;
}
