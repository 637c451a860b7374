// A company's authority, plugged into the mesh as Secret `cacerts`: two intermediates below a root of its own.

import { SECRETS, type Secret } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { createAuthority } from '#tls/issue.ts';
import { newSigningCertificate, type SigningCertificate } from '../../lib/authorities.ts';
import { crlPem, newCrl } from '../../lib/crls.ts';
import type { Mesh } from '../harness.ts';

export interface CompanyAuthority {
  readonly root: SigningCertificate;
  readonly upper: SigningCertificate;
  readonly signing: SigningCertificate;
}

export async function newCompanyAuthority(): Promise<CompanyAuthority> {
  const root = await newSigningCertificate({ name: 'company root', pathLength: 2 });
  const upper = await newSigningCertificate({ name: 'company', issuer: root, pathLength: 1 });
  const signing = await newSigningCertificate({ name: 'mesh', issuer: upper, pathLength: 0 });
  return { root, upper, signing };
}

/** Keys that stand in the Secret and are not given stay. */
export async function plugIn(mesh: Mesh, files: Readonly<Record<string, string>>): Promise<void> {
  const data = Object.fromEntries(
    Object.entries(files).map(([name, text]) => [name, Buffer.from(text).toString('base64')]),
  );
  const metadata = { name: 'cacerts', namespace: 'istio-system' };
  try {
    const held = await mesh.client.get(SECRETS, metadata.name, metadata.namespace);
    await mesh.client.update(SECRETS, { ...held, data: { ...held.data, ...data } });
  } catch (error) {
    if (!isNotFound(error)) throw error;
    const secret: Secret = { apiVersion: 'v1', kind: 'Secret', metadata, type: 'Opaque', data };
    await mesh.client.create(SECRETS, secret, metadata.namespace);
  }
}

/** As in Istio's own description: the chain from the signing certificate to the root, the root included. */
export const filesOf = ({ root, upper, signing }: CompanyAuthority, rootsPem = root.certPem) => ({
  'ca-cert.pem': signing.certPem,
  'ca-key.pem': signing.keyPem,
  'cert-chain.pem': signing.certPem + upper.certPem + root.certPem,
  'root-cert.pem': rootsPem,
});

/** A list of each authority, as Envoy wants it; the signing one's names `serials` (hexadecimal). */
export async function revocationLists(
  { root, upper, signing }: CompanyAuthority,
  serials: readonly string[],
): Promise<string> {
  const lists = await Promise.all(
    [signing, upper, root].map(async (authority, index) =>
      crlPem(
        await newCrl(await createAuthority({ ...authority, validDays: 1 }), {
          revoked: index === 0 ? serials : [],
        }),
      ),
    ),
  );
  return lists.join('');
}
