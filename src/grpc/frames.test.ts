import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { MeshError } from '#base/errors.ts';
import { encodeFrame, FrameDecoder } from './frames.ts';

/** Cuts bytes at the given places. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...sorted].map((from, at) => bytes.subarray(from, sorted[at] ?? bytes.length));
}

describe('gRPC frames', () => {
  it('are a flag, a length of four bytes, and the message', () => {
    assert.deepEqual([...encodeFrame(Uint8Array.of(7, 8, 9))], [0, 0, 0, 0, 3, 7, 8, 9]);
    assert.deepEqual([...encodeFrame(new Uint8Array(0))], [0, 0, 0, 0, 0]);
  });

  it('come out whole, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }),
        fc.array(fc.nat()),
        (messages, places) => {
          const bytes = Buffer.concat(messages.map(encodeFrame));
          const decoder = new FrameDecoder(300);
          const decoded = cut(bytes, places).flatMap((chunk) => decoder.push(chunk));
          assert.deepEqual(
            decoded.map((message) => [...message]),
            messages.map((message) => [...message]),
          );
          assert.equal(decoder.atBoundary, true);
        },
      ),
    );
  });

  it('know when they are incomplete', () => {
    const frame = encodeFrame(Uint8Array.of(1, 2, 3));
    for (let length = 1; length < frame.length; length++) {
      const decoder = new FrameDecoder(10);
      assert.deepEqual(decoder.push(frame.subarray(0, length)), []);
      assert.equal(decoder.atBoundary, false);
    }
  });

  it('are refused above the limit, before the message is there', () => {
    const decoder = new FrameDecoder(4);
    assert.equal(decoder.push(encodeFrame(new Uint8Array(4))).length, 1);
    assert.throws(
      () => decoder.push(Uint8Array.of(0, 0, 0, 0, 5)),
      (error: MeshError) => error.code === 'GRPC_STATUS' && error.details.code === 8,
    );
  });

  it('are refused when compressed', () => {
    assert.throws(
      () => new FrameDecoder(10).push(Uint8Array.of(1, 0, 0, 0, 1, 0)),
      (error: MeshError) => error.code === 'GRPC_STATUS' && error.details.code === 13,
    );
  });

  it('never fail otherwise on any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        try {
          new FrameDecoder(1000).push(bytes);
        } catch (error) {
          assert.equal((error as MeshError).code, 'GRPC_STATUS');
        }
      }),
    );
  });
});
