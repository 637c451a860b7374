// Asks the mesh's authority for a certificate, as the node proxy of n1 and with its token, or with another one.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CONFIG_MAPS, SERVICES } from '#k8s/objects.ts';
import { type Mesh, projectDir } from '../harness.ts';

/** `signed` or `refused: REASON`, as ask-ca.ts prints it; of `chain` the certificates in PEM, as JSON. */
export async function askAuthority(
  mesh: Mesh,
  account: string,
  options: { readonly token?: string; readonly print?: 'chain' } = {},
): Promise<string> {
  const { spec } = await mesh.client.get(SERVICES, 'istiod', 'istio-system');
  const roots = await mesh.client.get(CONFIG_MAPS, 'istio-ca-root-cert', 'istio-system');
  const container = mesh.pidOf('ztunnel', 'n1');
  // /var/run is a link to /run there; followed from here it would lead into the host's own /run.
  const own = (): string => readFileSync(`/proc/${container}/root/run/secrets/tokens/istio-token`, 'utf8');
  return mesh.inNode(
    'n1',
    process.execPath,
    join(projectDir, 'test/e2e/lib/ask-ca.ts'),
    spec.clusterIP ?? '',
    roots.data?.['root-cert.pem'] ?? '',
    options.token ?? own(),
    `spiffe://cluster.local/ns/shop/sa/${account}`,
    ...(options.print === undefined ? [] : [options.print]),
  );
}
