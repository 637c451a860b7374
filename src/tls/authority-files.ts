// The files of an authority out of a folder or a Secret: two forms that people plug in, and the Secret of a self-signed root
// (control-plane.md §5.4). Whether they fit together is authority-material.ts's matter.

import { MeshError } from '#base/errors.ts';
import { certificateBlocks } from './pem.ts';

export interface AuthorityFiles {
  /** The first certificate is the one that signs. */
  readonly certPem: string;
  readonly keyPem: string;
  /** Further certificates between it and the roots, in any order; may hold the signing one and roots, too. */
  readonly chainPem: string;
  readonly rootsPem: string;
  readonly crlPem?: string | undefined;
  /** What messages call them. */
  readonly names: AuthorityFileNames;
}

export interface AuthorityFileNames {
  readonly cert: string;
  readonly key: string;
  readonly chain: string;
  readonly roots: string;
  readonly crl: string;
}

export const PLUGGED_IN_NAMES: AuthorityFileNames = {
  cert: 'ca-cert.pem',
  key: 'ca-key.pem',
  chain: 'cert-chain.pem',
  roots: 'root-cert.pem',
  crl: 'ca-crl.pem',
};

/** Of a Secret of type kubernetes.io/tls, as cert-manager makes them. */
const TLS_SECRET_NAMES: AuthorityFileNames = {
  cert: 'tls.crt',
  key: 'tls.key',
  chain: 'tls.crt',
  roots: 'ca.crt',
  crl: 'ca-crl.pem',
};

/** File name → content. */
export type FileTexts = ReadonlyMap<string, string>;

/**
 * Undefined when none of the files is there. A part of a set is an error: whoever put it there did not mean a self-signed
 * root. @throws MeshError CERTIFICATE_INVALID; `where` is the folder or Secret
 */
export function pluggedInFiles(texts: FileTexts, where: string): AuthorityFiles | undefined {
  const names = texts.has(TLS_SECRET_NAMES.cert) ? TLS_SECRET_NAMES : PLUGGED_IN_NAMES;
  const needed = [...new Set([names.cert, names.key, names.chain, names.roots])];
  const missing = needed.filter((name) => !texts.has(name));
  if (missing.length === needed.length) return undefined;
  if (missing.length > 0)
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `${where} holds a part of a plugged-in authority only: ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing; complete the Secret cacerts, or remove it to use a self-signed root`,
    );
  const read = (name: string): string => texts.get(name) ?? '';
  return {
    certPem: read(names.cert),
    keyPem: read(names.key),
    chainPem: read(names.chain),
    rootsPem: read(names.roots),
    crlPem: texts.get(names.crl),
    names,
  };
}

/**
 * Of `istio-ca-secret`. Istio renews `ca-cert.pem` there and leaves `root-cert.pem` as it was: the signing root always
 * counts among the roots.
 */
export function selfSignedFiles(texts: FileTexts): AuthorityFiles {
  const read = (name: string): string => texts.get(name) ?? '';
  const certPem = read('ca-cert.pem');
  const rootsPem = read('root-cert.pem');
  const [own = ''] = certificateBlocks(certPem);
  const isListed = certificateBlocks(rootsPem).includes(own);
  return {
    certPem,
    keyPem: read('ca-key.pem'),
    chainPem: read('cert-chain.pem'),
    rootsPem: isListed ? rootsPem : `${own}\n${rootsPem}`,
    names: PLUGGED_IN_NAMES,
  };
}
