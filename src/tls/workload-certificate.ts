// Turns an authority's answer into a WorkloadSecret, or says why it cannot be used (ztunnel.md §4.2).

import { type KeyObject, X509Certificate } from 'node:crypto';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Logger } from '#telemetry/log.ts';
import {
  type ContextMaterial,
  createWorkloadContext,
  DEFAULT_TLS_POLICY,
  type TlsPolicy,
} from './options.ts';
import { uriNames } from './peer.ts';
import { certificateBlocks } from './pem.ts';
import type { WorkloadSecret } from './secret.ts';

/** A checked certificate with its key, in a form that can be given to another thread. */
export interface SecretMaterial extends ContextMaterial {
  readonly identity: SpiffeId;
}

/** Throws MeshError `CERTIFICATE_INVALID`. Unusable roots are skipped with a warning. */
export function readWorkloadSecret(
  identity: SpiffeId,
  privateKey: KeyObject,
  answer: readonly string[],
  log: Logger,
  tls: TlsPolicy = DEFAULT_TLS_POLICY,
): WorkloadSecret {
  return secretOf(readSecretMaterial(identity, privateKey, answer, log), tls);
}

export function secretOf(material: SecretMaterial, tls: TlsPolicy): WorkloadSecret {
  const { identity, chainPem, rootsPem } = material;
  const leaf = new X509Certificate(chainPem[0]!);
  return {
    identity,
    chainPem,
    rootsPem,
    serialNumber: leaf.serialNumber,
    notBefore: leaf.validFromDate,
    notAfter: leaf.validToDate,
    context: createWorkloadContext(material, tls),
  };
}

/** Throws MeshError `CERTIFICATE_INVALID`. Unusable roots are skipped with a warning. */
export function readSecretMaterial(
  identity: SpiffeId,
  privateKey: KeyObject,
  answer: readonly string[],
  log: Logger,
): SecretMaterial {
  const [leafPem, ...others] = answer;
  const rootBundle = others.pop();
  if (leafPem === undefined || rootBundle === undefined) {
    throw invalid(identity, `the answer has ${answer.length} elements; a leaf and the roots are needed`);
  }
  const leaf = readCertificate(identity, leafPem, 'leaf');
  const [name] = uriNames(leaf.subjectAltName ?? '');
  if (name !== identity) throw invalid(identity, `it is for ${name ?? 'no SPIFFE identity'}`);
  if (!leaf.checkPrivateKey(privateKey)) throw invalid(identity, 'it is for another key');
  const intermediates = others.map((pem) => readCertificate(identity, pem, 'intermediate'));
  const rootsPem = usableRoots(rootBundle, log);
  if (rootsPem.length === 0) throw invalid(identity, 'the answer holds no usable root');

  const chainPem = [leaf, ...intermediates].map((certificate) => certificate.toString());
  const keyPem = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  return { identity, keyPem, chainPem, rootsPem };
}

function readCertificate(identity: SpiffeId, pem: string, what: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw invalid(identity, `the ${what} cannot be read: ${reasonOf(error)}`);
  }
}

function usableRoots(bundle: string, log: Logger): string[] {
  return certificateBlocks(bundle).flatMap((pem) => {
    try {
      return [new X509Certificate(pem).toString()];
    } catch (error) {
      log.warn('a root certificate is skipped', { error: reasonOf(error) });
      return [];
    }
  });
}

function invalid(identity: SpiffeId, why: string): MeshError {
  return new MeshError('CERTIFICATE_INVALID', `the certificate issued for ${identity} is of no use: ${why}`);
}
