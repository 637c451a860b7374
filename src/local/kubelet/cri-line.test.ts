import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CriLineSplitter, parseCriLine } from './cri-line.ts';
import { lastLines, plainTextOf } from './logs.ts';

const at = new Date('2026-01-02T03:04:05.678Z');

test('lines, an unfinished line, and the end', () => {
  const splitter = new CriLineSplitter('stdout');
  assert.equal(
    splitter.push(Buffer.from('one\n\ntw'), at),
    '2026-01-02T03:04:05.678Z stdout F one\n2026-01-02T03:04:05.678Z stdout F \n',
  );
  assert.equal(splitter.push(Buffer.from('o\nrest'), at), '2026-01-02T03:04:05.678Z stdout F two\n');
  assert.equal(splitter.end(at), '2026-01-02T03:04:05.678Z stdout P rest\n');
  assert.equal(splitter.end(at), '');
});

test('a line longer than 16 KiB becomes parts', () => {
  const splitter = new CriLineSplitter('stderr');
  const lines = splitter
    .push(Buffer.from(`${'x'.repeat(16 * 1024 + 10)}\n`), at)
    .trimEnd()
    .split('\n');
  assert.deepEqual(
    lines.map((line) => {
      const parsed = parseCriLine(line);
      return [parsed?.full, parsed?.text.length];
    }),
    [
      [false, 16 * 1024],
      [true, 10],
    ],
  );
});

test('a part ends between two characters', () => {
  const splitter = new CriLineSplitter('stdout');
  const text = `x${'ü'.repeat(9000)}\n`;
  assert.equal(plainTextOf(false)(splitter.push(Buffer.from(text), at)), text);
});

test('however the output is cut into chunks, it comes back whole', () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: 'grapheme', maxLength: 20 })),
      fc.array(fc.nat(40)),
      (parts, cuts) => {
        const text = `${parts.join('\n')}\n`;
        const bytes = Buffer.from(text);
        const splitter = new CriLineSplitter('stdout');
        let lines = '';
        let from = 0;
        for (const cut of cuts) {
          lines += splitter.push(bytes.subarray(from, from + cut), at);
          from += cut;
        }
        lines += splitter.push(bytes.subarray(from), at) + splitter.end(at);
        assert.equal(plainTextOf(false)(lines), text);
      },
    ),
  );
});

test('the last lines count whole lines, parts included', () => {
  const text = [
    '2026-01-01T00:00:01.000Z stdout F a',
    '2026-01-01T00:00:02.000Z stdout P b1',
    '2026-01-01T00:00:03.000Z stdout F b2',
    '2026-01-01T00:00:04.000Z stderr F c',
    '',
  ].join('\n');
  const tail = (count: number): string => plainTextOf(false)(lastLines(text, '', count));
  assert.deepEqual([0, 1, 2, 3, 9].map(tail), ['', 'c\n', 'b1b2\nc\n', 'a\nb1b2\nc\n', 'a\nb1b2\nc\n']);
  assert.equal(plainTextOf(false)(lastLines(text, '2026-01-01T00:00:04.000Z', undefined)), 'c\n');
  assert.equal(
    plainTextOf(true)(text),
    '2026-01-01T00:00:01.000Z a\n2026-01-01T00:00:02.000Z b1b2\n2026-01-01T00:00:04.000Z c\n',
  );
});

test('a long line that is followed in parts has one time', () => {
  const plain = plainTextOf(true);
  assert.equal(plain('T1 stdout P long '), 'T1 long ');
  assert.equal(plain('T2 stdout F line\nT3 stdout F next\n'), 'line\nT3 next\n');
});
