// gRPC status: how a call ended, by number and message, and what HTTP/2 outcomes mean in those terms
// (the gRPC project's PROTOCOL-HTTP2.md and http-grpc-status-mapping.md).

import { MeshError } from '#base/errors.ts';

export const GRPC_OK = 0;
export const GRPC_CANCELLED = 1;
export const GRPC_UNKNOWN = 2;
export const GRPC_INVALID_ARGUMENT = 3;
export const GRPC_DEADLINE_EXCEEDED = 4;
export const GRPC_PERMISSION_DENIED = 7;
export const GRPC_RESOURCE_EXHAUSTED = 8;
export const GRPC_UNIMPLEMENTED = 12;
export const GRPC_INTERNAL = 13;
export const GRPC_UNAVAILABLE = 14;
export const GRPC_UNAUTHENTICATED = 16;

export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
  /**
   * How far the call came. `connect`: no session could be made. `request`: sent, or about to be, without an answer.
   * `answered`: the server's headers had arrived.
   */
  readonly reached: 'connect' | 'request' | 'answered';
}

export function grpcError(what: string, status: Omit<GrpcStatus, 'reached'>, cause?: unknown): MeshError {
  const text = status.message === '' ? 'no message' : status.message;
  return new MeshError('GRPC_STATUS', `${what} failed with gRPC status ${status.code}: ${text}`, {
    ...(cause === undefined ? {} : { cause }),
    details: { code: status.code, message: status.message },
  });
}

/** What a server's method throws to end the call with this status. */
export function statusError(code: number, message: string, cause?: unknown): MeshError {
  return new MeshError('GRPC_STATUS', message, {
    ...(cause === undefined ? {} : { cause }),
    details: { code, message },
  });
}

/** The status that a client is shown for a failure of ours; what is not one of ours is not explained to it. */
export function statusOf(error: unknown): Omit<GrpcStatus, 'reached'> {
  if (error instanceof MeshError) {
    const { code, message } = error.details;
    if (error.code === 'GRPC_STATUS' && typeof code === 'number')
      return { code, message: typeof message === 'string' ? message : error.message };
    if (error.code === 'XDS_PROTOCOL') return { code: GRPC_INVALID_ARGUMENT, message: error.message };
  }
  return { code: GRPC_INTERNAL, message: 'internal error' };
}

/** For answers that are not gRPC at all, such as a proxy's error page. */
export function codeOfHttpStatus(status: number): number {
  switch (status) {
    case 400:
      return GRPC_INTERNAL;
    case 401:
      return GRPC_UNAUTHENTICATED;
    case 403:
      return GRPC_PERMISSION_DENIED;
    case 404:
      return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return GRPC_UNAVAILABLE;
    default:
      return GRPC_UNKNOWN;
  }
}

/** For RST_STREAM codes of RFC 9113 §7. */
export function codeOfReset(rstCode: number): number {
  switch (rstCode) {
    case 7: // REFUSED_STREAM
      return GRPC_UNAVAILABLE;
    case 8: // CANCEL
      return GRPC_CANCELLED;
    case 11: // ENHANCE_YOUR_CALM
      return GRPC_RESOURCE_EXHAUSTED;
    case 12: // INADEQUATE_SECURITY
      return GRPC_PERMISSION_DENIED;
    default:
      return GRPC_INTERNAL;
  }
}

/** `grpc-message` may carry printable ASCII except `%`; everything else is percent-encoded UTF-8. */
export function encodeGrpcMessage(text: string): string {
  return text.toWellFormed().replace(/[^\x20-\x24\x26-\x7e]+/gu, encodeURIComponent);
}

/** `grpc-message` is percent-encoded UTF-8; what does not decode is shown as it came. */
export function decodeGrpcMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
