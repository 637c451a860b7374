// A certificate authority in one object: makes or loads a signing certificate, issues leaves, reads certificate requests.
// Used by the control plane, the local API server and tests. Who may have which name is the caller's decision. Written on the
// project's own DER: a library that can do it costs each of these programs 8 MB (docs/decisions/0003-csr-writer.md).

import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate,
} from 'node:crypto';
import { type Clock, systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { BIT_STRING, BOOLEAN, hex, OCTET_STRING, readCertificateFacts } from './certificate-facts.ts';
import {
  keyIdOf,
  newSerialNumber,
  type Signer,
  signCertificate,
  signerFor,
  spkiOf,
} from './certificate-writer.ts';
import { readCsr } from './csr-reader.ts';
import { writeDer } from './der.ts';
import { keyWeakness } from './key-strength.ts';
import { objectId, sequence, writeExtension, writeGeneralName, writeName } from './x509-encoding.ts';

const DAY_MS = 86_400_000;
/** Peers' clocks may lag; Istio's authority dates leaves back by as much (control-plane.md §5.2). */
const BACKDATE_MS = 120_000;

/** Object identifiers as the hexadecimal text of their content. */
const SUBJECT_KEY_ID = '551d0e';
const KEY_USAGE = '551d0f';
const SUBJECT_ALT_NAME = '551d11';
const BASIC_CONSTRAINTS = '551d13';
const AUTHORITY_KEY_ID = '551d23';
const EXTENDED_KEY_USAGE = '551d25';
const SERVER_AUTH = '2b06010505070301';
const CLIENT_AUTH = '2b06010505070302';

/** Named bits, the first one the highest; the byte before says how many of the last are unused (X.690 §11.2.2). */
const DIGITAL_SIGNATURE_AND_KEY_ENCIPHERMENT = Uint8Array.of(5, 0b1010_0000);
const DIGITAL_SIGNATURE_AND_CERT_SIGN_AND_CRL_SIGN = Uint8Array.of(1, 0b1000_0110);

export interface AuthorityOptions {
  readonly commonName?: string;
  readonly organization?: string | readonly string[];
  /** Life of a certificate made here; ignored when `certPem` is given. */
  readonly validDays: number;
  /** The signing key (PKCS#8, SEC 1 or PKCS#1); a P-256 key is made when absent. */
  readonly keyPem?: string;
  /** The signing certificate, possibly an intermediate; a self-signed one is made when absent. */
  readonly certPem?: string;
  readonly clock?: Clock;
}

export interface IssueOptions {
  readonly commonName?: string;
  readonly organization?: string | readonly string[];
  readonly dnsNames?: readonly string[];
  readonly ips?: readonly string[];
  readonly uris?: readonly string[];
  /** Extended key usage clientAuth. Neither `client` nor `server` given means both. */
  readonly client?: boolean;
  /** Extended key usage serverAuth. */
  readonly server?: boolean;
  /** Cut at the authority's own end. */
  readonly validForMs: number;
  readonly backdateMs?: number;
  /** SubjectPublicKeyInfo as DER or PEM; a P-256 key pair is made when absent. */
  readonly publicKey?: Uint8Array | string;
  /** Marks the names critical even with a subject, as workload certificates need (control-plane.md §5.2). */
  readonly sanCritical?: boolean;
}

export interface IssuedCertificate {
  readonly certPem: string;
  /** Hexadecimal, as revocation lists and logs name it. */
  readonly serialNumber: string;
  /** PKCS#8; absent when the caller brought the public key. */
  readonly keyPem?: string;
}

export interface Authority {
  readonly certPem: string;
  readonly keyPem: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** Rejects with MeshError `CERTIFICATE_INVALID` when the authority is expired or the public key unreadable. */
  issue(options: IssueOptions): Promise<IssuedCertificate>;
}

/** Rejects with MeshError `CERTIFICATE_INVALID` when key and certificate cannot be read or do not belong together. */
export async function createAuthority(options: AuthorityOptions): Promise<Authority> {
  const clock = options.clock ?? systemClock;
  const privateKey =
    options.keyPem === undefined
      ? newP256Key()
      : parse('signing key', () => createPrivateKey(options.keyPem!));
  const signer = signerFor(privateKey);
  const keyPem = pkcs8(privateKey);
  const certPem = options.certPem ?? (await selfSign(options, signer, createPublicKey(privateKey), clock));
  const certificate = parse('signing certificate', () => new X509Certificate(certPem));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw invalid(
      'the signing certificate and the signing key do not belong together; load both from one place',
    );
  }
  const facts = parse('signing certificate', () => readCertificateFacts(certificate.raw));
  const issuer = Buffer.from(facts.subject, 'hex');
  /** The certificate's own key id, whatever it was made from; verifiers compare the two byte for byte. */
  const keyId =
    facts.subjectKeyId === undefined ? keyIdOf(facts.spki) : Buffer.from(facts.subjectKeyId, 'hex');
  const notAfter = certificate.validToDate;

  return {
    certPem,
    keyPem,
    notBefore: certificate.validFromDate,
    notAfter,
    async issue(leaf) {
      const now = clock.now();
      if (notAfter.getTime() <= now) {
        throw invalid(
          `the signing certificate ${certificate.subject} expired at ${notAfter.toISOString()}; renew the root before issuing`,
        );
      }
      const ownKey = leaf.publicKey === undefined ? newP256Key() : undefined;
      const publicKey = ownKey === undefined ? leafPublicKey(leaf.publicKey!) : createPublicKey(ownKey);
      const subject = nameOf(leaf);
      const serialNumber = newSerialNumber();
      const issued = await signCertificate(signer, {
        serialNumber,
        issuer,
        subject: subject ?? sequence(),
        notBeforeMs: now - (leaf.backdateMs ?? BACKDATE_MS),
        notAfterMs: Math.min(now + leaf.validForMs, notAfter.getTime()),
        publicKey,
        extensions: [
          writeExtension(KEY_USAGE, true, writeDer(BIT_STRING, DIGITAL_SIGNATURE_AND_KEY_ENCIPHERMENT)),
          writeExtension(EXTENDED_KEY_USAGE, false, usageOf(leaf)),
          writeExtension(BASIC_CONSTRAINTS, true, sequence()),
          writeExtension(AUTHORITY_KEY_ID, false, sequence(writeDer(0x80, keyId))),
          // RFC 5280 §4.2.1.6: critical when the subject is empty.
          ...alternativeNames(leaf, subject === undefined || leaf.sanCritical === true),
        ],
      });
      const made = { certPem: issued, serialNumber: hex(serialNumber) };
      return ownKey === undefined ? made : { ...made, keyPem: pkcs8(ownKey) };
    },
  };
}

export interface ParsedCsr {
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKeySpki: Uint8Array;
  readonly commonName: string | undefined;
  /** URI names asked for. An authority that decides names itself ignores them. */
  readonly uris: readonly string[];
  /** Names of other kinds asked for, such as `dns:localhost`. */
  readonly otherNames: readonly string[];
  /** Why the key should not be certified; undefined when it may be. */
  readonly keyWeakness: string | undefined;
  /** False: the sender did not prove that it holds the private key. */
  readonly signatureValid: boolean;
}

/** Reads a PKCS#10 request in PEM. Throws MeshError `CERTIFICATE_INVALID`. */
export function parseCsr(pem: string): ParsedCsr {
  return parse('certificate request', () => {
    const { publicKey, publicKeySpki, commonName, names, signatureValid } = readCsr(pem);
    return {
      publicKeySpki,
      commonName,
      uris: names.filter(({ type }) => type === 'url').map(({ value }) => value),
      otherNames: names.filter(({ type }) => type !== 'url').map(({ type, value }) => `${type}:${value}`),
      keyWeakness: keyWeakness(publicKey),
      signatureValid,
    };
  });
}

function newP256Key(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

const pkcs8 = (key: KeyObject): string => key.export({ format: 'pem', type: 'pkcs8' }).toString();

function leafPublicKey(key: Uint8Array | string): KeyObject {
  return parse('public key', () =>
    typeof key === 'string'
      ? createPublicKey(key)
      : createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' }),
  );
}

function selfSign(
  options: AuthorityOptions,
  signer: Signer,
  publicKey: KeyObject,
  clock: Clock,
): Promise<string> {
  // An issuer's name must not be empty (RFC 5280 §4.1.2.4).
  const name = nameOf(options) ?? nameOf({ commonName: 'Culvert root' })!;
  const now = clock.now();
  return signCertificate(signer, {
    serialNumber: newSerialNumber(),
    issuer: name,
    subject: name,
    notBeforeMs: now - BACKDATE_MS,
    notAfterMs: now + options.validDays * DAY_MS,
    publicKey,
    extensions: [
      writeExtension(BASIC_CONSTRAINTS, true, sequence(writeDer(BOOLEAN, Uint8Array.of(0xff)))),
      writeExtension(KEY_USAGE, true, writeDer(BIT_STRING, DIGITAL_SIGNATURE_AND_CERT_SIGN_AND_CRL_SIGN)),
      writeExtension(SUBJECT_KEY_ID, false, writeDer(OCTET_STRING, keyIdOf(spkiOf(publicKey)))),
    ],
  });
}

function usageOf({ client, server }: IssueOptions): Uint8Array {
  const both = client === undefined && server === undefined;
  const usages: Uint8Array[] = [];
  if (both || server === true) usages.push(objectId(SERVER_AUTH));
  if (both || client === true) usages.push(objectId(CLIENT_AUTH));
  return sequence(...usages);
}

function alternativeNames(leaf: IssueOptions, isCritical: boolean): Uint8Array[] {
  const names = [
    ...(leaf.dnsNames ?? []).map((value) => writeGeneralName('dns', value)),
    ...(leaf.ips ?? []).map((value) => writeGeneralName('ip', value)),
    ...(leaf.uris ?? []).map((value) => writeGeneralName('url', value)),
  ];
  return names.length === 0 ? [] : [writeExtension(SUBJECT_ALT_NAME, isCritical, sequence(...names))];
}

function nameOf({
  commonName,
  organization = [],
}: Pick<IssueOptions, 'commonName' | 'organization'>): Uint8Array | undefined {
  return writeName(typeof organization === 'string' ? [organization] : organization, commonName);
}

function parse<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    throw MeshError.from(thrown, 'CERTIFICATE_INVALID', `the ${what} cannot be read`);
  }
}

const invalid = (message: string): MeshError => new MeshError('CERTIFICATE_INVALID', message);
