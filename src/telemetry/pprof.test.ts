import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodePprof } from './pprof.ts';

test('one sample below a root, byte by byte', () => {
  const bytes = encodePprof({
    sampleTypes: [['cpu', 'ns']],
    periodType: ['cpu', 'ns'],
    period: 300,
    durationNanos: 5,
    nodes: [
      { id: 1, parent: undefined, functionName: '(root)', file: '', line: 0, values: [0] },
      { id: 2, parent: 1, functionName: 'f', file: 'a.js', line: 7, values: [300] },
    ],
  });
  const hex = [
    '0a04 0801 1002', // sample type: strings 1 and 2
    '1207 0a0102 1202ac02', // sample: location 2, value 300
    '2208 0801 2204 0801 1000', // location 1: function 1, line 0
    '2208 0802 2204 0802 1007', // location 2: function 2, line 7
    '2a08 0801 1003 1803 2000', // function 1: string 3 "(root)", no file
    '2a08 0802 1004 1804 2005', // function 2: string 4 "f", string 5 "a.js"
    '5005', // duration
    '5a04 0801 1002', // period type
    '60ac02', // period
    '3200 3203637075 32026e73 3206 28726f6f7429 320166 3204612e6a73', // "", cpu, ns, (root), f, a.js
  ].join('');
  assert.equal(Buffer.from(bytes).toString('hex'), hex.replaceAll(' ', ''));
});
