// `culvert up`: the whole mesh on this machine, and a first screen that shows it working. The machine itself is handed
// in: this file knows the Kubernetes API and the terminal, nothing of namespaces.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { applyManifests, parseManifests } from '#k8s/manifests.ts';
import { DAEMON_SETS, DEPLOYMENTS, type KubeObject, NODES, PODS } from '#k8s/objects.ts';
import type { AccessRecord } from './screen/access-line.ts';
import { renderConnection } from './screen/connection-line.ts';
import { followConnections } from './screen/live.ts';
import { isEnrolled, isReady, renderMap } from './screen/map.ts';
import { type NextStepsFacts, renderNextSteps } from './screen/next-steps.ts';
import type { Steps } from './screen/steps.ts';
import type { Style } from './style.ts';

const POLL_MS = 50;
const READY_LIMIT_MS = 60_000;
const FIELD_MANAGER = 'culvert-up';

export interface UpDeps {
  readonly client: KubeClient;
  readonly steps: Steps;
  readonly style: Style;
  readonly write: (text: string) => void;
  readonly monotonicMs: () => number;
}

export interface UpOptions {
  readonly projectDir: string;
  readonly sample: boolean;
  /** `monotonicMs` when the person pressed return. */
  readonly startedAtMs: number;
  readonly nextSteps: NextStepsFacts;
  readonly signal: AbortSignal;
}

/** Applies the mesh and the sample, waits until traffic flows, then shows connections until the signal aborts. */
export async function bringUpMesh(deps: UpDeps, options: UpOptions): Promise<void> {
  const { client, steps, style, write } = deps;
  const { projectDir, signal, sample } = options;
  await steps.run('mesh: certificate authority, control plane, node proxies', async () => {
    await apply(client, join(projectDir, 'deploy/crds'));
    await apply(client, join(projectDir, 'deploy'));
    // The sample follows as soon as the plugin stands in every node's CNI chain: from then on a pod is captured before
    // its first packet. It need not wait for the proxies, the plugin does.
    await until(() => runsEverywhere(client, ['istio-cni-node']), 'the CNI agents to become ready', signal);
    if (sample) await apply(client, join(projectDir, 'examples/shop/shop.yaml'));
    await until(() => meshReady(client), 'the mesh programs to become ready', signal);
  });

  const shown: AccessRecord[] = [];
  let show = (record: AccessRecord): void => {
    shown.push(record);
  };
  const live = followConnections(client, signal, (record) => show(record));

  if (sample) {
    await steps.run('shop: five services on two nodes, enrolled', () =>
      until(() => shopReady(client), 'the shop to become ready and enrolled', signal),
    );
    await steps.run('first request over mTLS', () =>
      until(async () => shown.some(isMutualTls), 'the first request over mTLS', signal),
    );
  }
  const totalMs = deps.monotonicMs() - options.startedAtMs;
  const [nodes, pods] = await Promise.all([client.list(NODES), client.list(PODS)]);
  write(`\n${style.bold('The mesh')} ${style.dim(`up in ${(totalMs / 1000).toFixed(1)} s`)}\n`);
  write(`${renderMap(nodes.items, pods.items, style).join('\n')}\n\n`);
  write(`${renderNextSteps(options.nextSteps, style).join('\n')}\n\n`);
  write(`${style.bold('Connections')} ${style.dim('(Ctrl-C ends the mesh and leaves nothing behind)')}\n`);
  show = (record) => write(`${renderConnection(record, style)}\n`);
  for (const record of shown.splice(0)) show(record);
  await live;
}

function isMutualTls(record: AccessRecord): boolean {
  return (
    record.fields.get('error') === undefined &&
    record.fields.has('src.identity') &&
    record.fields.has('dst.identity')
  );
}

/** One manifest file, or every manifest of a folder (not of its sub-folders). */
async function apply(client: KubeClient, path: string): Promise<void> {
  const files = path.endsWith('.yaml')
    ? [path]
    : readdirSync(path)
        .filter((name) => name.endsWith('.yaml'))
        .sort()
        .map((name) => join(path, name));
  const objects: KubeObject[] = files.flatMap((file) => parseManifests(readFileSync(file, 'utf8'), file));
  await applyManifests(client, objects, FIELD_MANAGER);
}

async function meshReady(client: KubeClient): Promise<boolean> {
  const { items } = await client.list(DEPLOYMENTS, { namespace: 'istio-system' });
  const deployed = items.every(({ spec, status }) => status?.readyReplicas === (spec.replicas ?? 1));
  return items.length > 0 && deployed && (await runsEverywhere(client, ['istio-cni-node', 'ztunnel']));
}

/** Each of these DaemonSets has a ready pod on every node. */
async function runsEverywhere(client: KubeClient, names: readonly string[]): Promise<boolean> {
  const [daemonSets, nodes] = await Promise.all([
    client.list(DAEMON_SETS, { namespace: 'istio-system' }),
    client.list(NODES),
  ]);
  return names.every((name) => {
    const found = daemonSets.items.find(({ metadata }) => metadata.name === name);
    return found?.status?.numberReady === nodes.items.length;
  });
}

async function shopReady(client: KubeClient): Promise<boolean> {
  const { items } = await client.list(PODS, { namespace: 'shop' });
  return items.length > 0 && items.every((pod) => isReady(pod) && isEnrolled(pod));
}

async function until(condition: () => Promise<boolean>, what: string, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + READY_LIMIT_MS;
  while (!(await condition())) {
    if (signal.aborted) throw new MeshError('LOCAL_MACHINE_FAILED', `stopped while waiting for ${what}`);
    if (performance.now() > deadline) {
      throw new MeshError(
        'LOCAL_MACHINE_FAILED',
        `waited ${READY_LIMIT_MS / 1000} s for ${what}; look with: kubectl get pods -A, kubectl logs -n istio-system deployment/istiod`,
      );
    }
    await sleep(POLL_MS, signal);
  }
}
