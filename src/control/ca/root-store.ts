// The authority's own key and certificate, in the Secret `istio-ca-secret` (control-plane.md §5.4, self-signed). Made
// once by whoever comes first; everybody else, and every restart, loads it. Keys are ECDSA P-256 instead of Istio's
// RSA 2048: signing is ten times cheaper and every peer of today accepts it. A Secret made by Istio (RSA) is used as is.

import type { Clock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { SECRETS, type Secret } from '#k8s/objects.ts';
import { isAlreadyExists, isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';

export const CA_SECRET_NAME = 'istio-ca-secret';
const CA_SECRET_TYPE = 'istio.io/ca-root';

export interface Root {
  readonly authority: Authority;
  /** What peers are told to trust; may hold more than one certificate. */
  readonly rootsPem: string;
}

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
export async function loadOrCreateRoot(deps: RootStoreDeps, options: RootStoreOptions): Promise<Root> {
  const existing = await readSecret(deps, options);
  if (existing !== undefined) return rootOf(existing, deps, options);
  const root = await makeRoot(deps, options);
  try {
    await deps.client.create(SECRETS, secretOf(root, options), options.namespace);
  } catch (error) {
    if (!isAlreadyExists(error)) throw error;
    // Another replica was first: its root counts.
    const winner = await readSecret(deps, options);
    if (winner === undefined) throw error;
    return rootOf(winner, deps, options);
  }
  deps.log.info('created a self-signed root', {
    secret: `${options.namespace}/${CA_SECRET_NAME}`,
    notAfter: root.authority.notAfter.toISOString(),
  });
  return root;
}

/**
 * Looks at the Secret again: takes over what another replica wrote, and renews a root near its end with the same key,
 * so that certificates signed before stay valid. Returns the root that holds from now on.
 */
export async function refreshRoot(
  current: Root,
  deps: RootStoreDeps,
  options: RootStoreOptions,
): Promise<Root> {
  const secret = await readSecret(deps, options);
  if (secret === undefined) {
    // Deleted under us: the key that signed everything is still here, so put it back rather than split the mesh.
    await deps.client.create(SECRETS, secretOf(current, options), options.namespace);
    deps.log.warn('the Secret of the root was gone and has been written again', { secret: CA_SECRET_NAME });
    return current;
  }
  const stored = await rootOf(secret, deps, options);
  if (!isNearItsEnd(stored.authority, deps.clock, options)) return stored;
  const renewed = await makeRoot(deps, options, stored.authority.keyPem);
  await deps.client.update(SECRETS, { ...secret, data: secretOf(renewed, options).data ?? {} });
  deps.log.info('renewed the root with the same key', { notAfter: renewed.authority.notAfter.toISOString() });
  return renewed;
}

function isNearItsEnd({ notBefore, notAfter }: Authority, clock: Clock, options: RootStoreOptions): boolean {
  const lifeMs = notAfter.getTime() - notBefore.getTime();
  return notAfter.getTime() - clock.now() < lifeMs * options.renewBelowShare;
}

async function readSecret(deps: RootStoreDeps, options: RootStoreOptions): Promise<Secret | undefined> {
  try {
    return await deps.client.get(SECRETS, CA_SECRET_NAME, options.namespace);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function makeRoot(deps: RootStoreDeps, options: RootStoreOptions, keyPem?: string): Promise<Root> {
  const authority = await createAuthority({
    organization: options.trustDomain,
    validDays: options.validDays,
    clock: deps.clock,
    ...(keyPem === undefined ? {} : { keyPem }),
  });
  return { authority, rootsPem: authority.certPem };
}

async function rootOf(secret: Secret, deps: RootStoreDeps, options: RootStoreOptions): Promise<Root> {
  const read = (key: string): string => Buffer.from(secret.data?.[key] ?? '', 'base64').toString();
  const certPem = read('ca-cert.pem');
  const keyPem = read('ca-key.pem');
  try {
    if (certPem === '' || keyPem === '')
      throw new MeshError('CERTIFICATE_INVALID', 'ca-cert.pem or ca-key.pem is missing');
    const authority = await createAuthority({
      certPem,
      keyPem,
      validDays: options.validDays,
      clock: deps.clock,
    });
    return { authority, rootsPem: read('root-cert.pem') || certPem };
  } catch (error) {
    const cause = MeshError.from(error, 'CERTIFICATE_INVALID', 'unreadable');
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `the Secret ${options.namespace}/${CA_SECRET_NAME} holds no usable root: ${cause.message}; restore it, or delete it to start a new root (every workload then needs a new certificate)`,
      { cause: error },
    );
  }
}

function secretOf({ authority, rootsPem }: Root, options: RootStoreOptions): Secret {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: CA_SECRET_NAME, namespace: options.namespace },
    type: CA_SECRET_TYPE,
    data: {
      'ca-cert.pem': base64(authority.certPem),
      'ca-key.pem': base64(authority.keyPem),
      'root-cert.pem': base64(rootsPem),
      'cert-chain.pem': '',
      'key.pem': '',
    },
  };
}
