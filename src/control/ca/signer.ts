// What the authority signs with at the moment, wherever it came from.

import type { Clock } from '#base/clock.ts';
import { type AuthorityMaterial, titleOf } from '#tls/authority-material.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';

export interface Signer {
  /** Secret `istio-ca-secret`, or files that somebody else wrote. */
  readonly source: 'self-signed' | 'plugged-in';
  readonly authority: Authority;
  /** Between a leaf and its root, signing certificate first; empty when that is a root itself. */
  readonly chainPem: readonly string[];
  /** What peers are told to trust; may hold more than one certificate. */
  readonly rootsPem: string;
  readonly crlPem: string | undefined;
  /** The first end in the chain, its root included. */
  readonly notAfter: Date;
  /** For logs. */
  readonly title: string;
}

/** @throws MeshError CERTIFICATE_INVALID */
export async function signerOf(
  source: Signer['source'],
  material: AuthorityMaterial,
  clock: Clock,
): Promise<Signer> {
  const authority = await createAuthority({
    // Text of its own: the file may hold comments and further certificates.
    certPem: material.certificate.toString(),
    keyPem: material.keyPem,
    validDays: 1,
    clock,
  });
  return {
    source,
    authority,
    chainPem: material.chain.map(pemOf),
    rootsPem: withNewline(material.rootsPem),
    crlPem: material.crlPem,
    notAfter: material.notAfter,
    title: titleOf(material.certificate),
  };
}

export const isSameSigner = (one: Signer, other: Signer): boolean =>
  one.authority.certPem === other.authority.certPem &&
  one.authority.keyPem === other.authority.keyPem &&
  one.rootsPem === other.rootsPem &&
  one.crlPem === other.crlPem &&
  one.chainPem.join('') === other.chainPem.join('');

/** Some clients join what they get without a line between (control-plane.md §5.1). */
const withNewline = (pem: string): string => (pem.endsWith('\n') ? pem : `${pem}\n`);
const pemOf = (certificate: AuthorityMaterial['certificate']): string => withNewline(certificate.toString());
