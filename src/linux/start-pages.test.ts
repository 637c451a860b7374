import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { unchangedMappings, unmapStartPages } from './start-pages.ts';

const SMAPS = `00400000-0082e000 r--p 00000000 fe:00 42                                 /opt/my node
Size:               4280 kB
Rss:                1012 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
0082e000-03489000 r-xp 0042e000 fe:00 42                                 /opt/my node
Size:              45420 kB
Anonymous:             0 kB
072a7000-072dc000 r--p 06ea7000 fe:00 42                                 /opt/my node
Size:                212 kB
Anonymous:           208 kB
072dc000-07308000 rw-p 06edc000 fe:00 42                                 /opt/my node
Anonymous:             0 kB
07308000-0735a000 rw-p 00000000 00:00 0                                  [heap]
Anonymous:             0 kB
7f0000000000-7f0000026000 r--p 00000000 fe:00 43                         /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000030000-7f0000031000 r--s 00000000 fe:00 42                         /opt/my node
Anonymous:             0 kB
7ffc00000000-7ffc00002000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`;

test('what is unmapped: read-only mappings of the file without a page of the process itself', () => {
  assert.deepEqual(unchangedMappings(SMAPS, '/opt/my node'), [
    { start: 0x400000, bytes: 0x42e000 },
    { start: 0x82e000, bytes: 0x2c5b000 },
  ]);
  assert.deepEqual(unchangedMappings(SMAPS, '/opt/my'), []);
  assert.deepEqual(unchangedMappings('', '/opt/my node'), []);
});

test('the program goes on, with less of its file resident', () => {
  const residentFileKiB = (): number =>
    Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))![1]);
  const before = residentFileKiB();
  unmapStartPages();
  const after = residentFileKiB();
  assert.ok(after < before / 2, `${before} KiB before, ${after} after`);
  // V8's own code, OpenSSL's and ICU's, and a collection that reads the snapshot.
  assert.equal(structuredClone({ text: 'ä'.toLocaleUpperCase('de') }).text, 'Ä');
  globalThis.gc?.();
});

test('a kernel that does not tell what is mapped leaves things as they are', () => {
  unmapStartPages('/proc/self/no-such-file');
});
