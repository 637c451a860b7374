// A response put together from parts reads like one that was encoded whole.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeDeltaResponse } from './discovery.ts';
import { encodeRemoved, encodeResourceField, encodeResponseHead } from './discovery-parts.ts';

const TYPE = 'type.googleapis.com/test';

test('head, resources and removals make one DeltaDiscoveryResponse, in whatever order they stand', () => {
  const resource = fc.record({
    name: fc.string({ unit: 'grapheme' }),
    version: fc.string(),
    bytes: fc.uint8Array(),
    aliases: fc.array(fc.string({ minLength: 1 }), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(
      fc.array(resource, { maxLength: 5 }),
      fc.array(fc.string(), { maxLength: 5 }),
      fc.string(),
      fc.boolean(),
      (resources, removed, nonce, headFirst) => {
        const head = encodeResponseHead({
          systemVersionInfo: '2026-01-01T00:00:00Z/7',
          typeUrl: TYPE,
          nonce,
          controlPlane: '{"ID":"x"}',
        });
        const body = [
          ...resources.map((it) => encodeResourceField(TYPE, it, it.aliases)),
          encodeRemoved(removed),
        ];
        const decoded = decodeDeltaResponse(Buffer.concat(headFirst ? [head, ...body] : [...body, head]));
        assert.equal(decoded.systemVersionInfo, '2026-01-01T00:00:00Z/7');
        assert.equal(decoded.typeUrl, TYPE);
        assert.equal(decoded.nonce, nonce);
        assert.deepEqual(decoded.removed, removed);
        assert.deepEqual(
          decoded.resources.map(({ name, version, typeUrl, value, aliases = [] }) => [
            name,
            version,
            typeUrl,
            Buffer.from(value).toString('hex'),
            aliases,
          ]),
          resources.map(({ name, version, bytes, aliases }) => [
            name,
            version,
            TYPE,
            Buffer.from(bytes).toString('hex'),
            aliases,
          ]),
        );
      },
    ),
  );
});

test('the bytes are those of the field numbers of DeltaDiscoveryResponse, by hand', () => {
  const field = encodeResourceField('t', { name: 'n', version: 'v', bytes: Uint8Array.of(9) }, ['a']);
  // resources=2 {version=1 "v", resource=2 {type_url=1 "t", value=2 09}, name=3 "n", aliases=4 "a"}
  assert.equal(
    Buffer.from(field).toString('hex'),
    '1211' + '0a0176' + '12060a0174120109' + '1a016e' + '220161',
  );
  assert.equal(Buffer.from(encodeRemoved(['x'])).toString('hex'), '320178');
  const head = encodeResponseHead({ systemVersionInfo: 's', typeUrl: 't', nonce: 'n', controlPlane: 'c' });
  assert.equal(Buffer.from(head).toString('hex'), '0a0173' + '220174' + '2a016e' + '3a030a0163');
});
