// The authority that a rotation leads to: files that somebody prepared, or a new self-signed root.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError, reasonOf } from '#base/errors.ts';
import { PLUGGED_IN_NAMES, pluggedInFiles } from '#tls/authority-files.ts';
import { type AuthorityMaterial, readAuthorityMaterial } from '#tls/authority-material.ts';
import { createAuthority } from '#tls/issue.ts';

const VALID_DAYS = 3650;

/** @throws MeshError CONFIG_INVALID, CERTIFICATE_INVALID naming folder and file */
export async function nextAuthority(
  dir: string | undefined,
  today?: AuthorityMaterial,
): Promise<AuthorityMaterial> {
  if (dir !== undefined) return plannedAuthority(dir);
  const { certPem, keyPem } = await createAuthority({
    organization: organizationOf(today),
    validDays: VALID_DAYS,
  });
  return readAuthorityMaterial(
    { certPem, keyPem, chainPem: '', rootsPem: certPem, names: PLUGGED_IN_NAMES },
    Date.now(),
  );
}

/** The control plane names its root after the trust domain; a next one keeps the name. */
export function organizationOf(today: AuthorityMaterial | undefined): string {
  const parts = today?.certificate.subject.split('\n') ?? [];
  return parts.find((part) => part.startsWith('O='))?.slice(2) ?? 'cluster.local';
}

function plannedAuthority(dir: string): AuthorityMaterial {
  const files = pluggedInFiles(textsIn(dir), dir);
  if (files === undefined)
    throw new MeshError(
      'CONFIG_INVALID',
      `${dir} holds none of ca-cert.pem, ca-key.pem, cert-chain.pem, root-cert.pem`,
    );
  try {
    return readAuthorityMaterial(files, Date.now());
  } catch (error) {
    throw new MeshError('CERTIFICATE_INVALID', `the authority in ${dir} cannot be used: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function textsIn(dir: string): Map<string, string> {
  try {
    const names = readdirSync(dir).filter((name) => /\.(pem|crt|key)$/.test(name));
    return new Map(names.map((name) => [name, readFileSync(join(dir, name), 'utf8')]));
  } catch (error) {
    throw MeshError.from(error, 'CONFIG_INVALID', `cannot read ${dir}`);
  }
}
