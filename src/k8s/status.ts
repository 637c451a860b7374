// How the API server's refusals look to our code: the `Status` object as a MeshError, and questions about it.

import { MeshError } from '#base/errors.ts';

export interface ApiStatus {
  /** The HTTP status, or the `code` of a Status object inside a watch stream. */
  readonly status: number;
  /** Kubernetes' own word: `NotFound`, `AlreadyExists`, `Conflict`, `Expired`, …; empty when the server gave none. */
  readonly reason: string;
}

/** The failure that stands for a refusal; `body` is the parsed answer, a `Status` object if the server is polite. */
export function statusError(httpStatus: number, body: unknown, request: string): MeshError {
  const answer = (typeof body === 'object' && body !== null ? body : {}) as {
    readonly [field in 'code' | 'reason' | 'message']?: unknown;
  };
  const status = typeof answer.code === 'number' ? answer.code : httpStatus;
  const reason = typeof answer.reason === 'string' ? answer.reason : '';
  const text = typeof answer.message === 'string' ? answer.message : '';
  const message = text === '' ? `the API server answered ${status} to ${request}` : text;
  return new MeshError('API_STATUS', message, { details: { status, reason } });
}

/** What the server said, or undefined when the thrown value is no refusal of the API server. */
export function apiStatusOf(thrown: unknown): ApiStatus | undefined {
  if (!(thrown instanceof MeshError) || thrown.code !== 'API_STATUS') return undefined;
  const { status, reason } = thrown.details;
  return { status: Number(status), reason: typeof reason === 'string' ? reason : '' };
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
