import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { encodeFrame, type Frame, FrameDecoder } from './spdy-frames.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

// Written by hand from the drawings of draft-mbelshe-httpbis-spdy-00 §2.2 and §2.6.
const WRITTEN: readonly (readonly [string, Frame])[] = [
  [
    '80030001 0100000d 00000005 00000000 0000 aabbcc',
    { type: 'syn-stream', streamId: 5, fin: true, unidirectional: false, headerBlock: hex('aabbcc') },
  ],
  [
    '80030001 0200000a 00000007 00000000 0000',
    { type: 'syn-stream', streamId: 7, fin: false, unidirectional: true, headerBlock: hex('') },
  ],
  [
    '80030002 00000006 00000001 beef',
    { type: 'syn-reply', streamId: 1, fin: false, headerBlock: hex('beef') },
  ],
  ['80030003 00000008 00000003 00000005', { type: 'rst-stream', streamId: 3, status: 5 }],
  ['80030004 0000000c 00000001 00000007 00010000', { type: 'settings', values: new Map([[7, 65536]]) }],
  ['80030006 00000004 00000009', { type: 'ping', id: 9 }],
  ['80030007 00000008 00000003 00000001', { type: 'goaway', lastStreamId: 3, status: 1 }],
  ['80030008 01000006 00000001 beef', { type: 'headers', streamId: 1, fin: true, headerBlock: hex('beef') }],
  ['80030009 00000008 00000001 00008000', { type: 'window-update', streamId: 1, deltaBytes: 32768 }],
  ['00000001 00000002 6869', { type: 'data', streamId: 1, bytes: Buffer.from('hi'), fin: false }],
  ['00000003 01000000', { type: 'data', streamId: 3, bytes: Buffer.alloc(0), fin: true }],
];

test('frames are written and read as the protocol draws them', () => {
  for (const [bytes, frame] of WRITTEN) {
    assert.equal(encodeFrame(frame).toString('hex'), bytes.replaceAll(' ', ''), frame.type);
    assert.deepEqual(new FrameDecoder().push(hex(bytes)), [frame], frame.type);
  }
});

/** Pieces of one DATA frame put together again. */
function joined(frames: readonly Frame[]): Frame[] {
  const whole: Frame[] = [];
  let open = false;
  for (const frame of frames) {
    const last = whole.at(-1);
    if (open && frame.type === 'data' && last?.type === 'data' && last.streamId === frame.streamId)
      whole[whole.length - 1] = { ...frame, bytes: Buffer.concat([last.bytes, frame.bytes]) };
    else whole.push(frame);
    open = frame.type === 'data';
  }
  return whole;
}

test('a cut at any byte changes nothing', () => {
  const all = Buffer.concat(WRITTEN.map(([bytes]) => hex(bytes)));
  const frames = WRITTEN.map(([, frame]) => frame);
  for (let cut = 0; cut <= all.length; cut++) {
    const decoder = new FrameDecoder();
    const got = [...decoder.push(all.subarray(0, cut)), ...decoder.push(all.subarray(cut))];
    assert.deepEqual(joined(got), frames, `cut at ${cut}`);
  }
  const bytewise = new FrameDecoder();
  assert.deepEqual(joined([...all].flatMap((byte) => bytewise.push(Buffer.of(byte)))), frames);
});

const streamId = fc.integer({ min: 1, max: 0x7fffffff });
const block = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
const anyFrame: fc.Arbitrary<Frame> = fc.oneof(
  fc.record({
    type: fc.constant('syn-stream' as const),
    streamId,
    fin: fc.boolean(),
    unidirectional: fc.boolean(),
    headerBlock: block,
  }),
  fc.record({
    type: fc.constantFrom('syn-reply' as const, 'headers' as const),
    streamId,
    fin: fc.boolean(),
    headerBlock: block,
  }),
  fc.record({ type: fc.constant('rst-stream' as const), streamId, status: fc.nat() }),
  fc.record({ type: fc.constant('ping' as const), id: fc.nat() }),
  fc.record({ type: fc.constant('goaway' as const), lastStreamId: streamId, status: fc.nat() }),
  fc.record({ type: fc.constant('window-update' as const), streamId, deltaBytes: fc.nat(0x7fffffff) }),
  // Another frame between two of data keeps the joining above simple.
  fc.record({
    type: fc.constant('settings' as const),
    values: fc.uniqueArray(fc.nat(20)).map((ids) => new Map(ids.map((id) => [id, id * 3]))),
  }),
);
const script = fc.array(
  fc.tuple(
    anyFrame,
    fc.option(fc.record({ type: fc.constant('data' as const), streamId, bytes: block, fin: fc.boolean() })),
  ),
  { maxLength: 8 },
);

test('whatever is written is read back, however it is cut', () => {
  fc.assert(
    fc.property(script, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (pairs, lengths) => {
      const frames: Frame[] = pairs
        .flatMap(([frame, data]) => (data === null ? [frame] : [frame, data]))
        .map((frame) => ({ ...frame })); // with the prototype of ordinary objects

      const bytes = Buffer.concat(frames.map(encodeFrame));
      const decoder = new FrameDecoder();
      const got: Frame[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const length = lengths[turn % lengths.length]!;
        got.push(...decoder.push(bytes.subarray(at, at + length)));
        at += length;
      }
      assert.deepEqual(joined(got), frames);
    }),
  );
});

test('garbage is refused as a protocol error or waited on, never anything else', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), fc.boolean(), (chunks, looksLikeSpdy) => {
      const decoder = new FrameDecoder();
      try {
        // With a believable first half, more of the decoder is reached.
        if (looksLikeSpdy) decoder.push(hex('8003'));
        for (const chunk of chunks) decoder.push(Buffer.from(chunk));
      } catch (error) {
        assert.ok(error instanceof MeshError && error.code === 'STREAM_PROTOCOL', String(error));
      }
    }),
  );
});

test('frames that cannot be right are refused by name', () => {
  const refused = (bytes: string): unknown =>
    assert.throws(() => new FrameDecoder().push(hex(bytes)), MeshError);
  refused('80020001 0000000a 00000001 00000000 0000'); // version 2
  refused('80030003 00000004 00000001'); // RST_STREAM without status
  refused('80030006 00000005 0000000100'); // a PING too long
  refused('80030004 00000008 00000002 00000007'); // SETTINGS that promise two entries
  refused('80030001 00010001'); // longer than any header block
  refused('00000000 00000001 00'); // DATA for the session
});

test('frames of unknown types are passed over', () => {
  assert.deepEqual(new FrameDecoder().push(hex('8003000b 00000003 aabbcc 80030006 00000004 00000001')), [
    { type: 'ping', id: 1 },
  ]);
});
