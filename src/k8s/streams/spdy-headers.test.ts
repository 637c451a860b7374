import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { constants, createDeflate, createInflate } from 'node:zlib';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { DICTIONARY, HeaderReader, HeaderWriter, parseHeaders } from './spdy-headers.ts';

/** RFC 1950 §8.2. */
function adler32(bytes: Buffer): number {
  let a = 1;
  let b = 0;
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return ((b << 16) | a) >>> 0;
}

test('the dictionary is the one that every SPDY/3 stream names in its first bytes', () => {
  assert.equal(DICTIONARY.length, 1423);
  assert.equal(adler32(DICTIONARY).toString(16), 'e3c6a7c2');
});

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const word = (text: string): Buffer => Buffer.concat([uint32(text.length), Buffer.from(text, 'latin1')]);
const plainBlock = (...words: string[]): Buffer =>
  Buffer.concat([uint32(words.length / 2), ...words.map(word)]);

/** A peer that compresses as the protocol wants it: one zlib stream, flushed after each block. */
function compressor(): (plain: Buffer) => Promise<Buffer> {
  const deflate = createDeflate({ dictionary: DICTIONARY });
  const parts: Buffer[] = [];
  deflate.on('data', (part: Buffer) => parts.push(part));
  return (plain) =>
    new Promise((resolve) => {
      deflate.write(plain);
      deflate.flush(constants.Z_SYNC_FLUSH, () => resolve(Buffer.concat(parts.splice(0))));
    });
}

test('blocks of one compressed stream are read one after the other', async () => {
  const compress = compressor();
  const reader = new HeaderReader();
  const first = await reader.read(
    await compress(plainBlock('streamtype', 'error', 'port', '8080', 'requestid', '0')),
  );
  assert.deepEqual(
    [...first],
    [
      ['streamtype', ['error']],
      ['port', ['8080']],
      ['requestid', ['0']],
    ],
  );
  const second = await reader.read(await compress(plainBlock('streamtype', 'data', 'x', 'a\0b')));
  assert.deepEqual(
    [...second],
    [
      ['streamtype', ['data']],
      ['x', ['a', 'b']],
    ],
  );
  const none = await reader.read(await compress(plainBlock()));
  assert.equal(none.size, 0);
  reader.close();
});

test('what is written inflates to the block, the second one too', async () => {
  const writer = new HeaderWriter();
  const inflate = createInflate({ dictionary: DICTIONARY, finishFlush: constants.Z_SYNC_FLUSH });
  inflate.write(writer.write(new Map([['a', ['1', '2']]])));
  inflate.end(writer.write(new Map()));
  const parts: Buffer[] = [];
  inflate.on('data', (part: Buffer) => parts.push(part));
  await once(inflate, 'end');
  assert.deepEqual(Buffer.concat(parts), Buffer.concat([plainBlock('a', '1\x002'), plainBlock()]));
});

const isProtocolError = (error: unknown): boolean =>
  error instanceof MeshError && error.code === 'STREAM_PROTOCOL';

test('a block that swells beyond the limit is refused, and the reader is done', async () => {
  const reader = new HeaderReader();
  const bomb = await compressor()(Buffer.concat([uint32(1), word('a'), word(' '.repeat(10_000_000))]));
  assert.ok(bomb.length < 64 * 1024);
  await assert.rejects(reader.read(bomb), isProtocolError);
  await assert.rejects(reader.read(Buffer.alloc(1)), isProtocolError);
});

test('what is no zlib is refused', async () => {
  const reader = new HeaderReader();
  await assert.rejects(reader.read(Buffer.from('not compressed at all')), isProtocolError);
});

test('garbage in a block is refused, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(5), (bytes, count) => {
      try {
        parseHeaders(Buffer.concat([uint32(count), Buffer.from(bytes)]));
      } catch (error) {
        assert.ok(isProtocolError(error), String(error));
      }
    }),
  );
});

test('names are lower-case, present and single', () => {
  for (const words of [
    ['Port', '1'],
    ['', '1'],
    ['a', '1', 'a', '2'],
  ])
    assert.throws(() => parseHeaders(plainBlock(...words)), isProtocolError);
  assert.throws(() => parseHeaders(Buffer.concat([plainBlock('a', '1'), Buffer.alloc(1)])), isProtocolError);
});
