// What connected proxies hold: certificates of their workloads, who signed them, and which roots they trust.

import { X509Certificate } from 'node:crypto';
import { reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { FetchFromPod } from '#k8s/pod-http.ts';
import { listZtunnels } from '../mesh-pods.ts';
import { type DumpCertificate, type DumpIdentity, parseDump } from '../ztunnel-config/dump.ts';

export const ADMIN_PORT = 15_000;

export interface HeldCertificate {
  readonly identity: string;
  readonly leaf: X509Certificate;
  /** What it is presented with, above the leaf. */
  readonly chain: readonly X509Certificate[];
  readonly roots: readonly X509Certificate[];
}

export interface ProxyHoldings {
  readonly proxy: string;
  readonly node: string;
  readonly certificates: readonly HeldCertificate[];
  /** Identities without a certificate, and why. */
  readonly without: readonly string[];
  /** Why the proxy could not be asked. */
  readonly problem: string | undefined;
}

export async function readHoldings(
  client: KubeClient,
  fetchFromPod: FetchFromPod,
  adminPort: number,
): Promise<ProxyHoldings[]> {
  const pods = await listZtunnels(client);
  return Promise.all(
    pods.map(async ({ metadata: { name, namespace = '' }, spec: { nodeName = '' } }) => {
      try {
        const path = '/config_dump';
        const text = await fetchFromPod({ namespace, pod: name, port: adminPort, path });
        return holdingsOf(name, nodeName, parseDump(text, `the answer of ${name}`).certificates);
      } catch (error) {
        return { proxy: name, node: nodeName, certificates: [], without: [], problem: reasonOf(error) };
      }
    }),
  );
}

/** Exported for its test. */
export function holdingsOf(proxy: string, node: string, identities: readonly DumpIdentity[]): ProxyHoldings {
  const certificates: HeldCertificate[] = [];
  const without: string[] = [];
  for (const { identity, state, certChain = [], rootCerts = [] } of identities) {
    const [leaf, ...chain] = certChain.map(certificateOf);
    if (leaf === undefined) without.push(`${identity}: ${state}`);
    else certificates.push({ identity, leaf, chain, roots: rootCerts.map(certificateOf) });
  }
  return { proxy, node, certificates, without, problem: undefined };
}

const certificateOf = ({ pem = '' }: DumpCertificate): X509Certificate =>
  new X509Certificate(Buffer.from(pem, 'base64').toString());
