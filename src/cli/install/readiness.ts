// Is a workload of the mesh ready, and if not, why? Pure decisions over objects, and one wait that tells what it waits for.

import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { DAEMON_SETS, DEPLOYMENTS, PODS, type Pod } from '#k8s/objects.ts';
import { formatSelector } from '#k8s/selectors.ts';
import { isNotFound } from '#k8s/status.ts';
import type { Workload } from './render.ts';

const POLL_MS = 50;
const SLOW_POLL_MS = 1000;
/** From then on it is no start-up of our own machine any more: the server is asked less often. */
const POLL_FAST_FOR_MS = 20_000;
/** A wait shorter than this needs no words. */
const EXPLAIN_AFTER_MS = 5000;

/** Undefined when every replica runs the newest template and is ready. */
export function unreadyReason(workload: Workload): string | undefined {
  const status = (workload.status ?? {}) as Readonly<Record<string, number | undefined>>;
  const count = (field: string): number => status[field] ?? 0;
  if (count('observedGeneration') < (workload.metadata.generation ?? 0)) return 'not looked at yet';
  const [wanted, updated, ready] = isDaemonSet(workload)
    ? [count('desiredNumberScheduled'), count('updatedNumberScheduled'), count('numberReady')]
    : [
        (workload.spec as { replicas?: number }).replicas ?? 1,
        count('updatedReplicas'),
        count('readyReplicas'),
      ];
  if (isDaemonSet(workload) && wanted === 0) return 'no node takes it';
  if (updated < wanted) return `${updated} of ${wanted} pods are of the newest template`;
  if (ready < wanted) return `${ready} of ${wanted} pods are ready`;
  // Pods of an older template are still there.
  const total = count(isDaemonSet(workload) ? 'currentNumberScheduled' : 'replicas');
  return total > wanted ? `${total - wanted} old pods are still ending` : undefined;
}

const isDaemonSet = (workload: Workload): boolean => workload.kind === 'DaemonSet';

/** What keeps a pod from being ready, in the words of its status; undefined for a ready one. */
export function podProblem(pod: Pod): string | undefined {
  const { status } = pod;
  const condition = (type: string) => status?.conditions?.find((one) => one.type === type);
  if (condition('Ready')?.status === 'True') return undefined;
  if (status?.phase === 'Failed') return `failed: ${status.message ?? status.reason ?? 'no reason given'}`;
  const scheduled = condition('PodScheduled');
  if (scheduled?.status === 'False')
    return `no node takes it: ${scheduled.message ?? scheduled.reason ?? ''}`;
  for (const { name, state, lastState, restartCount } of status?.containerStatuses ?? []) {
    if (state?.waiting !== undefined && state.waiting.reason !== 'ContainerCreating') {
      const ended = lastState?.terminated;
      return `container ${name} waits: ${state.waiting.reason}${text(state.waiting.message)}${
        ended === undefined ? '' : ` (ended with code ${ended.exitCode}, ${restartCount} restarts)`
      }`;
    }
    if (state?.terminated !== undefined)
      return `container ${name} ended with code ${state.terminated.exitCode}${text(state.terminated.reason)}`;
  }
  const readyMessage = condition('Ready')?.message;
  return status?.phase === 'Running'
    ? `its readiness probe fails${text(readyMessage)}`
    : `still starting${text(status?.message)}`;
}

const text = (message: string | undefined): string =>
  message === undefined || message === '' ? '' : `: ${message}`;

export interface WaitOptions {
  readonly limitMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Told, now and then, why it is not ready yet. */
  readonly onWaiting?: (explanation: string) => void;
}

/** @throws MeshError CONFIG_INVALID naming the workload, its pods and what keeps them */
export async function waitUntilReady(
  client: KubeClient,
  wanted: readonly Workload[],
  { limitMs, signal, onWaiting }: WaitOptions,
): Promise<void> {
  const startedAt = performance.now();
  let explainedAt = startedAt + EXPLAIN_AFTER_MS;
  let said = '';
  let pending = wanted;
  for (;;) {
    const states = await Promise.all(
      pending.map(async (workload) => [workload, await look(client, workload)] as const),
    );
    pending = states.filter(([, reason]) => reason !== undefined).map(([workload]) => workload);
    if (pending.length === 0) return;
    if (signal?.aborted === true)
      throw new MeshError('LOCAL_MACHINE_FAILED', 'stopped while waiting for the mesh');
    const now = performance.now();
    const isLate = now - startedAt > limitMs;
    if (isLate || now > explainedAt) {
      explainedAt = now + EXPLAIN_AFTER_MS;
      const explanation = await explain(
        client,
        states.filter(([, reason]) => reason !== undefined),
      );
      if (isLate)
        throw new MeshError('NOT_READY', `not ready after ${Math.round(limitMs / 1000)} s: ${explanation}`);
      if (explanation !== said) onWaiting?.(explanation);
      said = explanation;
    }
    await sleep(now - startedAt < POLL_FAST_FOR_MS ? POLL_MS : SLOW_POLL_MS, signal);
  }
}

async function look(client: KubeClient, { kind, metadata }: Workload): Promise<string | undefined> {
  const { name, namespace } = metadata;
  try {
    return unreadyReason(
      kind === 'DaemonSet'
        ? await client.get(DAEMON_SETS, name, namespace)
        : await client.get(DEPLOYMENTS, name, namespace),
    );
  } catch (error) {
    if (isNotFound(error)) return 'it is not there';
    throw error;
  }
}

async function explain(
  client: KubeClient,
  states: readonly (readonly [Workload, string | undefined])[],
): Promise<string> {
  const parts = await Promise.all(
    states.map(async ([workload, reason]) => {
      const { kind, metadata, spec } = workload;
      const { items } = await client.list(PODS, {
        ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
        labelSelector: formatSelector(spec.selector),
      });
      const problems = items.flatMap((pod) => {
        const problem = podProblem(pod);
        return problem === undefined ? [] : [`pod ${pod.metadata.name}: ${problem}`];
      });
      return `${kind.toLowerCase()} ${metadata.name}: ${reason}${problems.length === 0 ? '' : ` (${problems.join('; ')})`}`;
    }),
  );
  return parts.join('; ');
}

/** The pods of a deleted workload have ended, and with them what they do at their end. @throws MeshError NOT_READY */
export async function waitUntilGone(
  client: KubeClient,
  { metadata, spec }: Workload,
  wait: WaitOptions,
): Promise<void> {
  const deadline = performance.now() + wait.limitMs;
  for (;;) {
    const { items } = await client.list(PODS, {
      namespace: metadata.namespace ?? '',
      labelSelector: formatSelector(spec.selector),
    });
    if (items.length === 0) return;
    if (wait.signal?.aborted === true || performance.now() > deadline)
      throw new MeshError('NOT_READY', `pod ${items[0]?.metadata.name} has not ended`);
    await sleep(POLL_MS, wait.signal);
  }
}
