// An authority that somebody plugged in: files in `ROOT_CA_DIR`, mounted from Secret `cacerts` (control-plane.md §5.4).

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { pluggedInFiles } from '#tls/authority-files.ts';
import { type AuthorityMaterial, readAuthorityMaterial } from '#tls/authority-material.ts';

/** Undefined when the folder holds none of the files. @throws MeshError CERTIFICATE_INVALID naming folder and file */
export async function readPluggedIn(dir: string, nowMs: number): Promise<AuthorityMaterial | undefined> {
  const files = pluggedInFiles(await textsIn(dir), dir);
  if (files === undefined) return undefined;
  try {
    return readAuthorityMaterial(files, nowMs);
  } catch (error) {
    throw new MeshError(
      'CERTIFICATE_INVALID',
      `the authority plugged in at ${dir} cannot be used: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

const FILE = /\.(pem|crt|key)$/;

/** A file that goes between the two looks is an error: without it nobody knows what was meant. */
async function textsIn(dir: string): Promise<Map<string, string>> {
  const names = (await filesIn(dir)).filter((name) => FILE.test(name));
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(dir, name), 'utf8')] as const)),
  );
}

async function filesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw error;
  }
}
