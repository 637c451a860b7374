// How the API server's refusals look to our code: the `Status` object as a MeshError, and questions about it.

import { MeshError } from '#base/errors.ts';

export interface ApiStatus {
  /** The HTTP status, or the `code` of a Status object inside a watch stream. */
  readonly status: number;
  /** Kubernetes' own word: `NotFound`, `AlreadyExists`, `Conflict`, `Expired`, …; empty when the server gave none. */
  readonly reason: string;
  /** How long the server asks to be left alone; 0 when it says nothing. */
  readonly retryAfterMs: number;
}

/** A server that asks for longer is asked again nevertheless: it may have been restarted meanwhile. */
const RETRY_AFTER_LIMIT_MS = 60_000;

/**
 * The failure that stands for a refusal; `body` is the parsed answer, a `Status` object if the server is polite.
 * `retryAfter` is the header of that name: seconds (RFC 9110 §10.2.3; API servers send no dates).
 */
export function statusError(
  httpStatus: number,
  body: unknown,
  request: string,
  retryAfter?: string,
): MeshError {
  const answer = (typeof body === 'object' && body !== null ? body : {}) as {
    readonly [field in 'code' | 'reason' | 'message']?: unknown;
  } & { readonly details?: { readonly retryAfterSeconds?: unknown } | null };
  const status = typeof answer.code === 'number' ? answer.code : httpStatus;
  const reason = typeof answer.reason === 'string' ? answer.reason : '';
  const text = typeof answer.message === 'string' ? answer.message : '';
  const message = text === '' ? `the API server answered ${status} to ${request}` : text;
  const seconds = Number(retryAfter ?? answer.details?.retryAfterSeconds ?? 0);
  const retryAfterMs = seconds > 0 ? Math.min(seconds * 1000, RETRY_AFTER_LIMIT_MS) : 0;
  return new MeshError('API_STATUS', message, {
    details: { status, reason, ...(retryAfterMs === 0 ? {} : { retryAfterMs }) },
  });
}

/** What the server said, or undefined when the thrown value is no refusal of the API server. */
export function apiStatusOf(thrown: unknown): ApiStatus | undefined {
  if (!(thrown instanceof MeshError) || thrown.code !== 'API_STATUS') return undefined;
  const { status, reason, retryAfterMs = 0 } = thrown.details;
  return {
    status: Number(status),
    reason: typeof reason === 'string' ? reason : '',
    retryAfterMs: Number(retryAfterMs),
  };
}

export const isNotFound = (thrown: unknown): boolean => apiStatusOf(thrown)?.status === 404;

/** 409: someone else changed or made the object meanwhile. */
export const isConflict = (thrown: unknown): boolean => apiStatusOf(thrown)?.status === 409;

export const isAlreadyExists = (thrown: unknown): boolean => {
  const answer = apiStatusOf(thrown);
  return answer?.status === 409 && answer.reason === 'AlreadyExists';
};

/** The version asked for is gone (410) or unknown to this server (504 Timeout): only a fresh list helps. */
export const needsRelist = (thrown: unknown): boolean => {
  const answer = apiStatusOf(thrown);
  return answer?.status === 410 || (answer?.status === 504 && answer.reason === 'Timeout');
};

/** No answer came, or one that says nothing about the question: asked again later, the API server may answer. */
export const isAway = (thrown: unknown): boolean => {
  if (!(thrown instanceof MeshError)) return false;
  const status = apiStatusOf(thrown)?.status ?? 0;
  return thrown.code === 'API_UNREACHABLE' || status >= 500 || status === 429;
};
