// Who asks: by client certificate of the cluster's authority or by service-account token. Authorization of this
// slice is short: whoever is authenticated may do everything, an anonymous caller may ask for health and version.

import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { at, isObject, type JsonObject } from './object.ts';
import { StatusError } from './status.ts';
import { ISSUER, type TokensDeps, verifyToken } from './tokens.ts';
import { type User, userInfo } from './user-info.ts';

export const ANONYMOUS: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] };
const OPEN_PATHS: ReadonlySet<string> = new Set(['/version', '/version/', '/healthz', '/readyz', '/livez']);

const unauthorized = (): StatusError => new StatusError(401, 'Unauthorized', 'Unauthorized');

/** Throws 401 for credentials that are bad; none at all is anonymous. */
export async function authenticate(deps: TokensDeps, request: IncomingMessage): Promise<User> {
  const byCertificate = certificateUser(request.socket as TLSSocket);
  if (byCertificate !== undefined) return byCertificate;
  const header = request.headers.authorization;
  if (header === undefined) return ANONYMOUS;
  const match = /^Bearer +(\S+) *$/i.exec(header);
  if (match === null) throw unauthorized();
  const verdict = await verifyToken(deps, match[1]!, [ISSUER]);
  if (verdict.kind === 'invalid') throw unauthorized();
  return verdict.user;
}

/** A certificate of another authority is a bad credential, not an absent one. */
function certificateUser(socket: TLSSocket): User | undefined {
  const subject = socket.getPeerCertificate().subject;
  if (subject === undefined) return undefined;
  if (!socket.authorized) throw unauthorized();
  const names = [subject.CN].flat().filter((name) => typeof name === 'string');
  const groups = [subject.O].flat().filter((group) => typeof group === 'string');
  if (names[0] === undefined) throw unauthorized();
  return { name: names[0], groups: [...groups, 'system:authenticated'] };
}

export function authorize(user: User, method: string, path: string): void {
  if (user !== ANONYMOUS || OPEN_PATHS.has(path)) return;
  throw new StatusError(
    403,
    'Forbidden',
    `forbidden: User ${JSON.stringify(user.name)} cannot ${method.toLowerCase()} path ${JSON.stringify(path)}: present a client certificate or a service account token`,
    {},
  );
}

const REASON = 'culvert: every authenticated user may do everything (RBAC objects are stored, not enforced)';

/** Answers Subject-, SelfSubject- and LocalSubjectAccessReview. */
export function reviewAccess(kind: string, body: JsonObject, user: User): JsonObject {
  const spec = isObject(body.spec) ? body.spec : {};
  const anonymous = kind !== 'SelfSubjectAccessReview' && spec.user === ANONYMOUS.name;
  return {
    ...review('authorization.k8s.io/v1', kind, body),
    spec: kind === 'SelfSubjectAccessReview' || spec.user !== undefined ? spec : { ...spec, user: user.name },
    status: anonymous
      ? { allowed: false, reason: 'anonymous requests are refused' }
      : { allowed: true, reason: REASON },
  };
}

export function reviewRules(body: JsonObject): JsonObject {
  return {
    ...review('authorization.k8s.io/v1', 'SelfSubjectRulesReview', body),
    spec: body.spec ?? {},
    status: {
      incomplete: false,
      resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'] }],
      nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
    },
  };
}

export function reviewSelf(user: User): JsonObject {
  return {
    kind: 'SelfSubjectReview',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { creationTimestamp: null },
    status: { userInfo: userInfo(user) },
  };
}

function review(apiVersion: string, kind: string, body: JsonObject): JsonObject {
  const namespace = at(body, 'metadata', 'namespace');
  return {
    kind,
    apiVersion,
    metadata: { creationTimestamp: null, ...(namespace === undefined ? {} : { namespace }) },
  };
}
