import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SessionError } from './errors.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import { decodeHuffman, encodeHuffman, huffmanLength } from './huffman.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const newDecoder = (): HpackDecoder => new HpackDecoder(65_536);

describe('Huffman', () => {
  // RFC 7541 appendix C.4 and C.6, and codes of appendix B at the ends of their lengths.
  const TEXTS: Readonly<Record<string, string>> = {
    'www.example.com': 'f1e3c2e5f23a6ba0ab90f4ff',
    'no-cache': 'a8eb10649cbf',
    'custom-key': '25a849e95ba97d7f',
    'custom-value': '25a849e95bb8e8b4bf',
    '302': '6402',
    private: 'aec3771a4b',
    'Mon, 21 Oct 2013 20:13:21 GMT': 'd07abe941054d444a8200595040b8166e082a62d1bff',
    'https://www.example.com': '9d29ad171863c78f0b97c8e9ae82ae43d3',
    'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1':
      '94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007',
    // 0x00 has 13 bits 1111111111000; three bits of padding follow.
    '\0': 'ffc7',
    // 0xff has 26 bits 3ffffee; 0xf9 has 28 bits ffffffe, 0x0a has 30 bits 3ffffffc.
    '\xff': 'fffffbbf',
    '\xf9': 'ffffffef',
    '\n': 'fffffff3',
  };
  for (const [text, code] of Object.entries(TEXTS)) {
    it(`codes ${JSON.stringify(text)} both ways`, () => {
      const bytes = hex(code);
      assert.equal(huffmanLength(text), bytes.length);
      const into = Buffer.alloc(bytes.length);
      assert.equal(encodeHuffman(text, into, 0), bytes.length);
      assert.equal(into.toString('hex'), bytes.toString('hex'));
      assert.equal(decodeHuffman(bytes, 0, bytes.length), text);
    });
  }

  it('decodes what it encodes, byte for byte', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const text = Buffer.from(bytes).toString('latin1');
        const into = Buffer.alloc(huffmanLength(text));
        encodeHuffman(text, into, 0);
        assert.equal(decodeHuffman(into, 0, into.length), text);
      }),
    );
  });

  it('refuses a wrong end, padding of a whole byte, and the end symbol', () => {
    assert.equal(decodeHuffman(hex('00'), 0, 1), undefined, '0 and three zero bits');
    assert.equal(decodeHuffman(hex('07ff'), 0, 2), undefined, '0, then eleven ones');
    assert.equal(decodeHuffman(hex('ffffffff'), 0, 4), undefined, 'the end symbol and two bits');
  });
});

describe('HPACK', () => {
  // RFC 7541 appendix C.3: three requests on one table, without Huffman.
  it('decodes the requests of C.3', () => {
    const decoder = newDecoder();
    const first = [':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com'];
    assert.deepEqual(decoder.decode(hex('828684410f7777772e6578616d706c652e636f6d')), first);
    assert.deepEqual(decoder.decode(hex('828684be58086e6f2d6361636865')), [
      ...first,
      'cache-control',
      'no-cache',
    ]);
    assert.deepEqual(decoder.decode(hex('828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565')), [
      ...[':method', 'GET', ':scheme', 'https', ':path', '/index.html', ':authority', 'www.example.com'],
      ...['custom-key', 'custom-value'],
    ]);
  });

  it('decodes the Huffman requests of C.4', () => {
    const decoder = newDecoder();
    assert.deepEqual(decoder.decode(hex('828684418cf1e3c2e5f23a6ba0ab90f4ff')), [
      ...[':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com'],
    ]);
    assert.deepEqual(decoder.decode(hex('828684be5886a8eb10649cbf'))?.slice(-2), [
      'cache-control',
      'no-cache',
    ]);
  });

  it('decodes literals without indexing and never indexed (C.2.2, C.2.3)', () => {
    assert.deepEqual(newDecoder().decode(hex('040c2f73616d706c652f70617468')), [':path', '/sample/path']);
    assert.deepEqual(newDecoder().decode(hex('100870617373776f726406736563726574')), ['password', 'secret']);
  });

  it('encodes a CONNECT request, and what repeats in one byte a header', () => {
    const encoder = new HpackEncoder();
    const list = [':method', 'CONNECT', ':authority', '10.0.0.1:80', 'baggage', 'a=1'];
    const first = encoder.encode(list);
    // 42: literal with indexing, its name that of index 2.
    assert.equal(first[0], 0x42);
    assert.deepEqual(newDecoder().decode(first), list);
    assert.equal(encoder.encode(list).toString('hex'), 'c0bfbe');
  });

  it('keeps what differs each time out of the table', () => {
    const encoder = new HpackEncoder();
    const decoder = newDecoder();
    for (let each = 0; each < 3; each++) {
      const list = ['forwarded', `for="10.0.0.1:${each}"`, 'traceparent', `00-${each}`];
      const block = encoder.encode(list);
      assert.equal(block[0]! & 0xf0, 0, 'literal without indexing');
      assert.deepEqual(decoder.decode(block), list);
    }
  });

  it('tells the peer of a smaller table and of the way through a smaller one', () => {
    const encoder = new HpackEncoder();
    encoder.limitTable(0);
    encoder.limitTable(100);
    // 20: size 0; 3f45: size 100 (31 + 69).
    assert.equal(encoder.encode([':method', 'GET']).toString('hex'), '203f4582');
    assert.equal(encoder.encode([':method', 'GET']).toString('hex'), '82');
  });

  const header = fc.tuple(
    fc.constantFrom(':authority', ':path', 'baggage', 'forwarded', 'x-a', 'x-bb', 'cookie'),
    fc.string({ maxLength: 60, unit: 'binary-ascii' }),
  );
  const step = fc.oneof(
    fc.record({ list: fc.array(header, { maxLength: 12 }) }),
    fc.record({ tableBytes: fc.integer({ min: 0, max: 5000 }) }),
  );
  it('both ends stay in step over any sequence of lists and table sizes', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const encoder = new HpackEncoder();
        const decoder = newDecoder();
        for (const each of steps) {
          if ('tableBytes' in each) encoder.limitTable(each.tableBytes);
          else assert.deepEqual(decoder.decode(encoder.encode(each.list.flat())), each.list.flat());
        }
      }),
    );
  });

  it('answers any bytes with a list or a SessionError', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (blocks) => {
        const decoder = newDecoder();
        try {
          for (const block of blocks) decoder.decode(Buffer.from(block));
        } catch (error) {
          assert.ok(error instanceof SessionError);
        }
      }),
    );
  });

  it('gives no list that is longer than allowed, though its table goes on', () => {
    const decoder = new HpackDecoder(100);
    const encoder = new HpackEncoder();
    assert.equal(decoder.decode(encoder.encode(['a', 'x'.repeat(100)])), undefined);
    // A bomb: one large entry, then references to it.
    const bomb = Buffer.concat([encoder.encode(['b', 'y'.repeat(60)]), Buffer.alloc(100, 0xbe)]);
    assert.equal(new HpackDecoder(65_536).decode(Buffer.alloc(200, 0x82)), undefined, 'more than 128 pairs');
    assert.equal(decoder.decode(bomb), undefined);
    assert.deepEqual(decoder.decode(encoder.encode(['b', 'y'.repeat(60)])), ['b', 'y'.repeat(60)]);
  });

  const BROKEN: Readonly<Record<string, string>> = {
    'index 0': '80',
    'an index beyond the table': 'be',
    'an integer without end': 'ffffffffffff7f',
    'a string longer than the block': '0005616263',
    'a block that ends in a name': '40',
    'a table size above ours': '3fe23f',
    'a table size behind a header': '8220',
  };
  for (const [what, block] of Object.entries(BROKEN)) {
    it(`refuses ${what}`, () => {
      assert.throws(() => newDecoder().decode(hex(block)), { code: 9 });
    });
  }
});
