// Revocation lists made by a library, for tests: the public oracle of our reader.

import 'reflect-metadata';
import {
  createPrivateKey,
  createPublicKey,
  X509Certificate as NodeCertificate,
  type webcrypto,
} from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  Extension,
  X509Certificate,
  X509CertificateGenerator,
  X509CrlGenerator,
  X509CrlReason,
} from '@peculiar/x509';
import { type Authority, createAuthority } from '#tls/issue.ts';

export interface CrlOptions {
  /** Hexadecimal, or certificates in PEM. */
  readonly revoked?: readonly string[];
  readonly thisUpdate?: Date;
  readonly nextUpdate?: Date;
  /** Signs in the authority's place. */
  readonly signedBy?: Pick<Authority, 'keyPem'>;
  readonly withKeyId?: boolean;
  /** No extensions at all. */
  readonly isVersion1?: boolean;
  readonly extensions?: readonly Extension[];
}

const HOUR_MS = 3_600_000;

export async function newCrl(authority: Authority, options: CrlOptions = {}): Promise<Buffer<ArrayBuffer>> {
  const { revoked = [] } = options;
  const certificate = new X509Certificate(authority.certPem);
  const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' };
  const list = await X509CrlGenerator.create({
    issuer: certificate.subjectName,
    thisUpdate: options.thisUpdate ?? new Date(Date.now() - HOUR_MS),
    nextUpdate: options.nextUpdate ?? new Date(Date.now() + HOUR_MS),
    entries: revoked.map((item) => ({
      serialNumber: item.includes('BEGIN') ? new NodeCertificate(item).serialNumber : item,
      reason: X509CrlReason.keyCompromise,
    })),
    ...(options.isVersion1 === true ? {} : { extensions: await extensionsOf(authority, options) }),
    signingKey: signingKeyOf(options.signedBy ?? authority),
    signingAlgorithm,
  });
  return Buffer.from(list.rawData);
}

async function extensionsOf(
  { certPem }: Authority,
  { withKeyId = true, extensions = [] }: CrlOptions,
): Promise<Extension[]> {
  const key = createPublicKey(certPem).export({ format: 'der', type: 'spki' });
  return [
    ...(withKeyId ? [await AuthorityKeyIdentifierExtension.create(key)] : []),
    // cRLNumber (RFC 5280 §5.2.3)
    new Extension('2.5.29.20', false, Uint8Array.of(0x02, 0x01, 0x01)),
    ...extensions,
  ];
}

/** A signing certificate under `root`, and the authority that uses it. */
export async function newIntermediate(root: Authority, organization: string): Promise<Authority> {
  const made = await createAuthority({ organization, validDays: 1 });
  const own = new X509Certificate(made.certPem);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: '0123',
    subject: own.subjectName,
    issuer: new X509Certificate(root.certPem).subjectName,
    notBefore: own.notBefore,
    notAfter: own.notAfter,
    publicKey: own.publicKey,
    signingKey: signingKeyOf(root),
    extensions: own.extensions,
  });
  return createAuthority({ validDays: 1, keyPem: made.keyPem, certPem: `${certificate.toString('pem')}\n` });
}

function signingKeyOf({ keyPem }: Pick<Authority, 'keyPem'>): webcrypto.CryptoKey {
  return createPrivateKey(keyPem).toCryptoKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign']);
}

export function crlPem(der: Uint8Array): string {
  const base64 = Buffer.from(der).toString('base64');
  return `-----BEGIN X509 CRL-----\n${base64.match(/.{1,64}/g)!.join('\n')}\n-----END X509 CRL-----\n`;
}
