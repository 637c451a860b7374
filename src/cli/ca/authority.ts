// The authority of a cluster: the Secret it signs with, and what is wrong with it.

import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { SECRETS, type Secret } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { type AuthorityFiles, pluggedInFiles, selfSignedFiles } from '#tls/authority-files.ts';
import { type AuthorityMaterial, readAuthorityMaterial } from '#tls/authority-material.ts';
import { SYSTEM_NAMESPACE } from '../cluster-options.ts';

export const SELF_SIGNED_SECRET = 'istio-ca-secret';
const PLUGGED_IN_SECRET = 'cacerts';

export interface ClusterAuthority {
  readonly source: 'self-signed' | 'plugged-in';
  readonly secret: Secret;
  readonly material: AuthorityMaterial;
}

/** The control plane prefers what is plugged in. @throws MeshError CONFIG_INVALID, CERTIFICATE_INVALID, API_STATUS */
export async function readAuthority(client: KubeClient, nowMs: number): Promise<ClusterAuthority> {
  const pluggedIn = await readSecret(client, PLUGGED_IN_SECRET);
  if (pluggedIn !== undefined) {
    const files = pluggedInFiles(secretTexts(pluggedIn), placeOf(pluggedIn));
    if (files !== undefined) return authorityOf('plugged-in', pluggedIn, files, nowMs);
  }
  const secret = await readSecret(client, SELF_SIGNED_SECRET);
  if (secret === undefined)
    throw new MeshError(
      'CONFIG_INVALID',
      `namespace ${SYSTEM_NAMESPACE} has neither Secret ${PLUGGED_IN_SECRET} nor ${SELF_SIGNED_SECRET}: no control plane has signed anything in this cluster; to install the mesh: culvert install`,
    );
  return authorityOf('self-signed', secret, selfSignedFiles(secretTexts(secret)), nowMs);
}

export const secretTexts = ({ data = {} }: Secret): Map<string, string> =>
  new Map(Object.entries(data).map(([key, text]) => [key, Buffer.from(text, 'base64').toString()]));

function authorityOf(
  source: ClusterAuthority['source'],
  secret: Secret,
  files: AuthorityFiles,
  nowMs: number,
): ClusterAuthority {
  try {
    return { source, secret, material: readAuthorityMaterial(files, nowMs) };
  } catch (error) {
    throw new MeshError('CERTIFICATE_INVALID', `${placeOf(secret)} cannot be used: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

const placeOf = ({ metadata }: Secret): string => `Secret ${metadata.namespace}/${metadata.name}`;

async function readSecret(client: KubeClient, name: string): Promise<Secret | undefined> {
  try {
    return await client.get(SECRETS, name, SYSTEM_NAMESPACE);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
