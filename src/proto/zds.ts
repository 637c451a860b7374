// ZDS messages (cni.md A.12.2): one protobuf message per packet, both directions, as plain values.
// Descriptors travel beside the bytes; that an `add` carries exactly one is for the two ends to check.

import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '#base/errors.ts';
import { Version, WorkloadRequestSchema, WorkloadResponseSchema, ZdsHelloSchema } from './gen/zds_pb.js';

/** Both ends' buffers hold this much (cni.md A.12.1). */
export const MAX_ZDS_MESSAGE_BYTES = 1024;

export interface ZdsWorkloadInfo {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** Agent to ztunnel. */
export type ZdsRequest =
  /** With one descriptor: the pod's network namespace. `info` undefined is a protocol error for the receiver. */
  | { readonly kind: 'add'; readonly uid: string; readonly info: ZdsWorkloadInfo | undefined }
  /** The pod is enrolled, but the agent no longer holds its namespace. */
  | { readonly kind: 'keep'; readonly uid: string }
  | { readonly kind: 'del'; readonly uid: string }
  | { readonly kind: 'snapshot-sent' };

/** Ztunnel to agent: one for each request, in order. Undefined means done. */
export interface ZdsAck {
  readonly error: string | undefined;
}

export function encodeHello(): Uint8Array {
  return toBinary(ZdsHelloSchema, create(ZdsHelloSchema, { version: Version.V1 }));
}

/** The peer's version number. @throws MeshError `ZDS_PROTOCOL` when the bytes are no hello, or its version is not 1. */
export function decodeHello(bytes: Uint8Array): { readonly version: number } {
  const { version } = decoded('hello', () => fromBinary(ZdsHelloSchema, bytes));
  if (version !== Version.V1)
    throw new MeshError('ZDS_PROTOCOL', `ztunnel speaks ZDS version ${version}; version 1 is supported`);
  return { version };
}

export function encodeWorkloadRequest(request: ZdsRequest): Uint8Array {
  return toBinary(WorkloadRequestSchema, create(WorkloadRequestSchema, messageOf(request)));
}

function messageOf(request: ZdsRequest): MessageInitShape<typeof WorkloadRequestSchema> {
  switch (request.kind) {
    case 'add': {
      const { uid, info } = request;
      return {
        payload: { case: 'add', value: { uid, ...(info === undefined ? {} : { workloadInfo: info }) } },
      };
    }
    case 'keep':
      return { payload: { case: 'keep', value: { uid: request.uid } } };
    case 'del':
      return { payload: { case: 'del', value: { uid: request.uid } } };
    case 'snapshot-sent':
      return { payload: { case: 'snapshotSent', value: {} } };
  }
}

/** @throws MeshError `ZDS_PROTOCOL` for undecodable bytes and for an empty payload. */
export function decodeWorkloadRequest(bytes: Uint8Array): ZdsRequest {
  const { payload } = decoded('request', () => fromBinary(WorkloadRequestSchema, bytes));
  switch (payload.case) {
    case 'add': {
      const { uid, workloadInfo } = payload.value;
      const info =
        workloadInfo === undefined
          ? undefined
          : {
              name: workloadInfo.name,
              namespace: workloadInfo.namespace,
              serviceAccount: workloadInfo.serviceAccount,
            };
      return { kind: 'add', uid, info };
    }
    case 'keep':
      return { kind: 'keep', uid: payload.value.uid };
    case 'del':
      return { kind: 'del', uid: payload.value.uid };
    case 'snapshotSent':
      return { kind: 'snapshot-sent' };
    default:
      throw new MeshError('ZDS_PROTOCOL', 'a ZDS request without a known payload was received');
  }
}

/** An error text that would not fit the peer's buffer is cut. */
export function encodeAck(ack: ZdsAck): Uint8Array {
  const error = cutToBytes(ack.error ?? '', MAX_ZDS_MESSAGE_BYTES - 64);
  return toBinary(
    WorkloadResponseSchema,
    create(WorkloadResponseSchema, { payload: { case: 'ack', value: { error } } }),
  );
}

/** @throws MeshError `ZDS_PROTOCOL` for undecodable bytes and for an empty payload. */
export function decodeAck(bytes: Uint8Array): ZdsAck {
  const { payload } = decoded('response', () => fromBinary(WorkloadResponseSchema, bytes));
  if (payload.case !== 'ack')
    throw new MeshError('ZDS_PROTOCOL', 'a ZDS response without an ack was received');
  const { error } = payload.value;
  return { error: error === '' ? undefined : error };
}

function decoded<T>(what: string, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw MeshError.from(error, 'ZDS_PROTOCOL', `undecodable ZDS ${what}`);
  }
}

function cutToBytes(text: string, limitBytes: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= limitBytes) return text;
  let end = limitBytes;
  // Not in the middle of a UTF-8 sequence.
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end).toString();
}
