// Reads certificate requests (PKCS#10, RFC 2986): what the sender asks for, and whether he holds the private key. Whether he
// may have it is the caller's business.

import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { MeshError } from '#base/errors.ts';
import {
  BIT_STRING,
  DerReader,
  hex,
  INTEGER,
  OBJECT_IDENTIFIER,
  readExtensions,
  SEQUENCE,
} from './certificate-facts.ts';
import { commonNameOf, type GeneralName, readGeneralNames, SET } from './x509-encoding.ts';

/** attributes [0] IMPLICIT SET OF Attribute (RFC 2986 §4.1). */
const ATTRIBUTES = 0xa0;
/** Object identifiers as the hexadecimal text of their content. */
const EXTENSION_REQUEST = '2a864886f70d01090e';
const SUBJECT_ALT_NAME = '551d11';

/** Signature algorithms: the digest, as node:crypto calls it; null where the signature has its own (RFC 8410 §3). */
const DIGESTS: ReadonlyMap<string, string | null> = new Map([
  ['2a8648ce3d0401', 'sha1'],
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2a864886f70d010105', 'sha1'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2b6570', null],
  ['2b6571', null],
]);

export interface CsrFacts {
  readonly publicKey: KeyObject;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
  readonly commonName: string | undefined;
  /** Of the requested subjectAltName. */
  readonly names: readonly GeneralName[];
  /** By an algorithm we know, and right for the key. */
  readonly signatureValid: boolean;
}

/** PEM, a single request. Throws MeshError `CERTIFICATE_INVALID`; errors of node:crypto when the key is unreadable. */
export function readCsr(pem: string): CsrFacts {
  const outer = new DerReader(derOf(pem));
  const request = outer.sub(SEQUENCE);
  const info = request.take(SEQUENCE);
  const algorithm = request.sub(SEQUENCE);
  const { content: signature } = request.take(BIT_STRING);
  if (!outer.isEmpty || !request.isEmpty || signature[0] !== 0)
    throw malformed('it does not end where it should');

  const reader = new DerReader(info.content);
  // Version 1 is the number 0.
  if (hex(reader.take(INTEGER).content) !== '00') throw malformed('its version is not 1');
  const subject = reader.take(SEQUENCE).encoded;
  const publicKeySpki = Uint8Array.from(reader.take(SEQUENCE).encoded);
  const attributes = reader.optional(ATTRIBUTES);
  const publicKey = createPublicKey({ key: Buffer.from(publicKeySpki), format: 'der', type: 'spki' });
  const digest = DIGESTS.get(hex(algorithm.take(OBJECT_IDENTIFIER).content));
  return {
    publicKey,
    publicKeySpki,
    commonName: commonNameOf(subject),
    names: attributes === undefined ? [] : requestedNames(attributes.content),
    // What is signed is the first element of the outer SEQUENCE, as it came (RFC 2986 §4.2).
    signatureValid: digest !== undefined && verify(digest, info.encoded, publicKey, signature.subarray(1)),
  };
}

function requestedNames(attributes: Uint8Array): GeneralName[] {
  const reader = new DerReader(attributes);
  const names: GeneralName[] = [];
  while (!reader.isEmpty) {
    const attribute = reader.sub(SEQUENCE);
    if (hex(attribute.take(OBJECT_IDENTIFIER).content) !== EXTENSION_REQUEST) continue;
    const values = attribute.sub(SET);
    while (!values.isEmpty)
      for (const { oid, value } of readExtensions(values.take(SEQUENCE).encoded))
        if (oid === SUBJECT_ALT_NAME) names.push(...readGeneralNames(value));
  }
  return names;
}

function derOf(pem: string): Uint8Array {
  const block = /-----BEGIN (NEW )?CERTIFICATE REQUEST-----([^-]*)-----END \1?CERTIFICATE REQUEST-----/.exec(
    pem.replaceAll('\r', ''),
  );
  if (block === null) throw malformed('it is not PEM text of the type CERTIFICATE REQUEST');
  return Buffer.from(block[2]!, 'base64');
}

const malformed = (why: string): MeshError =>
  new MeshError('CERTIFICATE_INVALID', `the data are no certificate request: ${why}`);
