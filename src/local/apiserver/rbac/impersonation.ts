// `kubectl --as`: a caller who may speak for another one. Every name asked for is a question of its own.

import type { IncomingMessage } from 'node:http';
import { badRequest } from '../status.ts';
import type { User } from '../user-info.ts';
import type { ResourceAccess } from './access.ts';
import type { AccessControl } from './access-control.ts';
import { serviceAccountName } from './grants.ts';

const EXTRA = 'impersonate-extra-';
const AUTHENTICATION_GROUP = 'authentication.k8s.io';

/** The user to judge the request by: the one asked for, or the caller. Throws 403 for what the caller may not claim. */
export function impersonated(
  control: AccessControl,
  caller: User,
  request: Pick<IncomingMessage, 'headers' | 'headersDistinct'>,
): User {
  const { headers } = request;
  if (!Object.keys(headers).some((header) => header.startsWith('impersonate-'))) return caller;
  const distinct = request.headersDistinct;
  const name = oneOf(headers['impersonate-user']);
  const uid = oneOf(headers['impersonate-uid']);
  const groups = distinct['impersonate-group'] ?? [];
  const extra = extraOf(distinct);
  if (name === '') {
    if (groups.length > 0 || uid !== '' || Object.keys(extra).length > 0)
      throw badRequest('Impersonate-Group, Impersonate-Uid and Impersonate-Extra-… need Impersonate-User');
    return caller;
  }
  const account = accountOf(name);
  control.require(
    caller,
    account === undefined
      ? question('', 'users', name)
      : { ...question('', 'serviceaccounts', account.name), namespace: account.namespace },
  );
  for (const group of groups) control.require(caller, question('', 'groups', group));
  if (uid !== '') control.require(caller, question(AUTHENTICATION_GROUP, 'uids', uid));
  for (const [key, values] of Object.entries(extra))
    for (const value of values)
      control.require(caller, {
        ...question(AUTHENTICATION_GROUP, 'userextras', value),
        subresource: key,
      });
  return {
    name,
    ...(uid === '' ? {} : { uid }),
    groups: groupsOf(name, groups, account?.namespace),
    ...(Object.keys(extra).length === 0 ? {} : { extra }),
  };
}

const oneOf = (header: string | string[] | undefined): string => [header].flat()[0] ?? '';

const question = (group: string, resource: string, name: string): ResourceAccess => ({
  kind: 'resource',
  verb: 'impersonate',
  group,
  resource,
  subresource: '',
  name,
  namespace: '',
  fields: new Map(),
});

function accountOf(user: string): { namespace: string; name: string } | undefined {
  const [, , namespace = '', name = '', ...more] = user.split(':');
  if (namespace === '' || name === '' || more.length > 0) return undefined;
  return serviceAccountName(namespace, name) === user ? { namespace, name } : undefined;
}

/** The groups such a caller would have had by himself. */
function groupsOf(name: string, asked: readonly string[], namespace: string | undefined): string[] {
  const groups =
    asked.length === 0 && namespace !== undefined
      ? ['system:serviceaccounts', `system:serviceaccounts:${namespace}`]
      : [...asked];
  const anonymous = name === 'system:anonymous';
  const last = anonymous ? 'system:unauthenticated' : 'system:authenticated';
  if (!groups.includes(last) && !groups.includes('system:unauthenticated')) groups.push(last);
  return groups;
}

function extraOf(distinct: NodeJS.Dict<string[]>): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(distinct)
      .filter(([header]) => header.startsWith(EXTRA))
      .map(([header, values]) => [unescapeKey(header.slice(EXTRA.length)), values ?? []]),
  );
}

function unescapeKey(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}
