// Every way in which a plugged-in authority can be wrong, and what is right (control-plane.md §5.4, RFC 5280 §6.1).

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { KeyUsageFlags } from '@peculiar/x509';
import fc from 'fast-check';
import { newSigningCertificate, type SigningCertificate } from '../../test/lib/authorities.ts';
import { crlPem, newCrl } from '../../test/lib/crls.ts';
import { type AuthorityFiles, PLUGGED_IN_NAMES } from './authority-files.ts';
import { readAuthorityMaterial } from './authority-material.ts';
import { type Authority, createAuthority } from './issue.ts';

const DAY_MS = 86_400_000;
const now = Date.now();

let root: SigningCertificate;
let middle: SigningCertificate;
let signing: SigningCertificate;
before(async () => {
  root = await newSigningCertificate({ name: 'root' });
  middle = await newSigningCertificate({ name: 'middle', issuer: root });
  signing = await newSigningCertificate({ name: 'signing', issuer: middle });
});

const filesOf = (more: Partial<AuthorityFiles> = {}): AuthorityFiles => ({
  certPem: signing.certPem,
  keyPem: signing.keyPem,
  chainPem: signing.certPem + middle.certPem,
  rootsPem: root.certPem,
  names: PLUGGED_IN_NAMES,
  ...more,
});
const read = (more?: Partial<AuthorityFiles>) => readAuthorityMaterial(filesOf(more), now);
const pems = (certificates: readonly { toString(): string }[]): string[] => certificates.map(String);
const loaded = ({ certPem, keyPem }: SigningCertificate): Promise<Authority> =>
  createAuthority({ certPem, keyPem, validDays: 1 });

describe('used', () => {
  test('the chain from the signing certificate upwards, without the root, whatever the order of the file', () => {
    const wanted = [signing.certPem, middle.certPem];
    for (const chainPem of [
      signing.certPem + middle.certPem,
      middle.certPem + signing.certPem,
      root.certPem + middle.certPem,
      `# a comment\n${middle.certPem}\n\n${root.certPem}`,
    ])
      assert.deepEqual(pems(read({ chainPem }).chain), wanted);
  });

  test('whatever the file holds besides, in whatever order: first the path, nothing twice, nothing self-signed', async () => {
    const others = await Promise.all([
      newSigningCertificate({ name: 'aside', issuer: root }),
      newSigningCertificate({ name: 'stranger' }),
      newSigningCertificate({ name: 'middle', issuer: root }),
    ]);
    const pool = [signing, middle, root, ...others].map(({ certPem }) => certPem);
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pool), { maxLength: 8 }), (extra) => {
        const { chain } = read({ chainPem: [...extra, middle.certPem, ...extra].join('') });
        const presented = pems(chain);
        assert.deepEqual(presented.slice(0, 2), [signing.certPem, middle.certPem]);
        assert.equal(new Set(presented).size, presented.length);
        assert.ok(chain.every((member) => member.issuer !== member.subject));
      }),
      { numRuns: 200 },
    );
  });

  test('a root that signs itself has no chain; an empty cert-chain.pem is fine', () => {
    const material = read({ ...root, chainPem: '' });
    assert.deepEqual(material.chain, []);
    assert.deepEqual(material.warnings, []);
  });

  test('several roots, byte for byte; one that has expired is only a warning', async () => {
    const old = await newSigningCertificate({ name: 'old', notAfterMs: now - DAY_MS });
    const rootsPem = `# old\n${old.certPem}\n# new\n${root.certPem}`;
    const material = read({ rootsPem });
    assert.equal(material.rootsPem, rootsPem);
    assert.equal(material.roots.length, 2);
    assert.equal(material.warnings.length, 1);
    assert.match(material.warnings[0] ?? '', /root-cert\.pem: O=old expired at/);
  });

  test('a certificate of the same key from the next root stays in the chain, for who trusts only that', async () => {
    const next = await newSigningCertificate({ name: 'next' });
    const crossed = await newSigningCertificate({ name: 'middle', issuer: next, keyPem: middle.keyPem });
    const material = read({
      chainPem: middle.certPem + crossed.certPem,
      rootsPem: root.certPem + next.certPem,
    });
    assert.deepEqual(pems(material.chain), [signing.certPem, middle.certPem, crossed.certPem]);
    // And when the first root is gone, the other way is the one.
    const after = read({ chainPem: middle.certPem + crossed.certPem, rootsPem: next.certPem });
    assert.deepEqual(pems(after.chain), [signing.certPem, crossed.certPem, middle.certPem]);
  });

  test('until the first end on the way to the root', async () => {
    const notAfterMs = Math.floor(now / 1000) * 1000 + DAY_MS;
    const short = await newSigningCertificate({ name: 'short', issuer: root, notAfterMs });
    const below = await newSigningCertificate({ name: 'below', issuer: short });
    assert.equal(read({ ...below, chainPem: short.certPem }).notAfter.getTime(), notAfterMs);
  });

  test('path lengths that suffice', async () => {
    const top = await newSigningCertificate({ name: 'top', pathLength: 2 });
    const one = await newSigningCertificate({ name: 'one', issuer: top, pathLength: 1 });
    const two = await newSigningCertificate({ name: 'two', issuer: one, pathLength: 0 });
    read({ ...two, chainPem: one.certPem, rootsPem: top.certPem });
  });

  test('revocation lists of its authorities; Envoy would want one of each', async () => {
    const lists = [await newCrl(await loaded(middle)), await newCrl(await loaded(root))];
    const material = read({ crlPem: lists.map(crlPem).join('') });
    assert.equal(material.crlPem, lists.map(crlPem).join(''));
    assert.equal(material.warnings.length, 1);
    assert.match(material.warnings[0] ?? '', /ca-crl\.pem has no list of O=signing/);
    assert.equal(read({ crlPem: '' }).warnings.length, 0);
  });
});

describe('refused, with the file', () => {
  const cases: { says: string; files: () => Promise<Partial<AuthorityFiles>>; message: RegExp }[] = [
    {
      says: 'another key',
      files: async () => ({ keyPem: middle.keyPem }),
      message: /ca-key\.pem is not the key of the certificate in ca-cert\.pem/,
    },
    {
      says: 'no key',
      files: async () => ({ keyPem: 'x' }),
      message: /ca-key\.pem holds no usable private key/,
    },
    {
      says: 'a weak key',
      files: async () => {
        const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
        return { keyPem: privateKey.export({ format: 'pem', type: 'pkcs1' }).toString() };
      },
      message: /ca-key\.pem: an RSA key of 1024 bits/,
    },
    {
      says: 'a key that TLS stacks do not take in chains',
      files: async () => ({
        keyPem: generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
      }),
      message: /ca-key\.pem: an authority needs an ECDSA or RSA key/,
    },
    {
      says: 'no certificate',
      files: async () => ({ certPem: '' }),
      message: /ca-cert\.pem holds no certificate/,
    },
    {
      says: 'a certificate that cannot be read',
      files: async () => ({
        chainPem: `${middle.certPem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
      }),
      message: /certificate 2 of cert-chain\.pem cannot be read/,
    },
    {
      says: 'no root',
      files: async () => ({ rootsPem: '' }),
      message: /root-cert\.pem holds no certificate/,
    },
    {
      says: 'no authority',
      files: async () => newSigningCertificate({ name: 'leaf', issuer: middle, isAuthority: false }),
      message: /ca-cert\.pem: O=leaf is no authority/,
    },
    {
      says: 'an authority that may not sign certificates',
      files: async () =>
        newSigningCertificate({ name: 'crl signer', issuer: middle, usages: KeyUsageFlags.cRLSign }),
      message: /ca-cert\.pem: O=crl signer is no authority/,
    },
    {
      says: 'expired',
      files: async () => newSigningCertificate({ name: 'late', issuer: middle, notAfterMs: now - DAY_MS }),
      message: /ca-cert\.pem: O=late expired at 20/,
    },
    {
      says: 'not valid yet',
      files: async () => newSigningCertificate({ name: 'early', issuer: middle, notBeforeMs: now + DAY_MS }),
      message: /ca-cert\.pem: O=early is valid only from 20/,
    },
    {
      says: 'a missing intermediate',
      files: async () => ({ chainPem: signing.certPem }),
      message:
        /the chain of O=signing \(ca-cert\.pem\) does not lead to a root of root-cert\.pem: no certificate of cert-chain\.pem and root-cert\.pem has issued it \(its issuer is O=middle\)/,
    },
    {
      says: 'a root of the same name with another key',
      files: async () => ({ rootsPem: (await newSigningCertificate({ name: 'root' })).certPem }),
      message: /does not lead to a root of root-cert\.pem: above it an issuer is missing/,
    },
    {
      says: 'a self-signed certificate that is not among the roots',
      files: async () => newSigningCertificate({ name: 'alone' }),
      message: /does not lead to a root/,
    },
    {
      says: 'an expired intermediate',
      files: async () => {
        const chain = await newSigningCertificate({ name: 'old', issuer: root, notAfterMs: now - DAY_MS });
        return { ...(await newSigningCertificate({ name: 'low', issuer: chain })), chainPem: chain.certPem };
      },
      message: /above it an issuer is missing, has expired or is no authority/,
    },
    {
      says: 'too long a path',
      files: async () => {
        const chain = await newSigningCertificate({ name: 'narrow', issuer: root, pathLength: 0 });
        return { ...(await newSigningCertificate({ name: 'low', issuer: chain })), chainPem: chain.certPem };
      },
      message: /O=narrow allows 0 further authorities below it \(path length\), and there are 1/,
    },
    {
      says: 'a forged revocation list',
      files: async () => ({
        crlPem: crlPem(await newCrl(await loaded(middle), { signedBy: signing })),
      }),
      message: /list 1 of ca-crl\.pem is signed by none of these authorities/,
    },
    {
      says: 'revocation lists that cannot be read',
      files: async () => ({ crlPem: '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n' }),
      message: /ca-crl\.pem cannot be used: revocation list 1/,
    },
    {
      says: 'something else as lists',
      files: async () => ({ crlPem: root.certPem }),
      message: /holds no revocation list/,
    },
  ];
  for (const { says, files, message } of cases)
    test(says, async () => {
      const more = await files();
      assert.throws(() => read(more), { code: 'CERTIFICATE_INVALID', message });
    });
});
