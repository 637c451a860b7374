// Which part of a collection a list answers, and of which moment: `limit` and `continue`, `resourceVersion` and
// `resourceVersionMatch`. Every chunk of one list shows the state of its first; when that state is forgotten, 410.

import type { Kind } from './kind.ts';
import type { ObjectsDeps } from './objects.ts';
import { selectorFilter } from './selectors.ts';
import {
  badRequest,
  type FieldError,
  fieldForbidden,
  invalidObject,
  notSupported,
  StatusError,
} from './status.ts';
import type { Store, Stored } from './store.ts';
import { refusal } from './watch.ts';

export interface Chunk {
  readonly items: readonly Stored[];
  /** Of the list: the moment shown, where the next chunk begins, how many are left (unknown under selectors). */
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
}

/** Where a list goes on: the moment, and the last key that was told. */
interface Continue {
  /** -1: whatever there is now. */
  readonly rev: number;
  readonly after: string;
}

const TOKEN_VERSION = 'culvert/v1';

/** Throws 400 and 422 for what contradicts itself, 410 for a moment that is forgotten, 504 for one to come. */
export function chunkOf(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  query: URLSearchParams,
): Chunk {
  const { store } = deps;
  const token = query.get('continue') ?? '';
  const limit = limitOf(query);
  const asked = query.get('resourceVersion') ?? '';
  if (asked !== '' && !/^\d{1,15}$/.test(asked))
    throw badRequest(`invalid resource version ${JSON.stringify(asked)}`);
  checkCombination(query, asked, token);
  if (Number(asked) > store.rev) throw refusal('future', Number(asked), store);
  const from = token === '' ? undefined : readToken(token);
  // A list of "any version" comes from the cache in a real server, which knows no limit.
  const isExact =
    query.get('resourceVersionMatch') === 'Exact' ||
    (limit > 0 && Number(asked) > 0 && query.get('resourceVersionMatch') !== 'NotOlderThan');
  const rev = from !== undefined && from.rev >= 0 ? from.rev : isExact ? Number(asked) : store.rev;
  const all =
    rev === store.rev ? store.list(kind.resource, namespace) : store.listAt(kind.resource, namespace, rev);
  if (all === 'expired') throw tooOld(from, store);
  const filter = selectorFilter(kind, query);
  const matching = all.filter(
    (stored) => filter(stored.object) && (from === undefined || keyOf(stored) > from.after),
  );
  const bound = asked === '0' && from === undefined ? 0 : limit;
  if (bound === 0 || matching.length <= bound)
    return { items: matching, metadata: { resourceVersion: String(rev) } };
  const items = matching.slice(0, bound);
  const selects = (query.get('labelSelector') ?? '') !== '' || (query.get('fieldSelector') ?? '') !== '';
  return {
    items,
    metadata: {
      resourceVersion: String(rev),
      continue: writeToken({ rev, after: keyOf(items.at(-1)!) }),
      ...(selects ? {} : { remainingItemCount: matching.length - bound }),
    },
  };
}

function limitOf(query: URLSearchParams): number {
  const text = query.get('limit') ?? '';
  if (text === '') return 0;
  if (!/^-?\d{1,15}$/.test(text))
    throw badRequest(`limit must be a whole number, not ${JSON.stringify(text)}`);
  return Math.max(0, Number(text));
}

const MATCHES = ['Exact', 'NotOlderThan'];

function checkCombination(query: URLSearchParams, asked: string, token: string): void {
  if (token !== '' && asked !== '' && asked !== '0')
    throw badRequest('specifying resource version is not allowed when using continue');
  const match = query.get('resourceVersionMatch') ?? '';
  const errors: FieldError[] = [];
  const field = 'resourceVersionMatch';
  if (query.get('sendInitialEvents') !== null)
    errors.push(fieldForbidden('sendInitialEvents', 'sendInitialEvents is forbidden for list'));
  if (match !== '') {
    if (token !== '') errors.push(fieldForbidden(field, `${field} is forbidden with continue`));
    if (asked === '')
      errors.push(fieldForbidden(field, `${field} is forbidden unless resourceVersion is provided`));
    if (!MATCHES.includes(match)) errors.push(notSupported(field, match, MATCHES));
    if (match === 'Exact' && asked === '0')
      errors.push(fieldForbidden(field, `${field} "Exact" is forbidden for resourceVersion "0"`));
  }
  if (errors.length > 0)
    throw invalidObject({ group: 'meta.k8s.io', plural: 'listoptions', kind: 'ListOptions' }, '', errors);
}

const keyOf = ({ object }: Stored): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;

const writeToken = ({ rev, after }: Continue): string =>
  Buffer.from(JSON.stringify({ v: TOKEN_VERSION, rv: rev, after })).toString('base64url');

function readToken(token: string): Continue {
  try {
    const { v, rv, after } = JSON.parse(Buffer.from(token, 'base64url').toString()) as Record<
      string,
      unknown
    >;
    if (v === TOKEN_VERSION && Number.isInteger(rv) && typeof after === 'string')
      return { rev: rv as number, after };
  } catch {
    // Said below.
  }
  throw badRequest('continue key is not valid: it is not one this server has given');
}

function tooOld(from: Continue | undefined, store: Store): StatusError {
  if (from === undefined)
    return new StatusError(410, 'Expired', 'The resourceVersion for the provided list is too old.');
  return new StatusError(
    410,
    'Expired',
    `the list that began at version ${from.rev} cannot be continued as it was: changes up to version ${store.compactedRev} are forgotten; list again without continue, or go on with the continue token of this answer and see the rest as it is now`,
    undefined,
    { continue: writeToken({ rev: -1, after: from.after }) },
  );
}
