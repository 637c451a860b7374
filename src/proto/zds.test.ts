import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import {
  decodeAck,
  decodeHello,
  decodeWorkloadRequest,
  encodeAck,
  encodeHello,
  encodeWorkloadRequest,
  MAX_ZDS_MESSAGE_BYTES,
  type ZdsRequest,
} from './zds.ts';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const isProtocolError = (error: unknown): boolean =>
  error instanceof MeshError && error.code === 'ZDS_PROTOCOL';

// Written by hand from the field numbers: tag = number << 3 | 2 for strings and messages.
const WIRE: readonly (readonly [ZdsRequest, string])[] = [
  [
    { kind: 'add', uid: 'u', info: { name: 'n', namespace: 's', serviceAccount: 'a' } },
    '0a 0e 0a 01 75 12 09 0a 01 6e 12 01 73 1a 01 61',
  ],
  [{ kind: 'add', uid: 'u', info: undefined }, '0a 03 0a 01 75'],
  // The uid of a deletion has number 2, and `keep` is number 5.
  [{ kind: 'del', uid: 'u' }, '12 03 12 01 75'],
  [{ kind: 'snapshot-sent' }, '1a 00'],
  [{ kind: 'keep', uid: 'u' }, '2a 03 0a 01 75'],
];

test('requests have the bytes of the specification, both ways', () => {
  for (const [request, hex] of WIRE) {
    assert.deepEqual(encodeWorkloadRequest(request), bytes(hex));
    assert.deepEqual(decodeWorkloadRequest(bytes(hex)), request);
  }
});

test('hello and ack have the bytes of the specification, both ways', () => {
  assert.deepEqual(encodeHello(), bytes('08 01'));
  assert.deepEqual(decodeHello(bytes('08 01')), { version: 1 });
  assert.deepEqual(encodeAck({ error: undefined }), bytes('0a 00'));
  assert.deepEqual(encodeAck({ error: 'no' }), bytes('0a 04 0a 02 6e 6f'));
  assert.deepEqual(decodeAck(bytes('0a 00')), { error: undefined });
  assert.deepEqual(decodeAck(bytes('0a 04 0a 02 6e 6f')), { error: 'no' });
});

test('another version, an empty payload and a foreign message are protocol errors', () => {
  for (const hex of ['', '08 02']) assert.throws(() => decodeHello(bytes(hex)), isProtocolError);
  for (const hex of ['', '22 00', '0a 05'])
    assert.throws(() => decodeWorkloadRequest(bytes(hex)), isProtocolError);
  for (const hex of ['', '12 00']) assert.throws(() => decodeAck(bytes(hex)), isProtocolError);
});

test('a long error text is cut to what the peer can receive', () => {
  const ack = encodeAck({ error: 'ü'.repeat(2000) });
  assert.ok(ack.length <= MAX_ZDS_MESSAGE_BYTES);
  assert.match(decodeAck(ack).error ?? '', /^ü+$/);
});

test('property: any bytes decode or are a protocol error; what decodes survives a round trip', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (input) => {
      let request: ZdsRequest;
      try {
        request = decodeWorkloadRequest(input);
      } catch (error) {
        assert.ok(isProtocolError(error));
        return;
      }
      assert.deepEqual(decodeWorkloadRequest(encodeWorkloadRequest(request)), request);
    }),
  );
});
