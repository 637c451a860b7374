// An authority inside the proxy, for trying things out and for tests (`FAKE_CA`): signs whatever it is asked for. With a
// root from files several proxies trust one another. Loaded only when asked for.

import { readFile } from 'node:fs/promises';
import { MeshError } from '#base/errors.ts';
import { createAuthority, parseCsr } from '#tls/issue.ts';
import type { CertificateAuthorityClient } from '#tls/secret.ts';
import type { FakeCaConfig } from './config.ts';

const ROOT_DAYS = 3650;

/** Rejects with MeshError CONFIG_INVALID or CERTIFICATE_INVALID when the files cannot be used. */
export async function createFakeCa({ certPath, keyPath }: FakeCaConfig): Promise<CertificateAuthorityClient> {
  const authority = await createAuthority({
    organization: 'cluster.local',
    validDays: ROOT_DAYS,
    ...(certPath === undefined ? {} : { certPem: await readPem('FAKE_CA_CERT', certPath) }),
    ...(keyPath === undefined ? {} : { keyPem: await readPem('FAKE_CA_KEY', keyPath) }),
  });
  return {
    async sign(identity, csrPem, ttlSeconds) {
      const { publicKeySpki } = parseCsr(csrPem);
      const { certPem } = await authority.issue({
        uris: [identity],
        publicKey: publicKeySpki,
        validForMs: ttlSeconds * 1000,
      });
      return [certPem, authority.certPem];
    },
  };
}

async function readPem(name: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw MeshError.from(error, 'CONFIG_INVALID', `${name}: ${path} cannot be read`);
  }
}
