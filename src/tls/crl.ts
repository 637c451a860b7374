// Reads certificate revocation lists (RFC 5280 §5), PEM or DER. Node's own `crl` option refuses every peer once a list has
// expired, and everybody whose issuer has none; the mesh wants the opposite of both (ztunnel.md §4.5). What the lists mean
// for a peer is revocation.ts's business.

import { createPublicKey, verify } from 'node:crypto';
import { MeshError, reasonOf } from '#base/errors.ts';
import {
  DerReader,
  hex,
  INTEGER,
  OBJECT_IDENTIFIER,
  readExtensions,
  SEQUENCE,
  serialOf,
} from './certificate-facts.ts';

const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const BIT_STRING = 0x03;
const EXTENSIONS = 0xa0;
/** keyIdentifier [0] IMPLICIT OCTET STRING of an AuthorityKeyIdentifier. */
const KEY_IDENTIFIER = 0x80;

const AUTHORITY_KEY_ID = '551d23';

/** Object identifier → digest; null where the algorithm has its own. */
const DIGESTS: ReadonlyMap<string, string | null> = new Map([
  ['2a8648ce3d040302', 'sha256'], // ecdsa-with-SHA256
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2a864886f70d01010b', 'sha256'], // sha256WithRSAEncryption
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2b6570', null], // Ed25519
]);

/**
 * The issuer's list of certificates that no longer count. Its dates are not looked at: a list that is late still names
 * what was revoked.
 */
export class RevocationList {
  /** DER of the issuer's `Name`, as hexadecimal text. */
  readonly issuer: string;
  readonly authorityKeyId: string | undefined;
  readonly serials: ReadonlySet<string>;
  readonly #signed: Uint8Array;
  readonly #signature: Uint8Array;
  readonly #digest: string | null;
  /** Keys that it is signed by, asked about with every handshake. Others are not kept: a peer may bring any number. */
  readonly #signers = new Set<string>();

  /** Throws MeshError `CERTIFICATE_INVALID`. */
  constructor(der: Uint8Array) {
    const outer = new DerReader(der);
    const list = outer.sub(SEQUENCE);
    if (!outer.isEmpty) throw invalid('something follows the list');
    const tbs = list.take(SEQUENCE);
    const algorithm = list.take(SEQUENCE);
    const bits = list.take(BIT_STRING).content;
    if (!list.isEmpty || bits[0] !== 0) throw invalid('its signature is malformed');
    this.#signed = tbs.encoded;
    this.#signature = bits.subarray(1);
    this.#digest = digestOf(algorithm.content);

    const fields = new DerReader(tbs.content);
    const version = fields.optional(INTEGER);
    if (version !== undefined && hex(version.content) !== '01') throw invalid('its version is unknown');
    // RFC 5280 §5.1.1.2: named twice, the second time under the signature.
    if (hex(fields.take(SEQUENCE).encoded) !== hex(algorithm.encoded))
      throw invalid('it names two signature algorithms');
    this.issuer = hex(fields.take(SEQUENCE).encoded);
    takeTime(fields);
    if (isTime(fields.nextTag)) takeTime(fields);
    const entries = fields.optional(SEQUENCE);
    this.serials = entries === undefined ? new Set() : readEntries(entries.content);
    const extensions = fields.optional(EXTENSIONS);
    this.authorityKeyId = extensions === undefined ? undefined : readListExtensions(extensions.content);
    if (!fields.isEmpty) throw invalid('something follows its last field');
  }

  /** `spki`: the SubjectPublicKeyInfo of whoever should have signed, DER. */
  isSignedBy(spki: Uint8Array): boolean {
    const key = hex(spki);
    if (this.#signers.has(key)) return true;
    const isSigner = this.#verify(spki);
    if (isSigner) this.#signers.add(key);
    return isSigner;
  }

  #verify(spki: Uint8Array): boolean {
    try {
      const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
      return verify(this.#digest, this.#signed, key, this.#signature);
    } catch {
      // A key of another kind than the signature's cannot have made it.
      return false;
    }
  }
}

/**
 * Any number of lists in PEM, other items ignored, or a single one in DER; nothing at all means nothing is revoked.
 * Throws MeshError `CERTIFICATE_INVALID`: a file of which a part cannot be read is not used at all.
 */
export function parseRevocationLists(bytes: Uint8Array): RevocationList[] {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (data[0] === SEQUENCE) return [numbered(data, 1)];
  const text = data.toString('latin1');
  if (text.trim() === '') return [];
  if (!text.includes('-----BEGIN ')) throw invalid('the file is neither PEM nor DER');
  return pemBlocks(text).map((der, index) => numbered(der, index + 1));
}

function numbered(der: Uint8Array, number: number): RevocationList {
  try {
    return new RevocationList(der);
  } catch (error) {
    throw new MeshError('CERTIFICATE_INVALID', `revocation list ${number}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function pemBlocks(text: string): Uint8Array[] {
  const begin = '-----BEGIN X509 CRL-----';
  const end = '-----END X509 CRL-----';
  const blocks: Uint8Array[] = [];
  for (let at = text.indexOf(begin); at >= 0; at = text.indexOf(begin, at)) {
    const start = at + begin.length;
    const stop = text.indexOf(end, start);
    if (stop < 0) throw invalid(`PEM block ${blocks.length + 1} has no end`);
    const base64 = text.slice(start, stop).replace(/\s+/g, '');
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) throw invalid(`PEM block ${blocks.length + 1} is not base64`);
    blocks.push(Buffer.from(base64, 'base64'));
    at = stop + end.length;
  }
  return blocks;
}

function digestOf(algorithm: Uint8Array): string | null {
  const oid = hex(new DerReader(algorithm).take(OBJECT_IDENTIFIER).content);
  const digest = DIGESTS.get(oid);
  if (digest === undefined)
    throw invalid(`its signature algorithm (${oid}) is not supported; use ECDSA, RSA or Ed25519 with SHA-2`);
  return digest;
}

function readEntries(encoded: Uint8Array): Set<string> {
  const list = new DerReader(encoded);
  const serials = new Set<string>();
  while (!list.isEmpty) {
    const entry = list.sub(SEQUENCE);
    serials.add(serialOf(entry.take(INTEGER)));
    takeTime(entry);
    if (entry.isEmpty) continue;
    // The one critical extension of entries names another issuer (RFC 5280 §5.3.3): the serial would not be this issuer's.
    if (readExtensions(entry.take(SEQUENCE).encoded).some(({ isCritical }) => isCritical))
      throw invalid('it speaks for several issuers (an indirect list), which is not supported');
  }
  return serials;
}

/** Returns the authority's key id. A critical extension changes what the list says, so an unknown one must not be passed over. */
function readListExtensions(encoded: Uint8Array): string | undefined {
  let keyId: string | undefined;
  for (const { oid, isCritical, value } of readExtensions(encoded)) {
    if (oid === AUTHORITY_KEY_ID) keyId = readKeyId(value);
    else if (isCritical)
      throw invalid(
        `it is partial (critical extension ${oid}); delta lists and lists for a part of the certificates are not supported`,
      );
  }
  return keyId;
}

function readKeyId(value: Uint8Array): string | undefined {
  const keyId = new DerReader(value).sub(SEQUENCE).optional(KEY_IDENTIFIER);
  return keyId === undefined ? undefined : hex(keyId.content);
}

function isTime(tag: number | undefined): boolean {
  return tag === UTC_TIME || tag === GENERALIZED_TIME;
}

function takeTime(fields: DerReader): void {
  fields.take(fields.nextTag === UTC_TIME ? UTC_TIME : GENERALIZED_TIME);
}

function invalid(why: string): MeshError {
  return new MeshError('CERTIFICATE_INVALID', `the revocation list cannot be used: ${why}`);
}
