// What every request passes before anything is read of it, upgrades to WebSocket included: the guard against browsers,
// who asks, for whom he speaks, and whether he may.

import type { IncomingMessage } from 'node:http';
import { mediaType } from './decode.ts';
import type { ObjectsDeps } from './objects.ts';
import { type Access, accessOf } from './rbac/access.ts';
import type { AccessControl } from './rbac/access-control.ts';
import { impersonated } from './rbac/impersonation.ts';
import { StatusError } from './status.ts';
import type { TokensDeps } from './tokens.ts';
import { authenticate } from './user.ts';
import type { User } from './user-info.ts';

export interface GateDeps extends ObjectsDeps {
  readonly tokens: TokensDeps;
  readonly control: AccessControl;
  /** Lower-case names and addresses that this server answers to. */
  readonly hosts: ReadonlySet<string>;
}

/** A request that may go on. */
export interface Admitted {
  readonly user: User;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
}

/** Throws StatusError 401 or 403. */
export async function passGate(deps: GateDeps, request: IncomingMessage): Promise<Admitted> {
  checkBrowser(request, deps.hosts);
  const url = request.url ?? '/';
  const question = url.indexOf('?');
  const path = question < 0 ? url : url.slice(0, question);
  const query = new URLSearchParams(question < 0 ? '' : url.slice(question + 1));
  const method = request.method ?? 'GET';
  const caller = await authenticate(deps.tokens, request);
  const user = impersonated(deps.control, caller, request);
  const access = accessOf(method, path, query);
  deps.control.require(user, access);
  const made = applyThatCreates(deps, access, request);
  if (made !== undefined) deps.control.require(user, made);
  return { user, method: method === 'HEAD' ? 'GET' : method, path, query };
}

/** Server-side apply of what is not there yet makes it: whoever may only patch must not. */
function applyThatCreates(deps: ObjectsDeps, access: Access, request: IncomingMessage): Access | undefined {
  if (access.kind !== 'resource' || access.verb !== 'patch' || access.subresource !== '') return undefined;
  if (mediaType(request.headers['content-type']) !== 'application/apply-patch+yaml') return undefined;
  const { group, resource, namespace, name } = access;
  const kind = deps.registry.kinds.find((each) => each.group === group && each.plural === resource);
  if (kind === undefined) return undefined;
  const stored = deps.store.get(kind.resource, kind.namespaced ? namespace : undefined, name);
  return stored === undefined ? { ...access, verb: 'create' } : undefined;
}

/**
 * A page in a browser can send requests here, with a client certificate the user once chose. It cannot hide its
 * Origin, nor, when it has bent a name of its own to our address, the foreign Host.
 */
function checkBrowser(request: IncomingMessage, hosts: ReadonlySet<string>): void {
  const host = request.headers.host ?? '';
  if (!hosts.has(hostName(host)))
    throw new StatusError(
      403,
      'Forbidden',
      `this API server does not answer to the name ${JSON.stringify(host)}`,
    );
  const origin = request.headers.origin;
  if (origin !== undefined && origin.toLowerCase() !== `https://${host.toLowerCase()}`)
    throw new StatusError(403, 'Forbidden', `requests from pages of ${JSON.stringify(origin)} are refused`);
}

/** `localhost:16443` → `localhost`, `[::1]:16443` → `::1`. */
function hostName(host: string): string {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::\d+)?$/.exec(host.toLowerCase());
  return match?.[1] ?? match?.[2] ?? '';
}
