// Who holds a service-account token? Asks the API server, the only one who knows whether a bound pod still lives
// (control-plane.md §4.6). One answer, used by the certificate authority (asked afresh every time) and by xDS (cached).

import { createHash } from 'node:crypto';
import type { Clock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { isAway } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';

export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The pod that the token is bound to; undefined for tokens made by hand. */
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
}

export type Review =
  | { readonly kind: 'authenticated'; readonly caller: Caller }
  | {
      readonly kind: 'refused';
      readonly reason: 'no-token' | 'invalid-token' | 'wrong-audience' | 'not-a-service-account';
      readonly explain: string;
    };

/** Rejects with MeshError `API_UNREACHABLE` or `API_STATUS` when the API server gave no answer, or none in time. */
export type TokenReviewer = (token: string | undefined) => Promise<Review>;

export interface TokenReviewDeps {
  readonly client: Pick<KubeClient, 'request'>;
}

interface TokenReviewAnswer {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly error?: string;
    readonly audiences?: readonly string[];
    readonly user?: {
      readonly username?: string;
      readonly groups?: readonly string[];
      readonly extra?: Readonly<Record<string, readonly string[]>>;
    };
  };
}

const PATH = '/apis/authentication.k8s.io/v1/tokenreviews';
const POD_NAME = 'authentication.kubernetes.io/pod-name';
const POD_UID = 'authentication.kubernetes.io/pod-uid';

export function createTokenReviewer(
  { client }: TokenReviewDeps,
  options: { readonly audiences: readonly string[]; readonly limitMs: number },
): TokenReviewer {
  const audiences = [...options.audiences];
  return async (token) => {
    if (token === undefined || token === '') return refused('no-token', 'the call carries no bearer token');
    const answer = await inTime(
      client.request<TokenReviewAnswer>('POST', PATH, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences },
      }),
      options.limitMs,
    );
    const status = answer.status ?? {};
    if (status.authenticated !== true)
      return refused('invalid-token', status.error || 'the API server does not accept the token');
    // A server that does not know audiences answers without any: then nothing was checked.
    if (!audiences.some((audience) => status.audiences?.includes(audience)))
      return refused('wrong-audience', `the token is not meant for ${audiences.join(' or ')}`);
    return callerOf(status.user ?? {});
  };
}

/** An API server that accepts calls and does not answer them must not hold proxies' calls without end. */
async function inTime<T>(answer: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new MeshError('API_UNREACHABLE', `no answer from the API server in ${limitMs} ms`)),
      limitMs,
    );
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

function callerOf(user: NonNullable<NonNullable<TokenReviewAnswer['status']>['user']>): Review {
  const { username = '', groups = [], extra = {} } = user;
  const [, namespace, serviceAccount] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(username) ?? [];
  if (namespace === undefined || serviceAccount === undefined || !groups.includes('system:serviceaccounts'))
    return refused('not-a-service-account', `${username || 'the caller'} is no service account`);
  const name = extra[POD_NAME]?.[0];
  const uid = extra[POD_UID]?.[0];
  const pod = name === undefined || uid === undefined ? undefined : { name, uid };
  return { kind: 'authenticated', caller: { namespace, serviceAccount, pod } };
}

const refused = (reason: (Review & { kind: 'refused' })['reason'], explain: string): Review => ({
  kind: 'refused',
  reason,
  explain,
});

export interface CacheDeps {
  readonly review: TokenReviewer;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface CacheOptions {
  readonly maxAgeMs: number;
  /** As long as the API server gives no answer. */
  readonly maxAgeAwayMs: number;
  readonly maxEntries: number;
}

/**
 * Remembers positive answers, never beyond the token's own end: for `maxAgeMs` they are believed, for `maxAgeAwayMs` while
 * the API server is away. Keyed by a hash: tokens are not kept. Refusals are not remembered: a pod's first call may come
 * before the API server knows its token.
 */
export function cachedReviewer({ review, clock, log }: CacheDeps, options: CacheOptions): TokenReviewer {
  const known = new Map<string, { readonly answer: Review; readonly atMs: number }>();
  const ask = async (token: string, held: Review | undefined): Promise<Review> => {
    try {
      return await review(token);
    } catch (error) {
      if (held?.kind !== 'authenticated' || !isAway(error)) throw error;
      const { namespace, serviceAccount, pod } = held.caller;
      log.warn('a token is taken for what it was: it cannot be reviewed', {
        caller: `${namespace}/${serviceAccount}`,
        pod: pod?.name ?? '',
        error: reasonOf(error),
      });
      return held;
    }
  };
  return async (token) => {
    if (token === undefined || token === '') return review(token);
    const key = createHash('sha256').update(token).digest('base64');
    const now = clock.now();
    const entry = known.get(key);
    const ageMs = entry === undefined || expiryMsOf(token) <= now ? Infinity : now - entry.atMs;
    if (entry !== undefined && ageMs < options.maxAgeMs) return entry.answer;
    const held = ageMs < options.maxAgeAwayMs ? entry?.answer : undefined;
    const answer = await ask(token, held);
    if (answer === held) return answer;
    known.delete(key);
    if (answer.kind !== 'authenticated' || expiryMsOf(token) <= now) return answer;
    if (known.size >= options.maxEntries) {
      // Maps keep insertion order: the first is the oldest.
      const first = known.keys().next();
      if (first.done !== true) known.delete(first.value);
    }
    known.set(key, { answer, atMs: now });
    return answer;
  };
}

/** The `exp` claim of a token that the API server has accepted; 0 (do not keep) when there is none. */
function expiryMsOf(token: string): number {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    const exp = (claims as { exp?: unknown } | null)?.exp;
    return typeof exp === 'number' ? exp * 1000 : 0;
  } catch {
    // An opaque token has no readable end: it is reviewed every time.
    return 0;
  }
}

/** The token of an `authorization: Bearer …` value. */
export function bearerToken(header: string | null | undefined): string | undefined {
  return /^Bearer +(\S+)$/i.exec(header ?? '')?.[1];
}
