// The authority's own key and certificate, in the Secret `istio-ca-secret` (control-plane.md §5.4, self-signed). Made
// once by whoever comes first; everybody else, and every restart, loads it. Keys are ECDSA P-256 instead of Istio's
// RSA 2048: signing is ten times cheaper and every peer of today accepts it. A Secret made by Istio (RSA) is used as is.

import { X509Certificate } from 'node:crypto';
import type { Clock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { SECRETS, type Secret } from '#k8s/objects.ts';
import { isAlreadyExists, isConflict, isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { type AuthorityFiles, PLUGGED_IN_NAMES, selfSignedFiles } from '#tls/authority-files.ts';
import { isSelfSigned, readAuthorityMaterial, readCertificates, rootId } from '#tls/authority-material.ts';
import { createAuthority } from '#tls/issue.ts';
import { type Signer, signerOf } from './signer.ts';

export const CA_SECRET_NAME = 'istio-ca-secret';
const CA_SECRET_TYPE = 'istio.io/ca-root';

export interface RootStoreDeps {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface RootStoreOptions {
  readonly namespace: string;
  /** Organisation in the certificate. */
  readonly trustDomain: string;
  readonly validDays: number;
  /** Renewed when less than this share of its life is left. */
  readonly renewBelowShare: number;
}

/** Rejects with MeshError: of the API server, or `CERTIFICATE_INVALID` when the Secret is damaged. */
export async function loadOrCreateRoot(deps: RootStoreDeps, options: RootStoreOptions): Promise<Signer> {
  const existing = await readSecret(deps, options);
  if (existing !== undefined) return currentOrRenewed(existing, deps, options);
  const files = await newRoot(deps, options);
  try {
    await deps.client.create(SECRETS, secretOf(files, options), options.namespace);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    return takeTheirs(error, deps, options);
  }
  const made = await signerFrom(files, deps, options);
  deps.log.info('created a self-signed root', {
    secret: `${options.namespace}/${CA_SECRET_NAME}`,
    notAfter: made.notAfter.toISOString(),
  });
  return made;
}

/**
 * Looks at the Secret again: takes over what another replica or a person wrote, and renews a root near its end with the
 * same key, so that certificates signed before stay valid. Returns what signs from now on.
 */
export async function refreshRoot(
  current: Signer,
  deps: RootStoreDeps,
  options: RootStoreOptions,
): Promise<Signer> {
  const secret = await readSecret(deps, options);
  if (secret !== undefined) return currentOrRenewed(secret, deps, options);
  // Deleted under us: the key that signed everything is still here, so put it back rather than split the mesh.
  const { authority, rootsPem } = current;
  const files = filesOf({ certPem: authority.certPem, keyPem: authority.keyPem, rootsPem });
  try {
    await deps.client.create(SECRETS, secretOf(files, options), options.namespace);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    return takeTheirs(error, deps, options);
  }
  deps.log.warn('the Secret of the root was gone and has been written again', { secret: CA_SECRET_NAME });
  return current;
}

/** Another replica was first: what it wrote counts. */
async function takeTheirs(lost: unknown, deps: RootStoreDeps, options: RootStoreOptions): Promise<Signer> {
  const winner = await readSecret(deps, options);
  if (winner === undefined) throw lost;
  return signerFrom(filesIn(winner), deps, options);
}

async function currentOrRenewed(
  secret: Secret,
  deps: RootStoreDeps,
  options: RootStoreOptions,
): Promise<Signer> {
  const stored = filesIn(secret);
  const [certificate] = readOwn(stored, options);
  if (certificate === undefined || !isNearItsEnd(certificate, deps.clock, options))
    return signerFrom(stored, deps, options);
  const renewed = await renewedRoot(stored, deps, options);
  try {
    // Further keys in the Secret are somebody's; what the roots are is ours.
    const data = { ...secret.data, ...secretOf(renewed, options).data };
    await deps.client.update(SECRETS, { ...secret, data });
  } catch (error) {
    if (!isConflict(error)) throw error;
    return takeTheirs(error, deps, options);
  }
  const signer = await signerFrom(renewed, deps, options);
  deps.log.info('renewed the root with the same key', { notAfter: signer.notAfter.toISOString() });
  return signer;
}

function isNearItsEnd(
  { validFromDate, validToDate }: X509Certificate,
  clock: Clock,
  options: RootStoreOptions,
): boolean {
  const lifeMs = validToDate.getTime() - validFromDate.getTime();
  return validToDate.getTime() - clock.now() < lifeMs * options.renewBelowShare;
}

async function readSecret(deps: RootStoreDeps, options: RootStoreOptions): Promise<Secret | undefined> {
  try {
    return await deps.client.get(SECRETS, CA_SECRET_NAME, options.namespace);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function newRoot(
  deps: RootStoreDeps,
  options: RootStoreOptions,
  keyPem?: string,
): Promise<AuthorityFiles> {
  const { certPem, keyPem: ownKeyPem } = await createAuthority({
    organization: options.trustDomain,
    validDays: options.validDays,
    clock: deps.clock,
    ...(keyPem === undefined ? {} : { keyPem }),
  });
  return filesOf({ certPem, keyPem: ownKeyPem, rootsPem: certPem });
}

/** In place of its predecessor; the other roots, of a rotation under way, stay. */
async function renewedRoot(
  stored: AuthorityFiles,
  deps: RootStoreDeps,
  options: RootStoreOptions,
): Promise<AuthorityFiles> {
  const renewed = await newRoot(deps, options, stored.keyPem);
  const others = readCertificates(stored.rootsPem, PLUGGED_IN_NAMES.roots).filter(
    (root) => rootId(root) !== rootId(new X509Certificate(renewed.certPem)),
  );
  return { ...renewed, rootsPem: renewed.certPem + others.map((root) => root.toString()).join('') };
}

async function signerFrom(
  files: AuthorityFiles,
  deps: RootStoreDeps,
  options: RootStoreOptions,
): Promise<Signer> {
  try {
    const material = readAuthorityMaterial(files, deps.clock.now());
    for (const warning of material.warnings) deps.log.warn(warning);
    return await signerOf('self-signed', material, deps.clock);
  } catch (error) {
    throw damaged(error, options);
  }
}

function readOwn({ certPem, keyPem }: AuthorityFiles, options: RootStoreOptions): X509Certificate[] {
  try {
    if (certPem === '' || keyPem === '')
      throw new MeshError('CERTIFICATE_INVALID', 'ca-cert.pem or ca-key.pem is missing');
    const [certificate] = readCertificates(certPem, PLUGGED_IN_NAMES.cert);
    // Signed by another authority it is not ours to renew.
    return certificate !== undefined && isSelfSigned(certificate) ? [certificate] : [];
  } catch (error) {
    throw damaged(error, options);
  }
}

function damaged(error: unknown, options: RootStoreOptions): MeshError {
  return new MeshError(
    'CERTIFICATE_INVALID',
    `the Secret ${options.namespace}/${CA_SECRET_NAME} holds no usable root: ${reasonOf(error)}; restore it, or delete it to start a new root (every workload then needs a new certificate)`,
    { cause: error },
  );
}

const filesIn = (secret: Secret): AuthorityFiles =>
  selfSignedFiles(
    new Map(
      Object.entries(secret.data ?? {}).map(([key, text]) => [key, Buffer.from(text, 'base64').toString()]),
    ),
  );

const filesOf = (files: Pick<AuthorityFiles, 'certPem' | 'keyPem' | 'rootsPem'>): AuthorityFiles => ({
  ...files,
  chainPem: '',
  names: PLUGGED_IN_NAMES,
});

function secretOf({ certPem, keyPem, rootsPem }: AuthorityFiles, options: RootStoreOptions): Secret {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: CA_SECRET_NAME, namespace: options.namespace },
    type: CA_SECRET_TYPE,
    data: {
      'ca-cert.pem': base64(certPem),
      'ca-key.pem': base64(keyPem),
      'root-cert.pem': base64(rootsPem),
      'cert-chain.pem': '',
      'key.pem': '',
    },
  };
}
