// What a request wants to do, as authorization sees it: a verb on a resource, or on a path that is none.

import { parseResourcePath } from '../paths.ts';

export interface ResourceAccess {
  readonly kind: 'resource';
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  /** Empty where there is none; so are name and namespace. */
  readonly subresource: string;
  readonly name: string;
  readonly namespace: string;
  /** What a list is limited to by equality: the node authorizer reads it. */
  readonly fields: ReadonlyMap<string, string>;
}

export interface PathAccess {
  readonly kind: 'path';
  readonly verb: string;
  readonly path: string;
}

export type Access = ResourceAccess | PathAccess;

const NO_FIELDS: ReadonlyMap<string, string> = new Map();

const VERBS: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

const isTrue = (value: string | null): boolean => value === 'true' || value === '1';

/** Uses the same taking-apart of paths as the routes: what is judged is what is served. */
export function accessOf(method: string, path: string, query: URLSearchParams): Access {
  const parsed = parseResourcePath(path);
  const verb = VERBS[method] ?? method.toLowerCase();
  if (parsed === undefined) return { kind: 'path', verb, path };
  const { group, plural, subresource = '' } = parsed;
  const name = parsed.name ?? '';
  // A namespace is judged as something inside itself, so that a RoleBinding there can open it.
  const namespace = parsed.namespace ?? (group === '' && plural === 'namespaces' ? name : '');
  const common = { kind: 'resource', group, resource: plural, subresource, namespace } as const;
  if (name !== '') return { ...common, verb, name, fields: NO_FIELDS };
  if (verb === 'delete') return { ...common, verb: 'deletecollection', name, fields: NO_FIELDS };
  if (verb !== 'get') return { ...common, verb, name, fields: NO_FIELDS };
  const fields = equalities(query.get('fieldSelector') ?? '');
  return {
    ...common,
    verb: isTrue(query.get('watch')) ? 'watch' : 'list',
    // "Only the one of this name" is granted by rules with resourceNames, too.
    name: fields.get('metadata.name') ?? '',
    fields,
  };
}

function equalities(selector: string): ReadonlyMap<string, string> {
  if (selector.trim() === '') return NO_FIELDS;
  const found = new Map<string, string>();
  // A comma inside a value is escaped: such a selector is not read as a limit, which grants less, never more.
  if (selector.includes('\\')) return NO_FIELDS;
  for (const term of selector.split(',')) {
    const match = /^([A-Za-z0-9._/-]+)==?([^=!]*)$/.exec(term.trim());
    if (match !== null) found.set(match[1]!, match[2]!);
  }
  return found;
}

const quoted = (text: string): string => JSON.stringify(text);

/** The server's own sentence: who cannot do what where. */
export function refusalText(user: string, access: Access): string {
  if (access.kind === 'path') return `User ${quoted(user)} cannot ${access.verb} path ${quoted(access.path)}`;
  const resource = access.subresource === '' ? access.resource : `${access.resource}/${access.subresource}`;
  const where =
    access.namespace === '' ? 'at the cluster scope' : `in the namespace ${quoted(access.namespace)}`;
  return `User ${quoted(user)} cannot ${access.verb} resource ${quoted(resource)} in API group ${quoted(access.group)} ${where}`;
}
