// What revocation needs to know of a certificate and Node does not tell: names and serial as they are encoded (X.509,
// RFC 5280 §4.1). Node's texts of names are for people; two different names may read alike.

import { MeshError } from '#base/errors.ts';
import { type DerElement, readDer } from './der.ts';

export interface CertificateFacts {
  /** Names are the DER of `Name`, as hexadecimal text. */
  readonly issuer: string;
  readonly subject: string;
  /** Without leading zeros. */
  readonly serial: string;
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  readonly subjectKeyId: string | undefined;
}

export const SEQUENCE = 0x30;
export const INTEGER = 0x02;
export const OCTET_STRING = 0x04;
export const OBJECT_IDENTIFIER = 0x06;
export const BOOLEAN = 0x01;
export const BIT_STRING = 0x03;
const SUBJECT_KEY_ID = '551d0e';
const KEY_USAGE = '551d0f';
const BASIC_CONSTRAINTS = '551d13';

/** Throws MeshError `CERTIFICATE_INVALID`. */
export function readCertificateFacts(der: Uint8Array): CertificateFacts {
  const tbs = new DerReader(new DerReader(der).take(SEQUENCE).content).sub(SEQUENCE);
  tbs.optional(0xa0);
  const serial = serialOf(tbs.take(INTEGER));
  tbs.take(SEQUENCE);
  const issuer = hex(tbs.take(SEQUENCE).encoded);
  tbs.take(SEQUENCE);
  const subject = hex(tbs.take(SEQUENCE).encoded);
  const spki = tbs.take(SEQUENCE).encoded;
  let subjectKeyId: string | undefined;
  for (const { oid, value } of trailingExtensions(tbs))
    if (oid === SUBJECT_KEY_ID) subjectKeyId = hex(new DerReader(value).take(OCTET_STRING).content);
  return { issuer, subject, serial, spki, subjectKeyId };
}

export interface AuthorityConstraints {
  /** basicConstraints (RFC 5280 §4.2.1.9): how many further authorities may follow below; undefined is any number. */
  readonly pathLength: number | undefined;
  /** keyUsage (§4.2.1.3), where there is one, names keyCertSign. */
  readonly maySign: boolean;
}

/** What a signing certificate says of itself. Throws MeshError `CERTIFICATE_INVALID`. */
export function readAuthorityConstraints(der: Uint8Array): AuthorityConstraints {
  const tbs = new DerReader(new DerReader(der).take(SEQUENCE).content).sub(SEQUENCE);
  tbs.optional(0xa0);
  tbs.take(INTEGER);
  // Algorithm, issuer, validity, subject, key.
  for (let field = 0; field < 5; field++) tbs.take(SEQUENCE);
  let pathLength: number | undefined;
  let maySign = true;
  for (const { oid, value } of trailingExtensions(tbs)) {
    if (oid === BASIC_CONSTRAINTS) {
      const fields = new DerReader(value).sub(SEQUENCE);
      fields.optional(BOOLEAN);
      const length = fields.optional(INTEGER);
      if (length !== undefined) pathLength = smallNumber(length);
    }
    // The first byte counts unused bits; keyCertSign is bit 5 from the left of the second.
    if (oid === KEY_USAGE) maySign = ((new DerReader(value).take(BIT_STRING).content[1] ?? 0) & 0x04) !== 0;
  }
  return { pathLength, maySign };
}

/** Read wrongly, a limit would be none. */
function smallNumber({ content }: DerElement): number {
  const value = Number.parseInt(hex(content), 16);
  if (content.length === 0 || content.length > 4 || (content[0]! & 0x80) !== 0)
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `a path length of ${content.length} bytes is no usable number`,
    );
  return value;
}

/** What follows the key in a TBSCertificate. */
function trailingExtensions(tbs: DerReader): DerExtension[] {
  tbs.optional(0x81);
  tbs.optional(0x82);
  const wrapped = tbs.optional(0xa3);
  return wrapped === undefined ? [] : readExtensions(wrapped.content);
}

export interface DerExtension {
  /** The object identifier's content, as hexadecimal text. */
  readonly oid: string;
  readonly isCritical: boolean;
  readonly value: Uint8Array;
}

/** Extensions ::= SEQUENCE OF Extension (RFC 5280 §4.1). */
export function readExtensions(encoded: Uint8Array): DerExtension[] {
  const list = new DerReader(encoded).sub(SEQUENCE);
  const extensions: DerExtension[] = [];
  while (!list.isEmpty) {
    const extension = list.sub(SEQUENCE);
    const oid = hex(extension.take(OBJECT_IDENTIFIER).content);
    const isCritical = (extension.optional(BOOLEAN)?.content[0] ?? 0) !== 0;
    extensions.push({ oid, isCritical, value: extension.take(OCTET_STRING).content });
  }
  return extensions;
}

export function serialOf({ content }: DerElement): string {
  return hex(content).replace(/^(?:00)+(?=..)/, '');
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('hex');
}

/** One element after another; each must have the tag that is asked for. */
export class DerReader {
  #rest: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#rest = bytes;
  }

  get isEmpty(): boolean {
    return this.#rest.length === 0;
  }

  /** The tag of the next element. */
  get nextTag(): number | undefined {
    return this.#rest[0];
  }

  take(tag: number): DerElement {
    const element = readDer(this.#rest);
    if (element.tag !== tag) {
      throw new MeshError(
        'CERTIFICATE_INVALID',
        `the data are not what they should be: tag ${element.tag} stands where ${tag} is expected`,
      );
    }
    this.#rest = element.rest;
    return element;
  }

  optional(tag: number): DerElement | undefined {
    return this.nextTag === tag ? this.take(tag) : undefined;
  }

  sub(tag: number): DerReader {
    return new DerReader(this.take(tag).content);
  }
}
