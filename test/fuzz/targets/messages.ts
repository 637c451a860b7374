// Messages between programs: xDS resources and requests, ZDS, the hand-over of listeners, gRPC frames, and objects as
// Kubernetes clients send them in protobuf.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { encodeFrame, FrameDecoder } from '#grpc/frames.ts';
import { decodeObject } from '#local/apiserver/decode.ts';
import { isObject } from '#local/apiserver/object.ts';
import { StatusError } from '#local/apiserver/status.ts';
import { decodeAuthorization, encodeAuthorization } from '#proto/authorization.ts';
import {
  decodeDeltaRequest,
  decodeDeltaResponse,
  encodeDeltaRequest,
  encodeDeltaResponse,
} from '#proto/discovery.ts';
import { Sharing } from '#proto/sharing.ts';
import { decodeAddress, encodeAddress } from '#proto/workload.ts';
import {
  decodeAck,
  decodeHello,
  decodeWorkloadRequest,
  encodeAck,
  encodeHello,
  encodeWorkloadRequest,
} from '#proto/zds.ts';
import { decodeHandOver, encodeHandOver } from '#ztunnel/capture/hand-over-message.ts';
import { plain, policy, request, service, workload } from '../../lib/arbitraries.ts';
import { kindOf, pickedBy, piecesOf, refusedOr, type Target } from '../target.ts';

const samples = <T>(of: fc.Arbitrary<T>): T[] => fc.sample(of, { seed: 1, numRuns: 12 });

/** What was read, written and read again, is the same. */
function sameAgain<T>(
  codes: readonly string[],
  decode: (bytes: Uint8Array) => T,
  encode: (value: T) => Uint8Array,
) {
  return (input: Buffer): string =>
    refusedOr(
      codes,
      // Buffers write themselves into JSON in a form of their own.
      () => decode(new Uint8Array(input)),
      (value) => {
        assert.deepEqual(plain(decode(encode(value))), plain(value));
        const text = JSON.stringify(plain(value));
        // Which fields are there, as far as that can be seen from afar.
        return `read ${text
          .replace(/"[^"]*"|\d+/g, '')
          .replace(/[,:]/g, '')
          .slice(0, 60)}`;
      },
    );
}

const address: Target = {
  name: 'xds-address',
  seeds: () => [
    ...samples(workload).map((value) => encodeAddress({ kind: 'workload', workload: value })),
    ...samples(service).map((value) => encodeAddress({ kind: 'service', service: value })),
  ],
  run(input) {
    // Values shared among workloads must not depend on who came before.
    const sharing = new Sharing();
    return sameAgain(
      ['XDS_RESOURCE_REJECTED'],
      (bytes) => decodeAddress(bytes, sharing),
      encodeAddress,
    )(input);
  },
};

const authorization: Target = {
  name: 'xds-authorization',
  seeds: () => samples(policy).map(encodeAuthorization),
  run: (input) =>
    refusedOr(
      ['XDS_RESOURCE_REJECTED'],
      () => {
        const unread: string[] = [];
        const value = decodeAuthorization(input, (what) => unread.push(what));
        return { value, unread };
      },
      ({ value, unread }) => {
        if (unread.length === 0)
          assert.deepEqual(plain(decodeAuthorization(encodeAuthorization(value))), plain(value));
        return `read ${value.scope} ${value.action} ${Math.min(value.rules.length, 3)} ${kindOf(unread[0] ?? '')}`;
      },
    ),
};

const deltaRequest: Target = {
  name: 'xds-request',
  seeds: () => samples(request).map(encodeDeltaRequest),
  run: sameAgain(['XDS_PROTOCOL'], decodeDeltaRequest, encodeDeltaRequest),
};

const deltaResponse: Target = {
  name: 'xds-response',
  seeds: () => [
    encodeDeltaResponse({
      systemVersionInfo: 'v7',
      typeUrl: 'type.googleapis.com/istio.workload.Address',
      nonce: 'n',
      resources: samples(workload).map((value, at) => ({
        name: value.uid,
        version: `${at}`,
        typeUrl: 't',
        value: encodeAddress({ kind: 'workload', workload: value }),
      })),
      removed: ['b', ''],
    }),
  ],
  run: sameAgain(['XDS_PROTOCOL'], decodeDeltaResponse, encodeDeltaResponse),
};

const zds: Target = {
  name: 'zds',
  maxBytes: 4096,
  seeds: () => [
    encodeHello(),
    encodeAck({ error: 'no' }),
    ...(['keep', 'del'] as const).map((kind) => encodeWorkloadRequest({ kind, uid: 'a-b' })),
    encodeWorkloadRequest({ kind: 'snapshot-sent' }),
    encodeWorkloadRequest({
      kind: 'add',
      uid: 'a-b',
      info: { name: 'web', namespace: 'shop', serviceAccount: 'web' },
    }),
  ],
  run(input) {
    const codes = ['ZDS_PROTOCOL'];
    return [
      refusedOr(codes, () => decodeHello(input)),
      sameAgain(codes, decodeWorkloadRequest, encodeWorkloadRequest)(input),
      refusedOr(
        codes,
        () => decodeAck(input),
        (ack) => {
          assert.ok(encodeAck(ack).length <= 1024);
          return `read ${ack.error === undefined}`;
        },
      ),
    ].join();
  },
};

const handOver: Target = {
  name: 'hand-over',
  maxBytes: 4096,
  seeds: () => [
    encodeHandOver({ kind: 'hello' }),
    encodeHandOver({ kind: 'listener', netns: '4:4026531840', port: 15_001, transparent: true, shape: 'x' }),
  ],
  tokens: ['"', '{', 'null', '"kind":', '1e9', '"complete"'].map((text) => Buffer.from(text)),
  run: sameAgain(['HAND_OVER_FAILED'], decodeHandOver, encodeHandOver),
};

const MOST_MESSAGE_BYTES = 10_000;
const grpcFrames: Target = {
  name: 'grpc-frames',
  seeds: () => [Buffer.concat(['', 'one', 'x'.repeat(300)].map((text) => encodeFrame(Buffer.from(text))))],
  tokens: [Buffer.from('0000000000', 'hex'), Buffer.from('0000000003616263', 'hex')],
  run(input) {
    const decoder = new FrameDecoder(MOST_MESSAGE_BYTES);
    const messages: Uint8Array[] = [];
    const result = refusedOr(
      ['GRPC_STATUS'],
      () => {
        for (const piece of piecesOf(input, 1 + pickedBy(input, 50))) messages.push(...decoder.push(piece));
      },
      () => `read ${Math.min(messages.length, 4)} ${decoder.atBoundary}`,
    );
    const written = Buffer.concat(messages.map(encodeFrame));
    assert.ok(messages.every(({ length }) => length <= MOST_MESSAGE_BYTES));
    assert.deepEqual(written, input.subarray(0, written.length));
    if (result.startsWith('read') && decoder.atBoundary) assert.equal(written.length, input.length);
    return result;
  },
};

const kubernetesObjects: Target = {
  name: 'kubernetes-protobuf',
  seeds: () =>
    gunzipSync(
      readFileSync(join(import.meta.dirname, '../../../src/local/apiserver/testdata/protobuf.tsv.gz')),
    )
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => Buffer.from(line.split('\t')[1]!, 'base64'))
      .filter(({ length }) => length < 4000),
  run(input) {
    try {
      const object = decodeObject(input, 'application/vnd.kubernetes.protobuf');
      assert.ok(isObject(object));
      return `read ${String(object.kind).slice(0, 30)}`;
    } catch (error) {
      if (!(error instanceof StatusError) || error.body.code !== 400) throw error;
      return `refused: ${kindOf(error.message).slice(-40)}`;
    }
  },
};

export const MESSAGE_TARGETS: readonly Target[] = [
  address,
  authorization,
  deltaRequest,
  deltaResponse,
  zds,
  handOver,
  grpcFrames,
  kubernetesObjects,
];
