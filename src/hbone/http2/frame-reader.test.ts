import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SessionError } from './errors.ts';
import { FrameReader, PREFACE } from './frame-reader.ts';
import { FrameNotes, frame } from './wire-rig.ts';

function read(bytes: Buffer, cuts: readonly number[], expectsPreface = false): string[] {
  const notes = new FrameNotes();
  const reader = new FrameReader(notes, expectsPreface);
  let at = 0;
  for (const cut of cuts) {
    const end = Math.min(bytes.length, at + cut);
    reader.push(bytes.subarray(at, end));
    at = end;
  }
  reader.push(bytes.subarray(at));
  return notes.notes;
}

describe('frames', () => {
  it('are read as they stand', () => {
    const bytes = Buffer.concat([
      PREFACE,
      frame(4, 0, 0, Buffer.alloc(0)),
      frame(6, 1, 0, Buffer.from('0102030405060708', 'hex')),
      frame(0, 0, 3, Buffer.from('abcd', 'hex')),
      frame(0, 1, 3, Buffer.alloc(0)),
      // Padded: length 2, content ee, two bytes of padding.
      frame(0, 9, 5, Buffer.from('02ee0000', 'hex')),
      frame(77, 0, 1, Buffer.from('ff', 'hex')),
      frame(3, 0, 0x80000005, Buffer.from('00000008', 'hex')),
    ]);
    const expected = [
      '4 0 0 ',
      '6 1 0 0102030405060708',
      'data 3 2',
      'abcd',
      'data 3 0',
      ' last',
      'data 5 4',
      'ee last',
      'unknown',
      '3 0 5 00000008',
    ];
    assert.deepEqual(read(bytes, [], true), expected);
    for (let cut = 1; cut < 40; cut++)
      assert.deepEqual(read(bytes, new Array(Math.ceil(bytes.length / cut)).fill(cut), true), expected);
  });

  const anyFrame = fc
    .tuple(fc.integer({ min: 0, max: 12 }), fc.nat(255), fc.nat(7), fc.uint8Array({ maxLength: 50 }))
    .map(([type, flags, streamId, payload]) => {
      // Padding that fits; reader and writer would both refuse anything else.
      if (type === 0 && (flags & 8) !== 0) payload[0] = Math.min(payload[0] ?? 0, payload.length - 1);
      return frame(type, payload.length === 0 ? flags & ~8 : flags, streamId, Buffer.from(payload));
    });
  it('are the same however their bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(anyFrame), fc.array(fc.integer({ min: 1, max: 30 })), (frames, cuts) => {
        const bytes = Buffer.concat(frames);
        assert.deepEqual(read(bytes, cuts), read(bytes, []));
      }),
    );
  });

  it('any bytes end in frames or a SessionError', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.array(fc.integer({ min: 1, max: 30 })),
        (bytes, cuts) => {
          try {
            read(Buffer.from(bytes), cuts);
          } catch (error) {
            assert.ok(error instanceof SessionError);
          }
        },
      ),
    );
  });

  it('are refused: HTTP/1, one too large, padding beyond its frame', () => {
    assert.throws(() => read(Buffer.from('GET / HTTP/1.1\r\n\r\n'), [], true), { code: 1 });
    assert.throws(() => read(Buffer.from('100001000000000000', 'hex'), []), { code: 6 });
    assert.throws(() => read(frame(0, 8, 1, Buffer.from('05aa', 'hex')), []), { code: 1 });
    assert.throws(() => read(frame(0, 8, 1, Buffer.alloc(0)), []), { code: 6 });
    assert.throws(
      () => read(Buffer.from('020001010400000001', 'hex'), []),
      { code: 6 },
      'HEADERS of 128 KiB',
    );
  });
});
