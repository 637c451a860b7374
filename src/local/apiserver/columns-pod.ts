// The STATUS, READY and RESTARTS of `kubectl get pods`: one word that sums up every container.

import type { ContainerStatus, Pod } from '#k8s/objects.ts';
import { duration } from './cells.ts';
import { AGE, column, NAME } from './columns.ts';
import type { Column } from './kind.ts';
import type { ApiObject } from './object.ts';

type StatusWithInit = NonNullable<Pod['status']> & { initContainerStatuses?: ContainerStatus[] };

const podOf = (object: ApiObject): Pod => object as unknown as Pod;
const statusOf = (object: ApiObject): StatusWithInit => podOf(object).status ?? {};

function ended(terminated: NonNullable<NonNullable<ContainerStatus['state']>['terminated']>): string {
  if (terminated.reason) return terminated.reason;
  return terminated.signal ? `Signal:${terminated.signal}` : `ExitCode:${terminated.exitCode}`;
}

/** Init containers speak first; then the first container with something to say; then the phase. */
export function podStatusWord(object: ApiObject): string {
  const pod = podOf(object);
  const status = statusOf(object);
  const initial = initReason(pod, status);
  let word = initial ?? status.reason ?? status.phase ?? 'Unknown';
  if (initial === undefined) word = containerReason(status) ?? word;
  if (object.metadata.deletionTimestamp !== undefined)
    return status.phase === 'Succeeded' || status.phase === 'Failed' ? word : 'Terminating';
  return word;
}

function initReason(pod: Pod, status: StatusWithInit): string | undefined {
  const all = pod.spec.initContainers ?? [];
  for (const [index, container] of (status.initContainerStatuses ?? []).entries()) {
    const { terminated, waiting } = container.state ?? {};
    if (terminated?.exitCode === 0) continue;
    const sidecar = (all[index] as { restartPolicy?: string } | undefined)?.restartPolicy === 'Always';
    if (sidecar && container.started === true) continue;
    if (terminated !== undefined) return `Init:${ended(terminated)}`;
    if (waiting !== undefined && waiting.reason !== '' && waiting.reason !== 'PodInitializing')
      return `Init:${waiting.reason}`;
    return `Init:${index}/${all.length}`;
  }
  return undefined;
}

function containerReason(status: StatusWithInit): string | undefined {
  let word: string | undefined;
  let running = false;
  for (const { state, ready } of [...(status.containerStatuses ?? [])].reverse()) {
    if (state?.waiting?.reason) word = state.waiting.reason;
    else if (state?.terminated !== undefined) word = ended(state.terminated);
    else if (ready && state?.running !== undefined) running = true;
  }
  // A finished helper beside a running container does not make the pod "Completed".
  return word === 'Completed' && running ? (isReady(status) ? 'Running' : 'NotReady') : word;
}

const isReady = (status: StatusWithInit): boolean =>
  (status.conditions ?? []).some((each) => each.type === 'Ready' && each.status === 'True');

function ready(object: ApiObject): string {
  const statuses = statusOf(object).containerStatuses ?? [];
  return `${statuses.filter((each) => each.ready).length}/${podOf(object).spec.containers.length}`;
}

function restarts(object: ApiObject, nowMs: number): string {
  const statuses = statusOf(object).containerStatuses ?? [];
  const count = statuses.reduce((sum, each) => sum + each.restartCount, 0);
  const ends = statuses
    .map((each) => Date.parse(each.lastState?.terminated?.finishedAt ?? ''))
    .filter(Number.isFinite);
  return count === 0 || ends.length === 0
    ? String(count)
    : `${count} (${duration(nowMs - Math.max(...ends))} ago)`;
}

export const POD_COLUMNS: readonly Column[] = [
  NAME,
  column('Ready', ready),
  column('Status', podStatusWord),
  column('Restarts', restarts),
  AGE,
  column('IP', (object) => statusOf(object).podIP ?? '<none>', { wide: true }),
  column('Node', (object) => podOf(object).spec.nodeName ?? '<none>', { wide: true }),
  column('Nominated Node', () => '<none>', { wide: true }),
  column('Readiness Gates', () => '<none>', { wide: true }),
];
