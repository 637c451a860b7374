import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { decodeHandOver, encodeHandOver } from './hand-over-message.ts';

const text = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

test('a listener on the wire, and a newer ztunnel’s further keys', () => {
  const message = {
    kind: 'listener',
    netns: '4:4026532301',
    port: 15_008,
    transparent: true,
    shape: 'mark=1337',
  } as const;
  assert.equal(
    Buffer.from(encodeHandOver(message)).toString(),
    '{"version":1,"kind":"listener","netns":"4:4026532301","port":15008,"transparent":true,"shape":"mark=1337"}',
  );
  assert.deepEqual(decodeHandOver(text({ version: 1, ...message, since: 'later' })), message);
  const dns = { ...message, port: 15_053, of: 'udp 127.0.0.1' };
  assert.deepEqual(decodeHandOver(encodeHandOver(dns)), dns);
  assert.deepEqual(decodeHandOver(text({ version: 1, kind: 'hello' })), { kind: 'hello' });
});

const listener = { version: 1, kind: 'listener', netns: '4:1', port: 1, transparent: false, shape: '' };
for (const [says, value, pattern] of [
  ['another version', { version: 2, kind: 'hello' }, /version is 2, expected 1/],
  ['an unknown kind', { version: 1, kind: 'goodbye' }, /kind is "goodbye"/],
  ['a namespace that is none', { ...listener, netns: 'init' }, /netns is "init", expected device:inode/],
  ['a port out of range', { ...listener, port: 65_536 }, /port is 65536/],
  ['a qualifier that is none', { ...listener, of: 4 }, /of is 4, expected a string/],
  ['a missing setting', { ...listener, transparent: undefined }, /transparent is undefined/],
  ['no object', [], /is no object/],
] as const) {
  test(`refused: ${says}`, () => {
    assert.throws(
      () => decodeHandOver(text(value)),
      (error: MeshError) => error.code === 'HAND_OVER_FAILED' && pattern.test(error.message),
    );
  });
}

test('any bytes are a message or a hand-over failure', () => {
  const anything = fc.oneof(
    fc.uint8Array(),
    fc.json().map((json) => Buffer.from(json)),
    fc
      .record({
        version: fc.constant(1),
        kind: fc.constant('listener'),
        netns: fc.string(),
        port: fc.anything(),
        transparent: fc.boolean(),
        shape: fc.string(),
      })
      .map((value) => Buffer.from(JSON.stringify(value))),
  );
  fc.assert(
    fc.property(anything, (bytes) => {
      try {
        const message = decodeHandOver(bytes);
        assert.deepEqual(decodeHandOver(encodeHandOver(message)), message);
      } catch (error) {
        assert.ok(error instanceof MeshError && error.code === 'HAND_OVER_FAILED', String(error));
      }
    }),
  );
});
