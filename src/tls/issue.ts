// A certificate authority in one object: makes or loads a signing certificate, issues leaves, reads certificate requests.
// Used by the control plane, the local API server and tests. ztunnel must not import this file: what stands behind it
// weighs megabytes (docs/decisions/0003-csr-writer.md); a proxy needs only csr.ts. Who may have which name is the
// caller's decision.

// @peculiar/x509 registers its parts by decorators and needs this first.
import 'reflect-metadata';
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  X509Certificate as NodeCertificate,
  randomBytes,
  verify,
  type webcrypto,
} from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralName,
  type JsonNameParams,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { type Clock, systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { readDer } from './der.ts';
import { keyWeakness } from './key-strength.ts';

const DAY_MS = 86_400_000;
/** Peers' clocks may lag; Istio's authority dates leaves back by as much (control-plane.md §5.2). */
const BACKDATE_MS = 120_000;

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
  const signingKey = toSigningKey(privateKey);
  const keyPem = pkcs8(privateKey);
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const certPem = options.certPem ?? (await selfSign(options, signingKey, spki, clock));
  const certificate = parse('signing certificate', () => new X509Certificate(certPem));
  if (!new NodeCertificate(certPem).checkPrivateKey(privateKey)) {
    throw invalid(
      'the signing certificate and the signing key do not belong together; load both from one place',
    );
  }
  const keyId = await authorityKeyId(certificate);

  return {
    certPem: options.certPem ?? certPem,
    keyPem,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    async issue(leaf) {
      const now = clock.now();
      if (certificate.notAfter.getTime() <= now) {
        throw invalid(
          `the signing certificate ${certificate.subject} expired at ${certificate.notAfter.toISOString()}; renew the root before issuing`,
        );
      }
      const ownKey = leaf.publicKey === undefined ? newP256Key() : undefined;
      const publicKey = ownKey === undefined ? leafPublicKey(leaf.publicKey!) : createPublicKey(ownKey);
      const subject = nameOf(leaf);
      const serialNumber = newSerialNumber();
      const issued = await X509CertificateGenerator.create({
        serialNumber,
        ...(subject === undefined ? {} : { subject }),
        issuer: certificate.subjectName,
        notBefore: new Date(now - (leaf.backdateMs ?? BACKDATE_MS)),
        notAfter: new Date(Math.min(now + leaf.validForMs, certificate.notAfter.getTime())),
        publicKey: publicKey.export({ format: 'der', type: 'spki' }),
        signingKey,
        extensions: [
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment, true),
          usageOf(leaf),
          new BasicConstraintsExtension(false, undefined, true),
          keyId,
          // RFC 5280 §4.2.1.6: critical when the subject is empty.
          ...alternativeNames(leaf, subject === undefined || leaf.sanCritical === true),
        ],
      });
      const certPemOut = withNewline(issued.toString('pem'));
      const made = { certPem: certPemOut, serialNumber };
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
    const request = new Pkcs10CertificateRequest(pem);
    const publicKeySpki = new Uint8Array(request.publicKey.rawData);
    // Copied: the library's list is a subclass of Array that its methods would return again.
    const names = [...request.extensions]
      .filter((item) => item instanceof SubjectAlternativeNameExtension)
      .flatMap((extension) => [...extension.names.items]);
    const key = createPublicKey({ key: Buffer.from(publicKeySpki), format: 'der', type: 'spki' });
    return {
      publicKeySpki,
      commonName: request.subjectName.getField('CN')[0],
      uris: names.filter(({ type }) => type === 'url').map(({ value }) => value),
      otherNames: names.filter(({ type }) => type !== 'url').map(({ type, value }) => `${type}:${value}`),
      keyWeakness: keyWeakness(key),
      signatureValid: proofOfPossession(request, key),
    };
  });
}

function proofOfPossession(request: Pkcs10CertificateRequest, key: KeyObject): boolean {
  const algorithm: { readonly hash?: { readonly name?: string } } = request.signatureAlgorithm;
  // What is signed is the first element of the outer SEQUENCE, as it came (RFC 2986 §4.2).
  const der = Buffer.from(request.rawData);
  const signed = readDer(readDer(der).content).encoded;
  return verify(algorithm.hash?.name ?? null, signed, key, Buffer.from(request.signature));
}

function newP256Key(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

const pkcs8 = (key: KeyObject): string => key.export({ format: 'pem', type: 'pkcs8' }).toString();
const withNewline = (pem: string): string => (pem.endsWith('\n') ? pem : `${pem}\n`);

/** Signatures follow the kind of the authority's key (control-plane.md §5.2). */
function toSigningKey(key: KeyObject): webcrypto.CryptoKey {
  switch (key.asymmetricKeyType) {
    case 'ec':
      return key.toCryptoKey({ name: 'ECDSA', namedCurve: curveOf(key) }, true, ['sign']);
    case 'rsa':
      return key.toCryptoKey({ name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }, true, ['sign']);
    default:
      throw invalid(
        `signing keys of type ${key.asymmetricKeyType} are not supported; use an ECDSA or RSA key`,
      );
  }
}

function curveOf(key: KeyObject): string {
  const names: Readonly<Record<string, string>> = {
    prime256v1: 'P-256',
    secp384r1: 'P-384',
    secp521r1: 'P-521',
  };
  const curve = key.asymmetricKeyDetails?.namedCurve ?? 'unknown';
  const name = names[curve];
  if (name === undefined)
    throw invalid(`signing keys on the curve ${curve} are not supported; use P-256, P-384 or P-521`);
  return name;
}

function leafPublicKey(key: Uint8Array | string): KeyObject {
  return parse('public key', () =>
    typeof key === 'string'
      ? createPublicKey(key)
      : createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' }),
  );
}

async function selfSign(
  options: AuthorityOptions,
  signingKey: webcrypto.CryptoKey,
  spki: Uint8Array<ArrayBuffer>,
  clock: Clock,
): Promise<string> {
  // An issuer's name must not be empty (RFC 5280 §4.1.2.4).
  const name = nameOf(options) ?? nameOf({ commonName: 'Culvert root' })!;
  const now = clock.now();
  const certificate = await X509CertificateGenerator.create({
    serialNumber: newSerialNumber(),
    subject: name,
    issuer: name,
    notBefore: new Date(now - BACKDATE_MS),
    notAfter: new Date(now + options.validDays * DAY_MS),
    publicKey: spki,
    signingKey,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(
        KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign | KeyUsageFlags.digitalSignature,
        true,
      ),
      await SubjectKeyIdentifierExtension.create(spki),
    ],
  });
  return withNewline(certificate.toString('pem'));
}

/** The signing certificate's own key id, whatever it was made from; verifiers compare the two byte for byte. */
async function authorityKeyId(certificate: X509Certificate): Promise<AuthorityKeyIdentifierExtension> {
  const own = certificate.getExtension(SubjectKeyIdentifierExtension);
  if (own === null) return AuthorityKeyIdentifierExtension.create(certificate.publicKey);
  return new AuthorityKeyIdentifierExtension(own.keyId);
}

function usageOf({ client, server }: IssueOptions): ExtendedKeyUsageExtension {
  const both = client === undefined && server === undefined;
  const usages: ExtendedKeyUsage[] = [];
  if (both || server === true) usages.push(ExtendedKeyUsage.serverAuth);
  if (both || client === true) usages.push(ExtendedKeyUsage.clientAuth);
  return new ExtendedKeyUsageExtension(usages);
}

function alternativeNames(leaf: IssueOptions, critical: boolean): Extension[] {
  const names: JsonGeneralName[] = [
    ...(leaf.dnsNames ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(leaf.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
    ...(leaf.uris ?? []).map((value) => ({ type: 'url' as const, value })),
  ];
  return names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names, critical)];
}

/** Values are given as typed objects: as bare strings the library would read a leading `#` as hexadecimal. */
function nameOf(from: Pick<IssueOptions, 'commonName' | 'organization'>): Name | undefined {
  const { commonName, organization } = from;
  const organizations = typeof organization === 'string' ? [organization] : (organization ?? []);
  const parts: JsonNameParams = [
    ...organizations.map((utf8String) => ({ O: [{ utf8String }] })),
    ...(commonName === undefined ? [] : [{ CN: [{ utf8String: commonName }] }]),
  ];
  return parts.length === 0 ? undefined : new Name(parts);
}

/** 128 random bits, positive and never shorter (RFC 5280 §4.1.2.2 allows 20 octets). */
function newSerialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function parse<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    throw MeshError.from(thrown, 'CERTIFICATE_INVALID', `the ${what} cannot be read`);
  }
}

const invalid = (message: string): MeshError => new MeshError('CERTIFICATE_INVALID', message);
