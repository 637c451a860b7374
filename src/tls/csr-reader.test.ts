// Requests made by a library that has nothing in common with the reader, of every kind of key and name.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { describe, it } from 'node:test';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { readCsr } from './csr-reader.ts';
import { writeDer } from './der.ts';

type Algorithm = webcrypto.EcKeyGenParams | webcrypto.RsaHashedKeyGenParams | webcrypto.Algorithm;

const RSA = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  publicExponent: Uint8Array.of(1, 0, 1),
  modulusLength: 2048,
};
const ALGORITHMS: readonly (readonly [string, Algorithm, string])[] = [
  ['P-256', { name: 'ECDSA', namedCurve: 'P-256' }, 'SHA-256'],
  ['P-384 with SHA-384', { name: 'ECDSA', namedCurve: 'P-384' }, 'SHA-384'],
  ['P-521 with SHA-512', { name: 'ECDSA', namedCurve: 'P-521' }, 'SHA-512'],
  ['RSA', RSA, 'SHA-256'],
  ['RSA with SHA-512', { ...RSA, hash: 'SHA-512' } as Algorithm, 'SHA-512'],
  ['Ed25519', { name: 'Ed25519' }, ''],
];

async function request(algorithm: Algorithm, hash: string, name = ''): Promise<Buffer> {
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  const made = await Pkcs10CertificateRequestGenerator.create({
    name,
    keys,
    signingAlgorithm: { ...algorithm, hash } as never,
    extensions: [
      new SubjectAlternativeNameExtension([
        { type: 'url', value: 'spiffe://cluster.local/ns/a/sa/b' },
        { type: 'dns', value: 'a.example' },
        { type: 'ip', value: '10.0.0.1' },
        { type: 'ip', value: 'fd00::1' },
        { type: 'email', value: 'a@b.example' },
        { type: 'id', value: '1.2.3' },
        { type: 'dn', value: 'CN=directory' },
      ]),
    ],
  });
  return Buffer.from(made.rawData);
}

const pem = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(der).toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
const isInvalid = (error: Error): boolean => 'code' in error && error.code === 'CERTIFICATE_INVALID';

describe('reading a certificate request', () => {
  for (const [title, algorithm, hash] of ALGORITHMS) {
    it(`of a ${title} key: names of every kind, and a signature that holds only for what was signed`, async () => {
      const der = await request(algorithm, hash, 'CN=Zoë, O=x');
      const { names, commonName, signatureValid, publicKey } = readCsr(pem(der));
      assert.equal(signatureValid, true);
      assert.equal(commonName, 'Zoë');
      assert.ok(publicKey.asymmetricKeyType !== undefined);
      assert.deepEqual(names, [
        { type: 'url', value: 'spiffe://cluster.local/ns/a/sa/b' },
        { type: 'dns', value: 'a.example' },
        { type: 'ip', value: '10.0.0.1' },
        { type: 'ip', value: 'fd00::1' },
        { type: 'email', value: 'a@b.example' },
        // 1.2.3, and SEQUENCE { SET { SEQUENCE { 2.5.4.3, "directory" } } }
        { type: 'other', value: '2a03' },
        { type: 'other', value: names[6]?.value },
      ]);
      assert.match(names[6]?.value ?? '', /^30143112301006035504031[0-9a-f]*6469726563746f7279$/);
      const at = der.indexOf('a.example');
      der[at] = 'b'.charCodeAt(0);
      const forged = readCsr(pem(der));
      assert.equal(forged.signatureValid, false);
      assert.equal(forged.names[1]?.value, 'b.example');
    });
  }

  it('without attributes, names or subject', async () => {
    const keys = (await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
      'sign',
      'verify',
    ])) as webcrypto.CryptoKeyPair;
    const made = await Pkcs10CertificateRequestGenerator.create({
      keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    });
    const { names, commonName, signatureValid } = readCsr(pem(new Uint8Array(made.rawData)));
    assert.deepEqual([names, commonName, signatureValid], [[], undefined, true]);
  });

  it('refuses what is cut short, goes on, or is something else', async () => {
    const der = await request({ name: 'ECDSA', namedCurve: 'P-256' } as Algorithm, 'SHA-256');
    for (let length = 0; length < der.length; length += 7)
      assert.throws(() => readCsr(pem(der.subarray(0, length))), isInvalid, `${length} bytes`);
    assert.throws(() => readCsr(pem(Buffer.concat([der, Uint8Array.of(5, 0)]))), isInvalid);
    assert.throws(() => readCsr(pem(writeDer(0x31, der))), isInvalid);
    assert.throws(() => readCsr(pem(der).replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE')), isInvalid);
  });
});
