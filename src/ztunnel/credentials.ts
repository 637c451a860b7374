// Trust anchors and tokens for the control plane, read anew at each use so that a rotated file is seen.

import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { getCACertificates } from 'node:tls';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import { containerPath, SERVICE_ACCOUNT_TOKEN_PATH, type ZtunnelConfig } from './config.ts';

/**
 * `XDS_ROOT_CA`, `CA_ROOT_CA`: `SYSTEM`, PEM text, or the path of a file (which may be missing yet: it is read at each
 * connection).
 */
export function rootSource(value: string): () => Promise<string> {
  if (value === 'SYSTEM') return () => Promise.resolve(getCACertificates('system').join('\n'));
  if (value.includes('-----BEGIN')) return () => Promise.resolve(value);
  const path = containerPath(value);
  return async () => {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      throw new MeshError(
        'CONFIG_INVALID',
        `the root certificate ${path} cannot be read: ${reasonOf(error)}`,
        {
          cause: error,
        },
      );
    }
  };
}

/** `AUTH_TOKEN`: a path, a literal token, or unset for the projected token if it exists at the start. */
export function tokenSource(value: ZtunnelConfig['authToken']): (() => Promise<string>) | undefined {
  if (value === undefined) {
    const path = containerPath(SERVICE_ACCOUNT_TOKEN_PATH);
    return isReadable(path) ? () => readToken(path) : undefined;
  }
  if (value.includes('/') && isReadable(containerPath(value))) {
    const path = containerPath(value);
    return () => readToken(path);
  }
  return () => Promise.resolve(value);
}

async function readToken(path: string): Promise<string> {
  return (await readFile(path, 'utf8')).trim();
}

function isReadable(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false;
    throw new MeshError('CONFIG_INVALID', `the token ${path} cannot be read: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}
