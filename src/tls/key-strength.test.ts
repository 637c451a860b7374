import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { keyWeakness } from './key-strength.ts';

test('what peers can use and nobody can break', () => {
  for (const namedCurve of ['P-256', 'P-384', 'P-521'])
    assert.equal(keyWeakness(generateKeyPairSync('ec', { namedCurve }).publicKey), undefined, namedCurve);
  assert.equal(keyWeakness(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey), undefined);
  assert.equal(keyWeakness(generateKeyPairSync('ed25519').publicKey), undefined);
});

test('what is too short, on another curve or of another kind, and why', () => {
  const says = (pattern: RegExp, key: Parameters<typeof keyWeakness>[0]): void =>
    assert.match(keyWeakness(key) ?? 'accepted', pattern);
  says(/RSA key of 1024 bits/, generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey);
  says(/RSA key of 1024 bits/, generateKeyPairSync('rsa-pss', { modulusLength: 1024 }).publicKey);
  says(/secp224r1/, generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).publicKey);
  says(/secp256k1/, generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey);
  says(/ed448/, generateKeyPairSync('ed448').publicKey);
  says(/x25519/, generateKeyPairSync('x25519').publicKey);
});

test('an RSA key whose exponent is one: its signatures are their messages', () => {
  const { n } = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' });
  const key = createPublicKey({ key: { kty: 'RSA', n: n!, e: 'AQ' }, format: 'jwk' });
  assert.match(keyWeakness(key) ?? 'accepted', /exponent 1/);
});
