import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { JsonLinesDecoder } from './json-lines.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text, 'utf8');

/** The same bytes in pieces of the given sizes (the last piece takes the rest). */
function cut(whole: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (const size of sizes) {
    pieces.push(whole.subarray(at, at + size));
    at += size;
  }
  pieces.push(whole.subarray(at));
  return pieces;
}

test('any chunking gives the same values', () => {
  fc.assert(
    fc.property(
      fc.array(fc.jsonValue({ stringUnit: 'binary' })),
      fc.array(fc.nat(12)),
      fc.boolean(),
      (values, sizes, newlineAtEnd) => {
        const text = values.map((value) => JSON.stringify(value)).join('\n') + (newlineAtEnd ? '\n' : '');
        const decoder = new JsonLinesDecoder();
        const decoded = cut(bytes(text), sizes).flatMap((piece) => decoder.push(piece));
        decoded.push(...decoder.end());
        assert.deepEqual(decoded, JSON.parse(JSON.stringify(values)));
      },
    ),
  );
});

test('a character split over two chunks survives, and chunks may be overwritten by the sender afterwards', () => {
  const line = bytes('{"name":"Zürich – 東京"}\n');
  for (let at = 1; at < line.length; at++) {
    const decoder = new JsonLinesDecoder();
    const first = Uint8Array.from(line.subarray(0, at));
    assert.deepEqual(decoder.push(first), []);
    first.fill(0);
    assert.deepEqual(decoder.push(line.subarray(at)), [{ name: 'Zürich – 東京' }]);
  }
});

test('empty lines and carriage returns carry nothing', () => {
  const decoder = new JsonLinesDecoder();
  assert.deepEqual(decoder.push(bytes('\n\r\n{"a":1}\r\n\n')), [{ a: 1 }]);
  assert.deepEqual(decoder.end(), []);
});

test('a stream cut in the middle of an object is an error', () => {
  const decoder = new JsonLinesDecoder();
  assert.deepEqual(decoder.push(bytes('{"type":"ADDED","obj')), []);
  assert.throws(() => decoder.end(), SyntaxError);
});

test('malformed lines and endless lines are errors', () => {
  assert.throws(() => new JsonLinesDecoder().push(bytes('{oops}\n')), SyntaxError);
  const decoder = new JsonLinesDecoder(8);
  assert.deepEqual(decoder.push(bytes('"123456"\n')), ['123456']);
  assert.deepEqual(decoder.push(bytes('"1234')), []);
  assert.throws(() => decoder.push(bytes('567"')), /longer than 8 bytes/);
});
