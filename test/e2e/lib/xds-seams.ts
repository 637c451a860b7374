// What a node proxy and a control plane owe each other beyond the first answer: a stream that ends is resumed from what
// the proxy already has, and a proxy may ask for single addresses instead of all. Said of whichever programs a mesh runs.

import assert from 'node:assert/strict';
import { DAEMON_SETS, PODS } from '#k8s/objects.ts';
import { fetchInZtunnel, now, startsWith, waitForRecord } from '../evidence/evidence.ts';
import { isAlive, type Mesh, until } from '../harness.ts';
import { setProxyEnv } from './rotate-root.ts';

const NODES = ['n1', 'n2'] as const;
const ADDRESSES = 'type.googleapis.com/istio.workload.Address';

/** A connection from the other node, over mTLS, that began after `since`. */
export async function crossesNodes(
  mesh: Mesh,
  node: string,
  workload: string,
  since: string,
  limitMs?: number,
): Promise<void> {
  await waitForRecord(
    mesh,
    node,
    since,
    `a connection to the ${workload}`,
    (fields) =>
      startsWith(fields.get('dst.workload'), workload) && fields.has('src.identity') && !fields.has('error'),
    limitMs,
  );
}

/** An address takes more than this many bytes. */
const ADDRESS_BYTES = 100;

/** Kills the control plane: who comes back with versions is sent what has changed only. */
export async function showResume(mesh: Mesh, say: (text: string) => void): Promise<void> {
  const before = await Promise.all(NODES.map((node) => xdsCounts(mesh, node)));
  const pid = mesh.pidOf('control');
  process.kill(pid, 'SIGKILL');
  await until(() => !isAlive(pid), 'the control plane to die');
  // A policy that nobody has to obey: once it is there, the new stream has said all that it had to say about the past.
  await mesh.apply(NOBODYS_POLICY);
  try {
    await Promise.all(
      NODES.map(async (node, index) => {
        await until(
          async () => (await dumpOf(mesh, node)).policies.some(({ name }) => name === 'nobody'),
          `the ztunnel of ${node} to learn what was applied meanwhile`,
          60_000,
        );
        const [had, has] = [before[index]!, await xdsCounts(mesh, node)];
        assert.ok(has.ended > had.ended, 'the stream has ended');
        const again = has.bytes - had.bytes;
        say(`${node}: ${had.bytes} bytes of addresses before, ${again} again`);
        // Its own pod may have changed in between.
        const all = (await dumpOf(mesh, node)).workloads.length * ADDRESS_BYTES;
        assert.ok(again < all / 2, `${again} bytes were sent again`);
      }),
    );
  } finally {
    await mesh.kubectl('delete', 'authorizationpolicy', '-n', 'shop', 'nobody');
  }
}

const NOBODYS_POLICY = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nobody, namespace: shop }
spec:
  action: DENY
  rules: [{ from: [{ source: { principals: ["cluster.local/ns/nowhere/sa/nobody"] } }] }]
`;

const nobodyTo = (workload: string): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: nobody-to-${workload}, namespace: shop }
spec: { selector: { matchLabels: { app: ${workload} } }, action: DENY, rules: [{}] }
`;

interface XdsCounts {
  readonly bytes: number;
  readonly ended: number;
}

export async function xdsCounts(mesh: Mesh, node: string): Promise<XdsCounts> {
  const text = await fetchInZtunnel(mesh, node, 'http://127.0.0.1:15020/metrics');
  const sum = (accept: RegExp): number =>
    text
      .split('\n')
      .filter((line) => accept.test(line))
      .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
  const bytes = sum(new RegExp(`^istio_xds_message_bytes_total\\{.*${ADDRESSES}"`));
  assert.ok(bytes > 0, `${node} has counted what it got`);
  return { bytes, ended: sum(/^istio_xds_connection_terminations_total/) };
}

/** The peer's proxy never answers a connection that had to ask for an address (docs/DIFFERENCES.md): only the next one comes through. */
const ASKING_MS = 120_000;

async function shopIsCaptured(mesh: Mesh, wanted: boolean): Promise<boolean> {
  const { items } = await mesh.client.list(PODS, { namespace: 'shop' });
  return items.every(
    ({ metadata }) => (metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled') === wanted,
  );
}

interface Dump {
  readonly workloads: readonly { readonly name: string }[];
  readonly policies: readonly { readonly name: string }[];
}

export async function dumpOf(mesh: Mesh, node: string): Promise<Dump> {
  return JSON.parse(await fetchInZtunnel(mesh, node, 'http://127.0.0.1:15000/config_dump')) as Dump;
}

/** Every proxy asks for what it needs only: less is known, and identities and policies hold all the same. */
export async function showOnDemand(mesh: Mesh, say: (text: string) => void): Promise<void> {
  const all = await Promise.all(NODES.map(async (node) => (await dumpOf(mesh, node)).workloads.length));
  const { metadata } = (
    await mesh.client.list(DAEMON_SETS, {
      namespace: 'istio-system',
      labelSelector: 'k8s-app=istio-cni-node',
    })
  ).items[0]!;
  // Who answers DNS has to know every service, so nobody does both.
  const agent = `daemonset/${metadata.name}`;
  const captureDns = async (value: string): Promise<void> => {
    await mesh.kubectl('set', 'env', '-n', 'istio-system', agent, `AMBIENT_DNS_CAPTURE=${value}`);
    await mesh.kubectl('rollout', 'status', '-n', 'istio-system', agent, '--timeout=90s');
    // Between the two, or the agent sees no change and writes no other rules.
    await mesh.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode-');
    await until(() => shopIsCaptured(mesh, false), 'the shop to be out of the mesh');
    await mesh.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode=ambient');
    await until(() => shopIsCaptured(mesh, true), 'the shop to be back in the mesh');
  };
  await captureDns('false');
  await setProxyEnv(mesh, 'XDS_ON_DEMAND=true', 'ISTIO_META_DNS_CAPTURE=false');
  const since = now();
  await crossesNodes(mesh, 'n2', 'catalog', since, ASKING_MS);
  await crossesNodes(mesh, 'n1', 'ledger', since, ASKING_MS);
  for (const [index, node] of NODES.entries()) {
    const { workloads } = await dumpOf(mesh, node);
    say(`${node}: ${workloads.length} of ${all[index]} workloads known`);
    assert.ok(workloads.length < all[index]!, 'only those that were asked for');
  }
  for (const [node, workload] of [
    ['n2', 'catalog'],
    ['n1', 'ledger'],
  ] as const) {
    const refusedSince = now();
    await mesh.apply(nobodyTo(workload));
    const { fields } = await waitForRecord(
      mesh,
      node,
      refusedSince,
      `a refused connection to the ${workload}`,
      (record) =>
        startsWith(record.get('dst.workload'), workload) && /shop\/nobody-to/.test(record.get('error') ?? ''),
      ASKING_MS,
    );
    say(`${node}: ${fields.get('src.identity')} refused: ${fields.get('error')}`);
    await mesh.kubectl('delete', 'authorizationpolicy', '-n', 'shop', `nobody-to-${workload}`);
    await crossesNodes(mesh, node, workload, now(), ASKING_MS);
  }
  await setProxyEnv(mesh, 'XDS_ON_DEMAND-', 'ISTIO_META_DNS_CAPTURE-');
  await captureDns('true');
  await crossesNodes(mesh, 'n2', 'catalog', now());
}
