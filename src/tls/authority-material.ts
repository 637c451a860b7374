// What an authority signs with and is trusted by, as files: signing certificate and key, the chain above it, the roots, and
// revocation lists (control-plane.md §5.4). Read by the control plane and by the commands that show and rehearse; whatever
// would fail at a peer later is said here, with the file's name.

import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { AuthorityFileNames, AuthorityFiles } from './authority-files.ts';
import { readAuthorityConstraints, readCertificateFacts } from './certificate-facts.ts';
import { parseRevocationLists } from './crl.ts';
import { keyWeakness } from './key-strength.ts';
import { certificateBlocks } from './pem.ts';

export interface AuthorityMaterial {
  readonly certificate: X509Certificate;
  readonly keyPem: string;
  /** What a leaf is presented with: the signing certificate first, then upwards, never a self-signed one. */
  readonly chain: readonly X509Certificate[];
  readonly roots: readonly X509Certificate[];
  /** As it was read: peers get it byte for byte. */
  readonly rootsPem: string;
  readonly crlPem: string | undefined;
  /** The first end among the signing certificate, what is above it and its root. */
  readonly notAfter: Date;
  /** Works, but somebody should know. */
  readonly warnings: readonly string[];
}

const MAX_PATH = 8;

/** Throws MeshError `CERTIFICATE_INVALID` with a sentence that names the file. */
export function readAuthorityMaterial(files: AuthorityFiles, nowMs: number): AuthorityMaterial {
  const { names } = files;
  const [certificate] = readCertificates(files.certPem, names.cert);
  if (certificate === undefined) throw invalid(`${names.cert} holds no certificate`);
  checkKey(certificate, files);
  const chainFile = readCertificates(files.chainPem, names.chain);
  const roots = readCertificates(files.rootsPem, names.roots);
  if (roots.length === 0) throw invalid(`${names.roots} holds no certificate`);
  checkSigner(certificate, names.cert, nowMs);

  const path = pathToRoot(
    certificate,
    [...chainFile, ...readCertificates(files.certPem, names.cert)],
    roots,
    nowMs,
  );
  if (path === undefined) throw invalid(explainNoPath(certificate, chainFile, roots, names));
  checkPathLengths(path);
  const warnings: string[] = [];
  for (const root of roots)
    if (!isValidAt(root, nowMs))
      warnings.push(`${names.roots}: ${titleOf(root)} ${dateProblem(root, nowMs)}`);
  checkRevocationLists(files, [...chainFile, ...path], roots, warnings);
  return {
    certificate,
    keyPem: files.keyPem,
    chain: presentedChain(path, chainFile),
    roots,
    rootsPem: files.rootsPem,
    crlPem: files.crlPem,
    notAfter: new Date(Math.min(...path.map((member) => member.validToDate.getTime()))),
    warnings,
  };
}

export function readCertificates(pem: string, what: string): X509Certificate[] {
  return certificateBlocks(pem).map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch (error) {
      throw invalid(`certificate ${index + 1} of ${what} cannot be read: ${reasonOf(error)}`, error);
    }
  });
}

function checkKey(certificate: X509Certificate, { keyPem, names }: AuthorityFiles): void {
  let key: KeyObject;
  try {
    key = createPrivateKey(keyPem);
  } catch (error) {
    throw invalid(`${names.key} holds no usable private key: ${reasonOf(error)}`, error);
  }
  // Ed25519 is fine for a leaf, but TLS stacks of the field do not offer it for signatures in chains.
  const weakness =
    keyWeakness(key) ??
    (key.asymmetricKeyType === 'ed25519' ? 'an authority needs an ECDSA or RSA key' : undefined);
  if (weakness !== undefined) throw invalid(`${names.key}: ${weakness}`);
  if (!certificate.checkPrivateKey(key))
    throw invalid(
      `${names.key} is not the key of the certificate in ${names.cert}; take both from one place`,
    );
}

function checkSigner(certificate: X509Certificate, name: string, nowMs: number): void {
  if (!certificate.ca || !readAuthorityConstraints(certificate.raw).maySign)
    throw invalid(`${name}: ${titleOf(certificate)} is no authority: it may not sign certificates`);
  const problem = dateProblem(certificate, nowMs);
  if (problem !== undefined) throw invalid(`${name}: ${titleOf(certificate)} ${problem}`);
}

/** The signing certificate first, its root last; one element when it is a root itself. Only valid certificates count. */
function pathToRoot(
  signer: X509Certificate,
  between: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  nowMs: number,
): X509Certificate[] | undefined {
  let paths: X509Certificate[][] = [[signer]];
  for (let length = 1; length <= MAX_PATH; length++) {
    for (const path of paths) {
      const top = path.at(-1) as X509Certificate;
      // A root may stand in the chain under the same bytes, or have been renewed with the same key.
      if (roots.some((root) => isSame(root, top)) && isValidAt(top, nowMs)) return path;
      const root = roots.find((candidate) => isValidAt(candidate, nowMs) && hasIssued(candidate, top));
      if (root !== undefined && !isSelfSigned(top)) return [...path, root];
    }
    paths = paths.flatMap((path) => {
      const top = path.at(-1) as X509Certificate;
      return between
        .filter(
          (candidate) =>
            candidate.ca &&
            isValidAt(candidate, nowMs) &&
            hasIssued(candidate, top) &&
            !path.some((member) => isSame(member, candidate)),
        )
        .map((candidate) => [...path, candidate]);
    });
  }
  return undefined;
}

function explainNoPath(
  signer: X509Certificate,
  between: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  names: AuthorityFileNames,
): string {
  const issuers = [...between, ...roots].filter((candidate) => hasIssued(candidate, signer));
  const end =
    issuers.length === 0
      ? `no certificate of ${names.chain} and ${names.roots} has issued it (its issuer is ${oneLine(signer.issuer)})`
      : 'above it an issuer is missing, has expired or is no authority';
  return `the chain of ${titleOf(signer)} (${names.cert}) does not lead to a root of ${names.roots}: ${end}`;
}

/** RFC 5280 §6.1.4: self-issued certificates do not count. The leaf to be signed stands below `path`. */
function checkPathLengths(path: readonly X509Certificate[]): void {
  let below = 0;
  for (const member of path) {
    const { pathLength } = readAuthorityConstraints(member.raw);
    if (pathLength !== undefined && below > pathLength)
      throw invalid(
        `${titleOf(member)} allows ${pathLength} further authorities below it (path length), and there are ${below}`,
      );
    if (!isSelfIssued(member)) below += 1;
  }
}

/** In the order of the path; then what leads elsewhere, such as to the next root, as the file has it. */
function presentedChain(
  path: readonly X509Certificate[],
  chainFile: readonly X509Certificate[],
): X509Certificate[] {
  const chain = path.filter((member) => !isSelfSigned(member));
  for (const other of chainFile)
    if (!isSelfSigned(other) && !chain.some((member) => isSame(member, other))) chain.push(other);
  return chain;
}

function checkRevocationLists(
  { crlPem, names }: AuthorityFiles,
  chain: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  warnings: string[],
): void {
  if (crlPem === undefined || crlPem.trim() === '') return;
  let lists: ReturnType<typeof parseRevocationLists>;
  try {
    lists = parseRevocationLists(Buffer.from(crlPem));
  } catch (error) {
    throw invalid(`${names.crl} cannot be used: ${reasonOf(error)}`, error);
  }
  if (lists.length === 0) throw invalid(`${names.crl} holds no revocation list in PEM`);
  const isOf = (list: (typeof lists)[number], authority: X509Certificate): boolean => {
    const { subject, spki } = readCertificateFacts(authority.raw);
    return list.issuer === subject && list.isSignedBy(spki);
  };
  const known = [...chain, ...roots];
  for (const [index, list] of lists.entries())
    if (!known.some((authority) => isOf(list, authority)))
      throw invalid(`list ${index + 1} of ${names.crl} is signed by none of these authorities`);
  const silent = chain.filter((authority) => !lists.some((list) => isOf(list, authority)));
  for (const title of new Set(silent.map(titleOf)))
    warnings.push(
      `${names.crl} has no list of ${title}: Envoy refuses every peer below an authority without one`,
    );
}

export const isSame = (one: X509Certificate, other: X509Certificate): boolean => one.raw.equals(other.raw);
/** Equal for a root and its renewals with the same key: either verifies what the other has signed. */
export const rootId = ({ subject, publicKey }: X509Certificate): string =>
  `${subject} ${publicKey.export({ format: 'der', type: 'spki' }).toString('base64')}`;

const isSelfIssued = (certificate: X509Certificate): boolean => certificate.issuer === certificate.subject;
export const isSelfSigned = (certificate: X509Certificate): boolean =>
  isSelfIssued(certificate) && certificate.verify(certificate.publicKey);

/** One of `chain` was signed by `root`: who trusts it accepts the chain. Dates are not looked at. */
export const issuedBy = (root: X509Certificate, chain: readonly X509Certificate[]): boolean =>
  chain.some((member) => hasIssued(root, member));

function hasIssued(authority: X509Certificate, child: X509Certificate): boolean {
  return child.checkIssued(authority) && child.verify(authority.publicKey);
}

const isValidAt = (certificate: X509Certificate, nowMs: number): boolean =>
  dateProblem(certificate, nowMs) === undefined;

function dateProblem(certificate: X509Certificate, nowMs: number): string | undefined {
  if (certificate.validToDate.getTime() <= nowMs)
    return `expired at ${certificate.validToDate.toISOString()}`;
  if (certificate.validFromDate.getTime() > nowMs)
    return `is valid only from ${certificate.validFromDate.toISOString()}`;
  return undefined;
}

export const titleOf = ({ subject, serialNumber }: X509Certificate): string =>
  oneLine(subject) || `certificate ${serialNumber}`;

const oneLine = (name: string | undefined): string => (name ?? '').replaceAll('\n', ', ');

function invalid(message: string, cause?: unknown): MeshError {
  return new MeshError('CERTIFICATE_INVALID', message, cause === undefined ? {} : { cause });
}
