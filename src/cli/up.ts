// `culvert up`: the whole mesh on this machine, and a first screen that shows it working. The machine itself is handed
// in: this file knows the Kubernetes API and the terminal, nothing of namespaces.

import { join } from 'node:path';
import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { applyManifests } from '#k8s/manifests.ts';
import { NODES, PODS } from '#k8s/objects.ts';
import { applyMesh, waitForComponents } from './install/install.ts';
import { readManifests, renderMesh } from './install/render.ts';
import { parseSettings } from './install/settings.ts';
import { type Peers, withPeers } from './peer-settings.ts';
import type { AccessRecord } from './screen/access-line.ts';
import { renderConnection } from './screen/connection-line.ts';
import { followConnections } from './screen/live.ts';
import { isEnrolled, isReady, renderMap } from './screen/map.ts';
import { type NextStepsFacts, renderNextSteps } from './screen/next-steps.ts';
import { followPortTraps, renderPortTrap } from './screen/port-trap.ts';
import type { Steps } from './screen/steps.ts';
import { renderTimeLine } from './screen/time-line.ts';
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
  readonly version: string;
  /** An empty cluster: no mesh, no sample. */
  readonly bare: boolean;
  readonly sample: boolean;
  /** Programs of somebody else that run in place of ours; their pods get what these expect. */
  readonly replaced: Peers;
  /** Replaced on one node only: these nodes must exist. */
  readonly replacedOn: readonly string[];
  /** `monotonicMs` when the person pressed return. */
  readonly startedAtMs: number;
  /** Print the time line. */
  readonly timings: boolean;
  readonly nextSteps: NextStepsFacts;
  readonly signal: AbortSignal;
}

/** Applies the mesh and the sample, waits until traffic flows, then shows connections until the signal aborts. */
export async function bringUpMesh(deps: UpDeps, options: UpOptions): Promise<void> {
  const { client, steps, style, write } = deps;
  const { projectDir, signal, bare } = options;
  const sample = options.sample && !bare;
  await requireNodes(client, options.replacedOn);
  if (!bare)
    await steps.run('mesh: certificate authority, control plane, node proxies', async () => {
      const components = renderMesh(projectDir, options.version, parseSettings([])).map((component) => ({
        ...component,
        objects: withPeers(component.objects, options.replaced),
      }));
      const wait = { limitMs: READY_LIMIT_MS, signal };
      await applyMesh(client, components);
      // The sample follows as soon as the plugin stands in every node's CNI chain: from then on a pod is captured before
      // its first packet. It need not wait for the proxies, the plugin does.
      await waitForComponents(
        client,
        components.filter(({ id }) => id === 'istio-cni'),
        wait,
      );
      if (sample)
        await applyManifests(
          client,
          readManifests(join(projectDir, 'examples/shop/shop.yaml')),
          FIELD_MANAGER,
        );
      await waitForComponents(client, components, wait);
    });

  const shown: AccessRecord[] = [];
  let show = (record: AccessRecord): void => {
    shown.push(record);
  };
  const live = followConnections(client, signal, (record) => show(record));

  if (sample) {
    await steps.run('shop: five services, enrolled', () =>
      until(() => shopReady(client), 'the shop to become ready and enrolled', signal),
    );
    await steps.run('first request over mTLS', () =>
      until(async () => shown.some(isMutualTls), 'the first request over mTLS', signal),
    );
  }
  const totalMs = deps.monotonicMs() - options.startedAtMs;
  const [nodes, pods] = await Promise.all([client.list(NODES), client.list(PODS)]);
  if (options.timings) write(`\n${renderTimeLine(steps.timed, style).join('\n')}\n`);
  write(
    `\n${style.bold(bare ? 'The cluster' : 'The mesh')} ${style.dim(`up in ${(totalMs / 1000).toFixed(1)} s`)}\n`,
  );
  write(`${renderMap(nodes.items, pods.items, style).join('\n')}\n\n`);
  write(
    `${renderNextSteps(options.nextSteps, bare ? 'bare' : sample ? 'shop' : 'mesh', style).join('\n')}\n\n`,
  );
  write(`${style.bold('Connections')} ${style.dim('(Ctrl-C ends the mesh and leaves nothing behind)')}\n`);
  show = (record) => write(`${renderConnection(record, style)}\n`);
  for (const record of shown.splice(0)) show(record);
  const startedAt = new Date(Date.now() - (deps.monotonicMs() - options.startedAtMs)).toISOString();
  followPortTraps(client, signal, startedAt, (trap) => write(`${renderPortTrap(trap, style)}\n`));
  await live;
}

async function requireNodes(client: KubeClient, wanted: readonly string[]): Promise<void> {
  const names = (await client.list(NODES)).items.map(({ metadata }) => metadata.name);
  const missing = wanted.find((name) => !names.includes(name));
  if (missing !== undefined) {
    throw new MeshError(
      'CONFIG_INVALID',
      `there is no node ${JSON.stringify(missing)} to replace a program on; the nodes are ${names.sort().join(', ')}`,
    );
  }
}

function isMutualTls(record: AccessRecord): boolean {
  return (
    record.fields.get('error') === undefined &&
    record.fields.has('src.identity') &&
    record.fields.has('dst.identity')
  );
}

async function shopReady(client: KubeClient): Promise<boolean> {
  const { items } = await client.list(PODS, { namespace: 'shop' });
  // What a roll-out is taking away (the state of an earlier start was older) is waited for by nobody.
  const staying = items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
  return staying.length > 0 && staying.every((pod) => isReady(pod) && isEnrolled(pod));
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
