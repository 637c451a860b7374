// Who trusts what: the roots in each namespace's ConfigMap beside those that the authority publishes.

import { X509Certificate } from 'node:crypto';
import type { KubeClient } from '#k8s/client.ts';
import { CONFIG_MAPS, NAMESPACES } from '#k8s/objects.ts';
import { isSame } from '#tls/authority-material.ts';
import { certificateBlocks } from '#tls/pem.ts';
import { nameOf } from './names.ts';

export const ROOTS_CONFIG_MAP = 'istio-ca-root-cert';
const KEY = 'root-cert.pem';
/** The control plane leaves these out. */
const WITHOUT: ReadonlySet<string> = new Set(['kube-public', 'kube-node-lease', 'local-path-storage']);

export interface NamespaceTrust {
  readonly namespace: string;
  readonly state: 'current' | 'behind' | 'missing';
  /** Published, and not trusted there. */
  readonly lacks: readonly string[];
  /** Trusted there, and not published any more. */
  readonly extra: readonly string[];
  readonly roots: readonly X509Certificate[];
}

export async function readTrust(
  client: KubeClient,
  wanted: readonly X509Certificate[],
): Promise<NamespaceTrust[]> {
  const [namespaces, maps] = await Promise.all([
    client.list(NAMESPACES),
    client.list(CONFIG_MAPS, { fieldSelector: `metadata.name=${ROOTS_CONFIG_MAP}` }),
  ]);
  const held = new Map(maps.items.map((map) => [map.metadata.namespace ?? '', map.data?.[KEY] ?? '']));
  return namespaces.items
    .filter(({ metadata, status }) => !WITHOUT.has(metadata.name) && status?.phase !== 'Terminating')
    .map(({ metadata: { name } }) => compareTrust(name, held.get(name), wanted))
    .sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
}

/** Exported for its test. */
export function compareTrust(
  namespace: string,
  pem: string | undefined,
  wanted: readonly X509Certificate[],
): NamespaceTrust {
  const roots = certificateBlocks(pem ?? '').flatMap(readable);
  const without = (some: readonly X509Certificate[], others: readonly X509Certificate[]): string[] =>
    some.filter((one) => !others.some((other) => isSame(one, other))).map(nameOf);
  const lacks = without(wanted, roots);
  const extra = without(roots, wanted);
  const state = pem === undefined ? 'missing' : lacks.length + extra.length > 0 ? 'behind' : 'current';
  return { namespace, state, lacks, extra, roots };
}

/** What cannot be read, nobody trusts. */
function readable(pem: string): X509Certificate[] {
  try {
    return [new X509Certificate(pem)];
  } catch {
    return [];
  }
}
