// Rotates the mesh's root as a person does, with `culvert ca`: rehearsed first, then step by step, each as soon as nothing
// would break by it. Proxies that renew every few seconds take the place of waiting half a day.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { promisify } from 'node:util';
import { CONFIG_MAPS, PODS, type Pod } from '#k8s/objects.ts';
import { readAuthority } from '../../../src/cli/ca/authority.ts';
import type { AuthorityReport } from '../../../src/cli/ca/report.ts';
import { type Mesh, projectDir, until } from '../harness.ts';
import { type CompanyAuthority, filesOf, plugIn } from './plugged-in.ts';

const run = promisify(execFile);
/** Leaves are dated back by two minutes: half of the life is over ten seconds after it was issued. */
const SHORT_LIFE = '140s';

/** A `culvert` command on the mesh's cluster. Rejects when its exit code is not 0. */
export async function onCluster(mesh: Mesh, ...words: string[]): Promise<string> {
  const env = { ...process.env, KUBECONFIG: mesh.kubeconfigPath };
  return (await run(`${projectDir}/bin/culvert`, words, { env, timeout: 60_000 })).stdout;
}

/** Variables of the node proxies; `NAME-` removes one. Returns when they run with them, and no other does. */
export async function setProxyEnv(mesh: Mesh, ...variables: string[]): Promise<void> {
  const proxies = async (): Promise<readonly Pod[]> =>
    (await mesh.client.list(PODS, { namespace: 'istio-system', labelSelector: 'app=ztunnel' })).items;
  const before = new Set((await proxies()).map(({ metadata }) => metadata.uid));
  await mesh.kubectl('set', 'env', '-n', 'istio-system', 'daemonset', '-l', 'app=ztunnel', ...variables);
  // A surging roll-out is called done while the last predecessor still serves.
  const isReplaced = ({ metadata, status }: Pod): boolean =>
    !before.has(metadata.uid) &&
    (status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True');
  await until(
    async () => {
      const now = await proxies();
      return now.length === before.size && now.every(isReplaced);
    },
    'other node proxies in place of all of them',
    100_000,
  );
}

export const SHORT_LIVED = [`SECRET_TTL=${SHORT_LIFE}`] as const;
export const LONG_LIVED = ['SECRET_TTL-'] as const;

interface Plan {
  readonly step: string;
  readonly blockers: readonly string[];
}

export async function rotateRoot(mesh: Mesh, say: (text: string) => void): Promise<void> {
  const before = await publishedRoots(mesh, 'default');
  assert.equal(before.length, 1);
  const rehearsal = await onCluster(mesh, 'ca', 'rehearse');
  assert.match(rehearsal, /With these waits no handshake fails/);
  for (const line of rehearsal.split('\n')) say(`  ${line}`);
  for (const step of ['add', 'switch', 'remove']) {
    let plan: Plan = { step: '', blockers: [] };
    await until(
      async () => {
        plan = JSON.parse(await onCluster(mesh, 'ca', 'rotate', '--dry-run', '-o', 'json')) as Plan;
        assert.equal(plan.step, step);
        return plan.blockers.length === 0;
      },
      `nothing to stand in the way of step "${step}"`,
      90_000,
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${plan.blockers.join('; ')}`);
    });
    say(await onCluster(mesh, 'ca', 'rotate', '--yes'));
  }
  await until(async () => (await publishedRoots(mesh, 'default')).length === 1, 'the old root to go');
  const after = await publishedRoots(mesh, 'default');
  assert.notEqual(after[0]?.fingerprint256, before[0]?.fingerprint256);
}

export async function publishedRoots(mesh: Mesh, namespace: string): Promise<X509Certificate[]> {
  const map = await mesh.client.get(CONFIG_MAPS, 'istio-ca-root-cert', namespace);
  const blocks = (map.data?.['root-cert.pem'] ?? '').match(/-----BEGIN[\s\S]*?END CERTIFICATE-----/g) ?? [];
  return blocks.map((pem) => new X509Certificate(pem));
}

/** `culvert ca`, also when it ends with 1 because there is something to be said, as in the middle of a change. */
export async function authorityReport(mesh: Mesh): Promise<AuthorityReport> {
  let text: string;
  try {
    text = await onCluster(mesh, 'ca', '-o', 'json');
  } catch (error) {
    const { stdout = '' } = error as { readonly stdout?: string };
    if (stdout === '') throw error;
    text = stdout;
  }
  return JSON.parse(text) as AuthorityReport;
}

type Proxy = AuthorityReport['proxies'][number];

/** `culvert ca` could ask every proxy, and this holds of each that has certificates. */
async function allProxies(mesh: Mesh, holds: (proxy: Proxy) => boolean): Promise<boolean> {
  const { proxies } = await authorityReport(mesh);
  return proxies.every((proxy) => proxy.problem === undefined && (proxy.certificates === 0 || holds(proxy)));
}

/** From the self-signed root to a company's intermediate: first both roots, then the other signer. */
export async function takeOver(mesh: Mesh, company: CompanyAuthority): Promise<void> {
  const { material } = await readAuthority(mesh.client, Date.now());
  const rootsPem = company.root.certPem + material.rootsPem;
  await plugIn(mesh, {
    'ca-cert.pem': String(material.certificate),
    'ca-key.pem': material.keyPem,
    'cert-chain.pem': '',
    'root-cert.pem': rootsPem,
  });
  // By name: a root that was removed a moment ago may still be trusted, too.
  const trustsCompany = ({ trusts }: Proxy): boolean =>
    trusts.some((root) => root.startsWith('O=company root'));
  await until(() => allProxies(mesh, trustsCompany), 'everybody to trust both roots', 90_000);
  await plugIn(mesh, filesOf(company, rootsPem));
  const isCompanys = ({ signedBy }: Proxy): boolean => Object.keys(signedBy).join() === 'O=mesh';
  await until(() => allProxies(mesh, isCompanys), 'everybody to be signed by the company', 90_000);
}
