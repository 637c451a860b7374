// Who holds a service-account token? Asks the API server, the only one who knows whether a bound pod still lives
// (control-plane.md §4.6). One answer, used by the certificate authority (asked afresh every time) and by xDS (cached).

import { createHash } from 'node:crypto';
import type { Clock } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';

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

/** Rejects with MeshError `API_UNREACHABLE` or `API_STATUS` when the API server gave no answer. */
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
  options: { readonly audiences: readonly string[] },
): TokenReviewer {
  const audiences = [...options.audiences];
  return async (token) => {
    if (token === undefined || token === '') return refused('no-token', 'the call carries no bearer token');
    const answer = await client.request<TokenReviewAnswer>('POST', PATH, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, audiences },
    });
    const status = answer.status ?? {};
    if (status.authenticated !== true)
      return refused('invalid-token', status.error || 'the API server does not accept the token');
    // A server that does not know audiences answers without any: then nothing was checked.
    if (!audiences.some((audience) => status.audiences?.includes(audience)))
      return refused('wrong-audience', `the token is not meant for ${audiences.join(' or ')}`);
    return callerOf(status.user ?? {});
  };
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

export interface CacheOptions {
  readonly maxAgeMs: number;
  readonly maxEntries: number;
}

/**
 * Remembers positive answers for at most `maxAgeMs` and never beyond the token's own end. Keyed by a hash: tokens are
 * not kept. Refusals are not remembered: a pod's first call may come before the API server knows its token.
 */
export function cachedReviewer(review: TokenReviewer, clock: Clock, options: CacheOptions): TokenReviewer {
  const known = new Map<string, { readonly answer: Review; readonly untilMs: number }>();
  return async (token) => {
    if (token === undefined || token === '') return review(token);
    const key = createHash('sha256').update(token).digest('base64');
    const now = clock.now();
    const held = known.get(key);
    if (held !== undefined && held.untilMs > now) return held.answer;
    known.delete(key);
    const answer = await review(token);
    if (answer.kind !== 'authenticated') return answer;
    const untilMs = Math.min(now + options.maxAgeMs, expiryMsOf(token));
    if (known.size >= options.maxEntries) {
      // Maps keep insertion order: the first is the oldest.
      const first = known.keys().next();
      if (first.done !== true) known.delete(first.value);
    }
    known.set(key, { answer, untilMs });
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
