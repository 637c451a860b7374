// The controllers with the embedded API server over real TLS, for the tests of this folder: a cluster of two nodes, a
// stand-in for the kubelets, kubectl, and ways to wait.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import {
  DEPLOYMENTS,
  type Deployment,
  type KubeObject,
  NAMESPACES,
  NODES,
  type Node,
  PODS,
  type Pod,
} from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { isNotFound } from '#k8s/status.ts';
import { createApiServer } from '#local/apiserver/server.ts';
import { startControllers } from '#local/controllers/controllers.ts';
import { silentLogger } from '#telemetry/log.ts';
import { until } from '../lib/until.ts';

const run = promisify(execFile);

/** A template with this image never becomes ready. */
export const BROKEN_IMAGE = 'local/broken';

// Nodes of these tests send no heartbeats: only the test of that lets them fall silent.
const NEVER_MS = 3_600_000;

export async function openCluster(
  t: TestContext,
  options: { readonly nodeGraceMs?: number; readonly kubectlPath?: string } = {},
) {
  const stateDir = mkdtempSync(join(tmpdir(), 'culvert-controllers-'));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const server = await createApiServer(
    { log: silentLogger },
    { stateDir, dnsNames: ['localhost'], ips: ['127.0.0.1'] },
  );
  t.after(() => server.close());
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  const admin = { certPem: server.adminCertPem, keyPem: server.adminKeyPem };
  const open = ({ certPem, keyPem } = admin): KubeClient => {
    const client = createRestClient({
      server: `https://127.0.0.1:${port}`,
      tls: () => ({ caPem: server.caPem, clientCertPem: certPem, clientKeyPem: keyPem }),
    });
    t.after(() => client.close());
    return client;
  };
  const client = open();
  // Before the controllers start, so that they know both from the first pod on.
  for (const name of ['n1', 'n2']) await addNode(client, name);
  const removedVolumes: string[] = [];
  const controllers = await startControllers({
    // With the rights they have in the machine, so that what a role lacks is seen here.
    client: open(await server.credentials('system:kube-controller-manager')),
    schedulerClient: open(await server.credentials('system:kube-scheduler')),
    log: silentLogger,
    caPem: server.caPem,
    nodeGraceMs: options.nodeGraceMs ?? NEVER_MS,
    removeVolumeDirectory: async (node, volume) => {
      removedVolumes.push(`${node} ${volume}`);
    },
  });
  t.after(() => controllers.close());
  await client.create(NAMESPACES, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  const kubeconfig = join(stateDir, 'kubeconfig');
  writeFileSync(kubeconfig, server.kubeconfig(`https://127.0.0.1:${port}`), { mode: 0o600 });
  /** What it printed; rejects when it fails. */
  const kubectl = async (...args: string[]): Promise<string> => {
    const { stdout } = await run(options.kubectlPath ?? 'kubectl', args, {
      env: { PATH: process.env.PATH ?? '', HOME: stateDir, KUBECONFIG: kubeconfig },
      timeout: 60_000,
    });
    return stdout;
  };
  return { client, kubectl, caPem: server.caPem, removedVolumes };
}

export async function addNode(client: KubeClient, name: string): Promise<void> {
  const node: Node = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux' } },
  };
  await client.create(NODES, node);
  const status = { conditions: [{ type: 'Ready', status: 'True' }] };
  await client.patch(NODES, name, 'merge', { status }, { subresource: 'status' });
}

/** Runs what is bound to a node, ends what is deleted. `seen` records how many pods were available, and how many there were. */
export function startKubelet(t: TestContext, client: KubeClient) {
  let address = 1;
  const pods = startInformer({ client, log: silentLogger }, PODS);
  const seen = { fewestReady: Number.POSITIVE_INFINITY, mostPods: 0 };
  const isReady = (pod: Pod): boolean =>
    pod.metadata.deletionTimestamp === undefined &&
    (pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false);
  const handle = async (pod: Pod): Promise<void> => {
    const { name, namespace = '' } = pod.metadata;
    if (pod.metadata.deletionTimestamp !== undefined)
      return client.delete(PODS, name, { namespace, gracePeriodSeconds: 0 });
    if (pod.spec.nodeName === undefined || pod.status?.podIP !== undefined) return;
    const podIP = `10.244.1.${address++}`;
    const ready = pod.spec.containers[0]?.image === BROKEN_IMAGE ? ('False' as const) : ('True' as const);
    await client.patch(
      PODS,
      name,
      'merge',
      {
        status: {
          phase: 'Running',
          podIP,
          podIPs: [{ ip: podIP }],
          conditions: [{ type: 'Ready', status: ready }],
        },
      },
      { namespace, subresource: 'status' },
    );
  };
  const work = (pod: Pod): void => {
    const active = [...pods.all()].filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    seen.fewestReady = Math.min(seen.fewestReady, active.filter(isReady).length);
    seen.mostPods = Math.max(seen.mostPods, active.length);
    void handle(pod).catch((error: unknown) => {
      // The server may be closed by the end of the test.
      if (!isNotFound(error) && !(error instanceof MeshError && error.code === 'API_UNREACHABLE'))
        throw error;
    });
  };
  pods.addHandlers({ upsert: work, remove: () => {} });
  t.after(() => pods.close());
  return seen;
}

export function deployment(name: string, replicas: number, image = 'local/web'): Deployment {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: 'shop' },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: 'main', image, ports: [{ name: 'http', containerPort: 8080 }] }] },
      },
    },
  };
}

export const inShop = { namespace: 'shop' };
export const names = (objects: readonly KubeObject[]): string[] =>
  objects.map(({ metadata }) => metadata.name).sort();

/** What `kubectl rollout status` waits for. */
export const rolledOut = (client: KubeClient, name: string) =>
  until(`the rollout of ${name}`, async () => {
    const { metadata, spec, status = {} } = await client.get(DEPLOYMENTS, name, 'shop');
    const { replicas = 1 } = spec;
    return (
      status.observedGeneration === metadata.generation &&
      status.updatedReplicas === replicas &&
      status.replicas === replicas &&
      status.availableReplicas === replicas && { metadata, status }
    );
  });
