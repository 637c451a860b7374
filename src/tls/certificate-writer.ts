// Writes and signs certificates (X.509 version 3, RFC 5280): the frame; what stands in it is issue.ts's business.

import { createHash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { MeshError } from '#base/errors.ts';
import { BIT_STRING, DerReader, INTEGER, SEQUENCE } from './certificate-facts.ts';
import { writeDer } from './der.ts';
import { bitString, objectId, sequence, writeTime } from './x509-encoding.ts';

/** Object identifiers as the hexadecimal text of their content. */
const ECDSA_WITH_SHA256 = '2a8648ce3d040302';
const SHA256_WITH_RSA = '2a864886f70d01010b';
const VERSION_3 = writeDer(0xa0, writeDer(INTEGER, Uint8Array.of(2)));
const NULL = writeDer(0x05);

export interface Signer {
  /** AlgorithmIdentifier, DER. */
  readonly algorithm: Uint8Array;
  sign(data: Uint8Array): Promise<Uint8Array>;
}

/** Signatures follow the kind of the authority's key (control-plane.md §5.2). */
export function signerFor(key: KeyObject): Signer {
  return {
    algorithm: algorithmOf(key),
    sign: (data) =>
      new Promise((resolve, reject) =>
        sign('sha256', data, key, (error, signature) =>
          error === null ? resolve(signature) : reject(error),
        ),
      ),
  };
}

function algorithmOf(key: KeyObject): Uint8Array {
  switch (key.asymmetricKeyType) {
    case 'ec': {
      const curve = key.asymmetricKeyDetails?.namedCurve ?? 'unknown';
      if (!['prime256v1', 'secp384r1', 'secp521r1'].includes(curve))
        throw invalid(`signing keys on the curve ${curve} are not supported; use P-256, P-384 or P-521`);
      // ECDSA algorithms carry no parameters (RFC 5758 §3.2).
      return sequence(objectId(ECDSA_WITH_SHA256));
    }
    case 'rsa':
      return sequence(objectId(SHA256_WITH_RSA), NULL);
    default:
      throw invalid(
        `signing keys of type ${key.asymmetricKeyType} are not supported; use an ECDSA or RSA key`,
      );
  }
}

export interface Certificate {
  readonly serialNumber: Uint8Array;
  /** Names, DER. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly publicKey: KeyObject;
  readonly extensions: readonly Uint8Array[];
}

/** RFC 5280 §4.1, as PEM. */
export async function signCertificate(signer: Signer, certificate: Certificate): Promise<string> {
  const toBeSigned = sequence(
    VERSION_3,
    writeDer(INTEGER, certificate.serialNumber),
    signer.algorithm,
    certificate.issuer,
    sequence(writeTime(certificate.notBeforeMs), writeTime(certificate.notAfterMs)),
    certificate.subject,
    spkiOf(certificate.publicKey),
    writeDer(0xa3, sequence(...certificate.extensions)),
  );
  const der = sequence(toBeSigned, signer.algorithm, bitString(await signer.sign(toBeSigned)));
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

export const spkiOf = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' });

/** RFC 5280 §4.2.1.2, method (1): SHA-1 of the key's bits, without the byte that counts unused ones. */
export function keyIdOf(spki: Uint8Array): Buffer {
  const reader = new DerReader(spki).sub(SEQUENCE);
  reader.take(SEQUENCE);
  return createHash('sha1').update(reader.take(BIT_STRING).content.subarray(1)).digest();
}

/** 128 random bits, positive and never shorter (RFC 5280 §4.1.2.2 allows 20 octets). */
export function newSerialNumber(): Uint8Array {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes;
}

const invalid = (message: string): MeshError => new MeshError('CERTIFICATE_INVALID', message);
