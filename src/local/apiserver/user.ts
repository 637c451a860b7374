// Who asks: by client certificate of the cluster's authority, by service-account token, or vouched for (inside.ts). What he may do: rbac/.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { StatusError } from './status.ts';
import { ISSUER, type TokensDeps, verifyToken } from './tokens.ts';
import type { User } from './user-info.ts';

export const ANONYMOUS: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] };

const unauthorized = (): StatusError => new StatusError(401, 'Unauthorized', 'Unauthorized');

/** A certificate does not change while its connection lasts; reading one costs more than judging a request. */
const byConnection = new WeakMap<Duplex, User>();

/** All requests on this connection are the user's. */
export function vouchFor(connection: Duplex, { name, groups }: User): void {
  byConnection.set(connection, { name, groups: [...groups, 'system:authenticated'] });
}

/** Throws 401 for credentials that are bad; none at all is anonymous. */
export async function authenticate(deps: TokensDeps, request: IncomingMessage): Promise<User> {
  const socket = request.socket as TLSSocket;
  const byCertificate = byConnection.get(socket) ?? certificateUser(socket);
  if (byCertificate !== undefined) {
    byConnection.set(socket, byCertificate);
    return byCertificate;
  }
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
