// Signing certificates of every kind, and certificate requests with any key and names, made by a library for tests.

import 'reflect-metadata';
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

export interface SigningCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface SigningCertificateOptions {
  readonly name: string;
  /** Self-signed without one. */
  readonly issuer?: SigningCertificate;
  /** PKCS#8; a P-256 key is made when absent. */
  readonly keyPem?: string;
  readonly pathLength?: number;
  readonly isAuthority?: boolean;
  readonly usages?: KeyUsageFlags;
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

const DAY_MS = 86_400_000;

export async function newSigningCertificate(options: SigningCertificateOptions): Promise<SigningCertificate> {
  const { name, issuer, isAuthority = true, pathLength } = options;
  const keyPem =
    options.keyPem ??
    generateKeyPairSync('ec', { namedCurve: 'P-256' })
      .privateKey.export({ format: 'pem', type: 'pkcs8' })
      .toString();
  const key = signingKey(keyPem);
  const publicKey = publicKeyOf(keyPem);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: `40${randomBytes(15).toString('hex')}`,
    subject: `O=${name}`,
    issuer: issuer === undefined ? `O=${name}` : new X509Certificate(issuer.certPem).subjectName,
    notBefore: new Date(options.notBeforeMs ?? Date.now() - DAY_MS),
    notAfter: new Date(options.notAfterMs ?? Date.now() + 30 * DAY_MS),
    publicKey,
    signingKey: issuer === undefined ? key : signingKey(issuer.keyPem),
    extensions: [
      new BasicConstraintsExtension(isAuthority, pathLength, true),
      new KeyUsagesExtension(options.usages ?? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(publicKey),
      // Without it OpenSSL takes the first of two roots of one name, and that may be the wrong one.
      ...(issuer === undefined
        ? []
        : [await AuthorityKeyIdentifierExtension.create(publicKeyOf(issuer.keyPem))]),
    ],
  });
  return { certPem: `${certificate.toString('pem')}\n`, keyPem };
}

export interface CsrOptions {
  readonly keys?: webcrypto.CryptoKeyPair;
  readonly names?: JsonGeneralNames;
  readonly commonName?: string;
}

/** PEM. */
export async function newCsr({ keys, names = [], commonName }: CsrOptions): Promise<string> {
  const pair =
    keys ??
    (await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']));
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: commonName === undefined ? '' : `CN=${commonName}`,
    keys: pair,
    signingAlgorithm: { name: pair.privateKey.algorithm.name, hash: 'SHA-256' },
    extensions: names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)],
  });
  return `${request.toString('pem')}\n`;
}

export const rsaKeys = (modulusLength: number): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(
    { name: 'RSASSA-PKCS1-v1_5', modulusLength, publicExponent: Uint8Array.of(1, 0, 1), hash: 'SHA-256' },
    true,
    ['sign', 'verify'],
  );

function signingKey(keyPem: string): webcrypto.CryptoKey {
  return createPrivateKey(keyPem).toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign']);
}

function publicKeyOf(keyPem: string): webcrypto.CryptoKey {
  return createPublicKey(keyPem).toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify']);
}
