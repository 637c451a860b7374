// The API server out of reach of the mesh's own programs, as by a partition: what is sent to it vanishes. Kubelets and whoever
// asks still reach it, so that one can see what the control plane learns of afterwards, and when.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Mesh, projectDir, until } from '../e2e/harness.ts';
import { dumpOf, xdsCounts } from '../e2e/lib/xds-seams.ts';
import { NAMESPACE, pause } from './rig.ts';

const NODES = ['n1', 'n2'] as const;

// Behind the translation of the Service's address.
const RULES = `table inet away {
  chain out { type filter hook postrouting priority 400; tcp dport 16443 drop; }
}`;

const POLICY = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: applied-meanwhile, namespace: ${NAMESPACE} }
spec:
  action: DENY
  rules: [{ from: [{ source: { principals: ["cluster.local/ns/nowhere/sa/nobody"] } }] }]
`;

/** Says what proxies were sent again, and how long after the end they knew what was applied in the middle. */
export async function apiServerAway(mesh: Mesh, seconds: number): Promise<string> {
  const before = await Promise.all(NODES.map((node) => xdsCounts(mesh, node)));
  try {
    for (const node of NODES) await mesh.inNode(node, 'sh', '-c', `nft '${RULES}'`);
    await pause(seconds * 500);
    await mesh.apply(POLICY);
    await pause(seconds * 500);
    // Fails when a proxy is not connected.
    const env = { ...process.env, KUBECONFIG: mesh.kubeconfigPath };
    await promisify(execFile)(join(projectDir, 'bin/culvert'), ['proxy-status'], { env, timeout: 60_000 });
  } finally {
    for (const node of NODES) await mesh.inNode(node, 'nft', 'delete', 'table', 'inet', 'away');
  }
  const backAt = performance.now();
  const knows = async (node: string): Promise<boolean> =>
    (await dumpOf(mesh, node)).policies.some(({ name }) => name === 'applied-meanwhile');
  for (const node of NODES)
    await until(() => knows(node), `${node} to know what was applied meanwhile`, 60_000);
  const knownMs = performance.now() - backAt;
  const after = await Promise.all(NODES.map((node) => xdsCounts(mesh, node)));
  const [again, ended] = [bytesOf(after) - bytesOf(before), endsOf(after) - endsOf(before)];
  await mesh.kubectl('delete', 'authorizationpolicy', '-n', NAMESPACE, 'applied-meanwhile');
  return `of ${bytesOf(before)} bytes of addresses ${again} sent again, ${ended} streams ended, a policy known ${(knownMs / 1000).toFixed(1)} s after it is back`;
}

type Counts = readonly Awaited<ReturnType<typeof xdsCounts>>[];
const bytesOf = (counts: Counts): number => counts.reduce((sum, { bytes }) => sum + bytes, 0);
const endsOf = (counts: Counts): number => counts.reduce((sum, { ended }) => sum + ended, 0);
