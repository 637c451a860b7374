// The one class for failures (I/O, protocol, configuration). Decisions are not failures: they are values with a reason.

import type { ErrorCode } from './error-codes.ts';

/** Small typed facts that help an operator: never secrets, never whole objects. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean>>;

export class MeshError extends Error {
  /** Stable across releases; listed in docs/ERRORS.md. */
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: ErrorDetails } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MeshError';
    this.code = code;
    this.details = options.details ?? {};
  }

  /** Wraps anything thrown at a border; a MeshError passes unchanged. */
  static from(thrown: unknown, code: ErrorCode, context: string): MeshError {
    if (thrown instanceof MeshError) return thrown;
    return new MeshError(code, `${context}: ${reasonOf(thrown)}`, { cause: thrown });
  }
}

/** One line that says what was thrown, with the first cause that adds something. */
export function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const code = (thrown as NodeJS.ErrnoException).code;
  const text = thrown.message || code || thrown.name;
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return reasonOf(thrown.errors[0]);
  if (thrown.cause instanceof Error && !text.includes(thrown.cause.message))
    return `${text}: ${reasonOf(thrown.cause)}`;
  return text;
}

/** The errno name (`ECONNREFUSED`) behind a thrown value, if it has one. */
export function errnoOf(thrown: unknown): string | undefined {
  for (let at: unknown = thrown; at instanceof Error; at = at.cause) {
    const code = (at as NodeJS.ErrnoException).code;
    if (typeof code === 'string' && /^E[A-Z0-9]+$/.test(code)) return code;
  }
  return undefined;
}
