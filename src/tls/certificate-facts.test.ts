import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { MeshError } from '#base/errors.ts';
import { readCertificateFacts } from './certificate-facts.ts';
import { createAuthority } from './issue.ts';

const root = await createAuthority({ organization: 'one', validDays: 1 });
const leaf = new X509Certificate(
  (await root.issue({ uris: ['spiffe://cluster.local/ns/shop/sa/web'], validForMs: 60_000 })).certPem,
);

test('the facts of a certificate are as it is encoded', () => {
  const own = readCertificateFacts(leaf.raw);
  const authority = readCertificateFacts(new X509Certificate(root.certPem).raw);
  assert.equal(own.serial, leaf.serialNumber.toLowerCase());
  assert.equal(own.issuer, authority.subject);
  // Name { RDN { organizationName, UTF8String "one" } }
  assert.equal(authority.subject, '300e310c300a060355040a0c036f6e65');
  // An empty Name.
  assert.equal(own.subject, '3000');
  assert.deepEqual(Buffer.from(own.spki), leaf.publicKey.export({ format: 'der', type: 'spki' }));
  assert.match(authority.subjectKeyId ?? '', /^[0-9a-f]{40}$/);
  assert.equal(own.subjectKeyId, undefined);
});

test('any bytes are read or refused, never worse', () => {
  const readOrRefuse = (bytes: Uint8Array): void => {
    try {
      readCertificateFacts(bytes);
    } catch (error) {
      assert.ok(error instanceof MeshError && error.code === 'CERTIFICATE_INVALID', String(error));
    }
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), readOrRefuse));
  fc.assert(
    fc.property(fc.nat(leaf.raw.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(leaf.raw);
      changed[at]! ^= change;
      readOrRefuse(changed);
    }),
  );
});
