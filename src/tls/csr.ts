// Writes the certificate request of a workload: PKCS#10 (RFC 2986) for a fresh P-256 key, empty subject, and exactly one
// requested extension, a critical subjectAltName with the SPIFFE id (ztunnel.md §4.1). Reading requests is issue.ts's job.
// Written by hand because the library that could do it costs ztunnel megabytes (docs/decisions/0003-csr-writer.md).

import { createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import type { SpiffeId } from '#model/identity.ts';
import { writeDer } from './der.ts';

const SEQUENCE = 0x30;
const SET = 0x31;
const INTEGER = 0x02;
const OCTET_STRING = 0x04;
const BIT_STRING = 0x03;
const OBJECT_IDENTIFIER = 0x06;
/** attributes [0] IMPLICIT SET OF Attribute (RFC 2986 §4.1). */
const ATTRIBUTES = 0xa0;
/** uniformResourceIdentifier [6] IMPLICIT IA5String (RFC 5280 §4.2.1.6). */
const URI_NAME = 0x86;

const VERSION_1 = writeDer(INTEGER, Uint8Array.of(0));
const EMPTY_NAME = writeDer(SEQUENCE);
const TRUE = Uint8Array.of(0x01, 0x01, 0xff);
/** 1.2.840.113549.1.9.14 */
const EXTENSION_REQUEST = writeDer(OBJECT_IDENTIFIER, Buffer.from('2a864886f70d01090e', 'hex'));
/** 2.5.29.17 */
const SUBJECT_ALT_NAME = writeDer(OBJECT_IDENTIFIER, Buffer.from('551d11', 'hex'));
/** 1.2.840.10045.4.3.2; ECDSA algorithms carry no parameters (RFC 5758 §3.2). */
const ECDSA_WITH_SHA256 = writeDer(
  SEQUENCE,
  writeDer(OBJECT_IDENTIFIER, Buffer.from('2a8648ce3d040302', 'hex')),
);

const newKeyPair = promisify(generateKeyPair);

export interface CertificateRequest {
  readonly csrPem: string;
  readonly privateKey: KeyObject;
}

/** A request with a key made for it; the key never leaves the process. */
export async function requestFor(identity: SpiffeId): Promise<CertificateRequest> {
  const { privateKey } = await newKeyPair('ec', { namedCurve: 'P-256' });
  return { csrPem: writeCsr(identity, privateKey), privateKey };
}

/** `privateKey` is a P-256 key. */
export function writeCsr(identity: SpiffeId, privateKey: KeyObject): string {
  const names = writeDer(SEQUENCE, writeDer(URI_NAME, Buffer.from(identity, 'ascii')));
  const extension = writeDer(SEQUENCE, SUBJECT_ALT_NAME, TRUE, writeDer(OCTET_STRING, names));
  const attribute = writeDer(SEQUENCE, EXTENSION_REQUEST, writeDer(SET, writeDer(SEQUENCE, extension)));
  const info = writeDer(
    SEQUENCE,
    VERSION_1,
    EMPTY_NAME,
    createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
    writeDer(ATTRIBUTES, attribute),
  );
  const signature = sign('sha256', info, privateKey);
  // The leading zero: no unused bits in the last byte.
  const bits = writeDer(BIT_STRING, Uint8Array.of(0), signature);
  return toPem(writeDer(SEQUENCE, info, ECDSA_WITH_SHA256, bits));
}

function toPem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`;
}
