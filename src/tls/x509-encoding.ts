// The DER that certificates and certificate requests are made of (RFC 5280, RFC 2986), as `issue.ts` writes and reads it.

import { MeshError } from '#base/errors.ts';
import { ipFromBytes, ipToBytes, parseIp } from '#net/ip.ts';
import {
  BIT_STRING,
  BOOLEAN,
  DerReader,
  hex,
  OBJECT_IDENTIFIER,
  OCTET_STRING,
  SEQUENCE,
} from './certificate-facts.ts';
import { writeDer } from './der.ts';

export const SET = 0x31;
const UTF8_STRING = 0x0c;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const TRUE = writeDer(BOOLEAN, Uint8Array.of(0xff));

/** Object identifiers as the hexadecimal text of their content. */
const COMMON_NAME = '550403';
const ORGANIZATION = '55040a';

export const sequence = (...contents: readonly Uint8Array[]): Uint8Array => writeDer(SEQUENCE, ...contents);
export const objectId = (oid: string): Uint8Array => writeDer(OBJECT_IDENTIFIER, Buffer.from(oid, 'hex'));
/** A bit string of whole bytes. */
export const bitString = (bytes: Uint8Array): Uint8Array => writeDer(BIT_STRING, Uint8Array.of(0), bytes);

/** RFC 5280 §4.1.2.5: two digits for the year through 2049, four from then on; whole seconds. */
export function writeTime(timeMs: number): Uint8Array {
  const digits = new Date(timeMs).toISOString().slice(0, 19).replace(/\D/g, '');
  const year = Number(digits.slice(0, 4));
  return year >= 1950 && year < 2050
    ? writeDer(UTC_TIME, Buffer.from(`${digits.slice(2)}Z`))
    : writeDer(GENERALIZED_TIME, Buffer.from(`${digits}Z`));
}

/** The organizations, then the common name, each in a set of its own; undefined when there is neither. */
export function writeName(
  organizations: readonly string[],
  commonName: string | undefined,
): Uint8Array | undefined {
  const attribute = (oid: string, text: string): Uint8Array =>
    writeDer(SET, sequence(objectId(oid), writeDer(UTF8_STRING, Buffer.from(text))));
  const parts = organizations.map((organization) => attribute(ORGANIZATION, organization));
  if (commonName !== undefined) parts.push(attribute(COMMON_NAME, commonName));
  return parts.length === 0 ? undefined : sequence(...parts);
}

/** The first common name of an encoded `Name`. */
export function commonNameOf(name: Uint8Array): string | undefined {
  const sets = new DerReader(name).sub(SEQUENCE);
  while (!sets.isEmpty) {
    const attributes = sets.sub(SET);
    while (!attributes.isEmpty) {
      const attribute = attributes.sub(SEQUENCE);
      const oid = hex(attribute.take(OBJECT_IDENTIFIER).content);
      if (oid !== COMMON_NAME || attribute.nextTag === undefined) continue;
      const { tag, content } = attribute.take(attribute.nextTag);
      return Buffer.from(content).toString(tag === UTF8_STRING ? 'utf8' : 'latin1');
    }
  }
  return undefined;
}

export function writeExtension(oid: string, isCritical: boolean, value: Uint8Array): Uint8Array {
  return sequence(objectId(oid), ...(isCritical ? [TRUE] : []), writeDer(OCTET_STRING, value));
}

/** `value` of a kind not listed here is the hexadecimal text of its content. */
export interface GeneralName {
  readonly type: 'dns' | 'ip' | 'url' | 'email' | 'other';
  readonly value: string;
}

/** RFC 5280 §4.2.1.6; implicit tags. */
const EMAIL = 0x81;
const DNS = 0x82;
const URI = 0x86;
const IP = 0x87;

export function writeGeneralName(type: 'dns' | 'ip' | 'url', value: string): Uint8Array {
  if (type !== 'ip') return writeDer(type === 'dns' ? DNS : URI, ia5(value));
  const address = parseIp(value);
  if (address === undefined)
    throw new MeshError('CERTIFICATE_INVALID', `${JSON.stringify(value)} is no IP address to certify`);
  return writeDer(IP, ipToBytes(address));
}

/** The names of a subjectAltName extension. */
export function readGeneralNames(value: Uint8Array): GeneralName[] {
  const list = new DerReader(value).sub(SEQUENCE);
  const names: GeneralName[] = [];
  while (!list.isEmpty) {
    const { tag, content } = list.take(list.nextTag!);
    names.push(generalName(tag, content));
  }
  return names;
}

function generalName(tag: number, content: Uint8Array): GeneralName {
  switch (tag) {
    case DNS:
      return { type: 'dns', value: fromIa5(content) };
    case EMAIL:
      return { type: 'email', value: fromIa5(content) };
    case URI:
      return { type: 'url', value: fromIa5(content) };
    case IP:
      return content.length === 4 || content.length === 16
        ? { type: 'ip', value: ipFromBytes(content) }
        : { type: 'other', value: hex(content) };
    default:
      return { type: 'other', value: hex(content) };
  }
}

function ia5(text: string): Uint8Array {
  if (/[^\0-\x7f]/.test(text))
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `the name ${JSON.stringify(text)} has characters beyond ASCII, which certificates cannot hold`,
    );
  return Buffer.from(text, 'latin1');
}

function fromIa5(bytes: Uint8Array): string {
  if (bytes.some((byte) => byte > 0x7f))
    throw new MeshError('CERTIFICATE_INVALID', 'a name has bytes beyond ASCII');
  return Buffer.from(bytes).toString('latin1');
}
