// HTTP/2 as HBONE speaks it: frames, header blocks, Huffman texts, and whole sessions of either role.

import assert from 'node:assert/strict';
import { SessionError } from '#hbone/http2/errors.ts';
import { FrameReader } from '#hbone/http2/frame-reader.ts';
import {
  areTrailersWellFormed,
  judgeRequest,
  ordinaryHeaders,
  statusOf,
  unsendable,
} from '#hbone/http2/header-rules.ts';
import { HpackDecoder } from '#hbone/http2/hpack-decoder.ts';
import { HpackEncoder } from '#hbone/http2/hpack-encoder.ts';
import { decodeHuffman, encodeHuffman, huffmanLength } from '#hbone/http2/huffman.ts';
import type { Stream } from '#hbone/http2/stream.ts';
import { FrameNotes, frame, newShared, PREFACE, settle, startSession } from '#hbone/http2/wire-rig.ts';
import { behindLength, kindOf, messagesOf, pickedBy, piecesOf, type Target } from '../target.ts';

const REQUEST = [
  ...[':method', 'CONNECT', ':authority', '10.244.2.3:8080'],
  ...[
    'baggage',
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop',
    'forwarded',
    'for="10.244.1.3:41822"',
  ],
  ...['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00'],
];
const ANSWER = [':status', '200', 'baggage', 'k8s.namespace.name=shop'];

const block = (list: readonly string[]): Buffer => new HpackEncoder().encode(list);
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

const SETTINGS = frame(4, 0, 0, '00030000 00640004 00400000 00050010 0000');
const OTHERS = [
  frame(4, 1, 0),
  frame(6, 0, 0, '0102030405060708'),
  frame(8, 0, 0, u32(65_535)),
  frame(7, 0, 0, '0000000100000000'),
  frame(2, 0, 1, '0000000010'),
  frame(99, 0, 1, 'ff'),
];

function conversation(...frames: readonly Buffer[]): Buffer {
  return Buffer.concat([SETTINGS, ...frames]);
}
const ONE_REQUEST = [frame(1, 4, 1, block(REQUEST)), frame(0, 0, 1, Buffer.alloc(40, 'x')), frame(0, 1, 1)];
const SERVED: readonly Buffer[] = [
  conversation(...ONE_REQUEST),
  conversation(
    ...OTHERS,
    ...ONE_REQUEST,
    frame(1, 5, 3, block([':method', 'GET', ':scheme', 'https', ':path', '/'])),
  ),
  conversation(
    frame(1, 0, 1, block(REQUEST).subarray(0, 20)),
    frame(9, 4, 1, block(REQUEST).subarray(20)),
    frame(0, 8, 1, Buffer.from('02eeff0000', 'hex')),
    frame(8, 0, 1, u32(1000)),
    frame(3, 0, 1, u32(8)),
  ),
];
const ANSWERED: readonly Buffer[] = [
  conversation(frame(1, 4, 1, block(ANSWER)), frame(0, 0, 1, Buffer.alloc(40, 'x')), frame(0, 1, 1)),
  conversation(
    ...OTHERS,
    frame(1, 5, 1, block([':status', '401'])),
    frame(1, 4, 3, block(ANSWER)),
    frame(3, 0, 3, u32(0)),
    frame(1, 4, 5, block([':status', '100'])),
    frame(1, 5, 5, block(['trailer', 'x'])),
  ),
];

function brokenOr<T>(decode: () => T): { readonly value: T } | { readonly refused: string } {
  try {
    return { value: decode() };
  } catch (error) {
    if (error instanceof SessionError) return { refused: `refused: ${kindOf(error.message)}` };
    throw error;
  }
}

function notesOf(input: Buffer, length: number): readonly string[] {
  const seen = new FrameNotes();
  const reader = new FrameReader(seen, false);
  const result = brokenOr(() => {
    for (const piece of piecesOf(input, length)) reader.push(piece);
  });
  return 'refused' in result ? [...seen.notes, result.refused] : seen.notes;
}

const frames: Target = {
  name: 'http2-frames',
  seeds: () => [...SERVED, ...ANSWERED],
  run(input) {
    const whole = notesOf(input, Math.max(1, input.length));
    const cut = notesOf(input, 1 + pickedBy(input, 40));
    // How the bytes are cut makes no difference.
    assert.deepEqual(cut, whole);
    const kinds = whole.map((note) => /^refused.*|^data|^unknown|^\d(?= )/.exec(note)?.[0] ?? '');
    return [...new Set(kinds)].sort().join(' ').slice(0, 60);
  },
};

const hpack: Target = {
  name: 'hpack',
  seeds: () => {
    const encoder = new HpackEncoder();
    const session = [REQUEST, ANSWER, REQUEST].map((list) => behindLength(encoder.encode(list)));
    encoder.limitTable(100);
    return [Buffer.concat(session), behindLength(encoder.encode(ANSWER)), behindLength(block(REQUEST))];
  },
  run(input) {
    const decoder = new HpackDecoder(65_536);
    const [encoder, mirror] = [new HpackEncoder(), new HpackDecoder(1 << 20)];
    let kind = '';
    for (const each of messagesOf(input)) {
      const result = brokenOr(() => decoder.decode(each));
      if ('refused' in result) return kind + result.refused;
      const list = result.value;
      if (list === undefined) {
        kind += 'too long, ';
        continue;
      }
      const bytes = list.reduce((sum, text) => sum + text.length, 16 * list.length);
      assert.ok(bytes <= 65_536, `a list of ${bytes} bytes`);
      if (!list.some((text) => text.includes('\0')))
        assert.deepEqual(mirror.decode(encoder.encode(list)), list);
      kind += `${judge(list)}, `;
    }
    return kind.slice(0, 60);
  },
};

function judge(list: readonly string[]): string {
  const verdict = judgeRequest(list);
  const headers = ordinaryHeaders(list);
  if (verdict.kind === 'connect') {
    assert.equal(unsendable(verdict.authority, headers), undefined, 'what is taken can be sent on');
    assert.equal(statusOf(list), undefined);
  }
  const status = statusOf(list);
  assert.ok(status === undefined || (status >= 100 && status <= 999));
  return `${verdict.kind} ${status === undefined ? '' : 'status '}${areTrailersWellFormed(list)}`;
}

const huffman: Target = {
  name: 'huffman',
  seeds: () =>
    ['', 'www.example.com', 'k8s.namespace.name=shop', '\0\xff\r\n~'].map((text) => {
      const bytes = Buffer.alloc(huffmanLength(text));
      encodeHuffman(text, bytes, 0);
      return bytes;
    }),
  run(input) {
    const text = decodeHuffman(input, 0, input.length);
    if (text === undefined) return 'refused';
    const again = Buffer.alloc(huffmanLength(text));
    assert.equal(encodeHuffman(text, again, 0), again.length);
    // The code is unique, and so is its padding.
    assert.deepEqual(again, input);
    return `read ${text.length > 20 ? 'much' : text.length}`;
  },
};

/** What a session may send beyond what it was sent: settings, GOAWAY and its reason, the answers, 64 KiB for each stream. */
const FREE_BYTES = 4096;
const STREAM_BYTES = 70_000;

async function converse(role: 'client' | 'server', input: Buffer): Promise<string> {
  const shared = newShared();
  const ends = new Map<Stream, number>();
  const watch = (stream: Stream): void => {
    ends.set(stream, 0);
    let pauses = pickedBy(input, 3) === 0;
    stream.attach({
      data: () => {
        if (pauses) stream.pause();
        pauses = false;
      },
      drain: () => {},
      end: () => stream.end(),
      close: () => ends.set(stream, ends.get(stream)! + 1),
    });
    stream.write(Buffer.alloc(STREAM_BYTES));
  };
  const rig = startSession(
    role,
    {
      request: (stream) => {
        rig.session.respond(stream, [':status', '200'], false);
        watch(stream);
      },
    },
    { shared, maxStreams: 100 },
  );
  if (role === 'server') rig.wire.feed(Buffer.from(PREFACE));
  else
    for (let each = 0; each < 3; each++)
      watch(rig.session.request([':method', 'CONNECT', ':authority', 'a:1']));
  for (const piece of piecesOf(input, [input.length || 1, 1000, 17][pickedBy(input, 3)]!))
    if (rig.closed.length === 0) rig.wire.feed(piece);
  await settle();
  const sent = rig.wire.frames();
  const sentBytes = sent.reduce((sum, { payload }) => sum + payload.length + 9, 0);
  assert.ok(
    sentBytes <= FREE_BYTES + 6 * input.length + ends.size * (STREAM_BYTES + 200),
    `${input.length} bytes made the session send ${sentBytes}`,
  );
  const farewell = sent.findLast(({ type }) => type === 7);
  const kind =
    rig.closed[0] === undefined
      ? `open, ${[...new Set(sent.map(({ type }) => type))].sort()}`
      : rig.closed[0];
  rig.session.cut('the run is over');
  await settle();
  assert.equal(rig.closed.length, 1, 'a session ends once');
  for (const stream of ends.keys()) if (!stream.isOver) stream.reset('CANCEL');
  await settle();
  for (const [stream, count] of ends) assert.equal(count, 1, `stream ${stream.id} ended ${count} times`);
  assert.equal(shared.budget.unreadBytes, 0);
  return kindOf(`${kind}, ${farewell === undefined ? '' : farewell.payload.readUInt32BE(4)}`);
}

const session = (role: 'client' | 'server', seeds: readonly Buffer[]): Target => ({
  name: `http2-${role}`,
  seeds: () => seeds,
  tokens: [...OTHERS, ...ONE_REQUEST, frame(1, 5, 1, block(ANSWER)), frame(4, 0, 0, '000400000000')],
  run: (input) => converse(role, input),
});

export const HTTP2_TARGETS: readonly Target[] = [
  frames,
  hpack,
  huffman,
  session('server', SERVED),
  session('client', ANSWERED),
];
