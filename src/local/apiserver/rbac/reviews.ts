// The questions about access: may I, may he, what may I. Answered from the same decision that requests meet.

import type { PolicyRule } from '#k8s/rbac.ts';
import { at, isObject, type JsonObject } from '../object.ts';
import { type FieldError, invalid, invalidObject, required } from '../status.ts';
import { type User, userInfo } from '../user-info.ts';
import type { Access } from './access.ts';
import type { AccessControl } from './access-control.ts';
import { nodeOf } from './node-access.ts';

const GROUP = 'authorization.k8s.io';

/** Answers Subject-, SelfSubject- and LocalSubjectAccessReview. */
export function reviewAccess(
  control: AccessControl,
  kind: string,
  body: JsonObject,
  caller: User,
  namespace: string | undefined,
): JsonObject {
  const spec = isObject(body.spec) ? body.spec : {};
  const about = kind === 'SelfSubjectAccessReview' ? caller : subjectOf(spec);
  const errors = checkSpec(kind, spec, namespace);
  if (errors.length > 0)
    throw invalidObject({ group: GROUP, plural: `${kind.toLowerCase()}s`, kind }, '', errors);
  const { allowed, reason } = control.decide(about, accessOf(spec));
  return {
    ...review(`${GROUP}/v1`, kind, body),
    spec,
    status: { allowed, ...(reason === '' ? {} : { reason }) },
  };
}

function checkSpec(kind: string, spec: JsonObject, namespace: string | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const resource = isObject(spec.resourceAttributes);
  const path = isObject(spec.nonResourceAttributes);
  if (resource === path)
    errors.push(
      invalid(
        'spec.resourceAttributes',
        spec.nonResourceAttributes ?? null,
        'exactly one of nonResourceAttributes or resourceAttributes must be specified',
      ),
    );
  if (kind !== 'SelfSubjectAccessReview' && !spec.user && !hasItems(spec.groups))
    errors.push(required('spec.user', 'at least one of user or group must be specified'));
  if (kind === 'LocalSubjectAccessReview') {
    if (path)
      errors.push(
        invalid(
          'spec.nonResourceAttributes',
          spec.nonResourceAttributes,
          'disallowed on this kind of request',
        ),
      );
    const asked = at(spec, 'resourceAttributes', 'namespace');
    if (resource && asked !== namespace)
      errors.push(invalid('spec.resourceAttributes.namespace', asked ?? '', 'must match metadata.namespace'));
  }
  return errors;
}

const hasItems = (value: unknown): boolean => Array.isArray(value) && value.length > 0;
const strings = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

const subjectOf = (spec: JsonObject): User => ({
  name: text(spec.user),
  groups: strings(spec.groups),
});

function accessOf(spec: JsonObject): Access {
  const path = spec.nonResourceAttributes;
  if (isObject(path)) return { kind: 'path', verb: text(path.verb), path: text(path.path) };
  const resource = isObject(spec.resourceAttributes) ? spec.resourceAttributes : {};
  const selectors = at(resource, 'fieldSelector', 'requirements');
  const fields = (Array.isArray(selectors) ? selectors : [])
    .filter((each) => at(each, 'operator') === 'In' && strings(at(each, 'values')).length === 1)
    .map((each): [string, string] => [text(at(each, 'key')), strings(at(each, 'values'))[0]!]);
  return {
    kind: 'resource',
    verb: text(resource.verb),
    group: text(resource.group),
    resource: text(resource.resource),
    subresource: text(resource.subresource),
    name: text(resource.name),
    namespace: text(resource.namespace),
    fields: new Map(fields),
  };
}

export function reviewRules(control: AccessControl, body: JsonObject, caller: User): JsonObject {
  const spec = isObject(body.spec) ? body.spec : {};
  const namespace = text(spec.namespace);
  if (namespace === '')
    throw invalidObject(
      { group: GROUP, plural: 'selfsubjectrulesreviews', kind: 'SelfSubjectRulesReview' },
      '',
      [required('spec.namespace', 'no namespace on request')],
    );
  const rules = control.rulesFor(caller, namespace);
  const isKubelet = nodeOf(caller) !== undefined;
  const isPath = ({ nonResourceURLs }: PolicyRule): boolean => (nonResourceURLs ?? []).length > 0;
  return {
    ...review(`${GROUP}/v1`, 'SelfSubjectRulesReview', body),
    spec,
    status: {
      incomplete: isKubelet,
      ...(isKubelet
        ? { evaluationError: 'what a kubelet may do depends on the pods bound to its node' }
        : {}),
      resourceRules: rules
        .filter((rule) => !isPath(rule))
        .map(({ verbs, apiGroups, resources, resourceNames }) => ({
          verbs,
          apiGroups,
          resources,
          ...(hasItems(resourceNames) ? { resourceNames } : {}),
        })),
      nonResourceRules: rules
        .filter(isPath)
        .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    },
  };
}

export const reviewSelf = (user: User): JsonObject => ({
  kind: 'SelfSubjectReview',
  apiVersion: 'authentication.k8s.io/v1',
  metadata: { creationTimestamp: null },
  status: { userInfo: userInfo(user) },
});

function review(apiVersion: string, kind: string, body: JsonObject): JsonObject {
  const namespace = at(body, 'metadata', 'namespace');
  return {
    kind,
    apiVersion,
    metadata: { creationTimestamp: null, ...(namespace === undefined ? {} : { namespace }) },
  };
}
