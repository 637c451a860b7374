// An authority that somebody plugged in: files in `ROOT_CA_DIR`, mounted from Secret `cacerts` (control-plane.md §5.4). A
// part of the set is an error: whoever put it there did not mean a self-signed root.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import {
  type AuthorityFileNames,
  type AuthorityMaterial,
  PLUGGED_IN_NAMES,
  readAuthorityMaterial,
  TLS_SECRET_NAMES,
} from '#tls/authority-material.ts';

/** Undefined when the folder holds none of the files. @throws MeshError CERTIFICATE_INVALID naming folder and file */
export async function readPluggedIn(dir: string, nowMs: number): Promise<AuthorityMaterial | undefined> {
  const files = new Set(await filesIn(dir));
  const names = files.has(TLS_SECRET_NAMES.cert) ? TLS_SECRET_NAMES : PLUGGED_IN_NAMES;
  const needed = [...new Set([names.cert, names.key, names.chain, names.roots])];
  const missing = needed.filter((name) => !files.has(name));
  if (missing.length === needed.length) return undefined;
  if (missing.length > 0)
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `${dir} holds a part of a plugged-in authority only: ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing; complete the Secret cacerts, or remove it to use a self-signed root`,
    );
  try {
    return readAuthorityMaterial(await textsOf(dir, files, names), nowMs);
  } catch (error) {
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `the authority plugged in at ${dir} cannot be used: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

async function textsOf(dir: string, files: ReadonlySet<string>, names: AuthorityFileNames) {
  const read = (name: string): Promise<string> => readFile(join(dir, name), 'utf8');
  const [certPem, keyPem, chainPem, rootsPem, crlPem] = await Promise.all([
    read(names.cert),
    read(names.key),
    read(names.chain),
    read(names.roots),
    files.has(names.crl) ? read(names.crl) : undefined,
  ]);
  return { certPem, keyPem, chainPem, rootsPem, crlPem, names };
}

async function filesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}
