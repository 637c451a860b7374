// Which objects a list, watch or deletecollection is about: namespace, labels, fields.

import { MeshError } from '#base/errors.ts';
import { matchesRequirements, parseSelector } from '#k8s/selectors.ts';
import type { Kind } from './kind.ts';
import { type ApiObject, at } from './object.ts';
import { badRequest } from './status.ts';

export type Filter = (object: ApiObject) => boolean;

const ANY = ['metadata.name', 'metadata.namespace'];
/** Fields that have a value where an object does not say one, and the one that is looked up elsewhere. */
const WHEN_ABSENT: Readonly<Record<string, string>> = {
  'spec.unschedulable': 'false',
  'spec.hostNetwork': 'false',
  'status.replicas': '0',
};
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = { source: ['source', 'component'] };
const EVENT_FIELDS = ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'];
/** What Kubernetes lets clients select by, per resource. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  'core/pods': [
    'spec.nodeName',
    'spec.restartPolicy',
    'spec.schedulerName',
    'spec.serviceAccountName',
    'spec.hostNetwork',
    'status.phase',
    'status.podIP',
    'status.nominatedNodeName',
  ],
  'core/events': [
    ...EVENT_FIELDS.map((name) => `involvedObject.${name}`),
    'reason',
    'reportingComponent',
    'source',
    'type',
  ],
  'core/secrets': ['type'],
  'core/namespaces': ['status.phase'],
  'core/nodes': ['spec.unschedulable'],
  'core/services': ['spec.clusterIP', 'spec.type'],
  'apps/replicasets': ['status.replicas'],
};

export function selectorFilter(kind: Kind, query: URLSearchParams): Filter {
  const labels = labelFilter(query.get('labelSelector') ?? '');
  const fields = fieldFilter(kind, query.get('fieldSelector') ?? '');
  if (labels === undefined) return fields ?? (() => true);
  return fields === undefined ? labels : (object) => labels(object) && fields(object);
}

function labelFilter(text: string): Filter | undefined {
  if (text.trim() === '') return undefined;
  try {
    const requirements = parseSelector(text);
    return (object) => matchesRequirements(requirements, object.metadata.labels);
  } catch (error) {
    if (error instanceof MeshError) throw badRequest(`unable to parse requirement: ${error.message}`);
    throw error;
  }
}

function fieldFilter(kind: Kind, text: string): Filter | undefined {
  if (text.trim() === '') return undefined;
  const terms = text.split(',').map((term) => {
    const match = /^([A-Za-z0-9._/-]+)(==|!=|=)(.*)$/.exec(term.trim());
    if (match === null)
      throw badRequest(
        `invalid field selector: ${JSON.stringify(text)}; can't understand ${JSON.stringify(term)}`,
      );
    const [, path, operator, value] = match as unknown as [string, string, string, string];
    const known = [...(FIELDS[kind.resource] ?? []), ...kind.selectableFields];
    if (!ANY.includes(path) && !known.includes(path))
      throw badRequest(
        `${JSON.stringify(path)} is not a known field selector: only "metadata.name", "metadata.namespace"${known.map((name) => `, "${name}"`).join('')}`,
      );
    return {
      path: ELSEWHERE[path] ?? path.split('.'),
      absent: WHEN_ABSENT[path] ?? '',
      equals: operator !== '!=',
      value: value.replace(/\\(.)/g, '$1'),
    };
  });
  return (object) =>
    terms.every(({ path, absent, equals, value }) => {
      const found = at(object, ...path);
      return ((found === undefined || found === null ? absent : String(found)) === value) === equals;
    });
}
