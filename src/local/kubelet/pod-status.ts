// What a pod's status says about the state of its containers (pure).

import type { Condition, Container, ContainerState, ContainerStatus, Pod } from '#k8s/objects.ts';

export interface EndedRun {
  readonly exitCode: number;
  readonly reason: string;
  readonly startedAt?: string;
  readonly finishedAt: string;
  readonly containerId?: string;
  readonly message?: string;
}

export type ContainerPhase =
  /** Not running: being made, held back, or backing off. */
  | { readonly kind: 'waiting'; readonly reason: string; readonly message?: string }
  | { readonly kind: 'running'; readonly startedAt: string; readonly containerId: string }
  | { readonly kind: 'terminated'; readonly run: EndedRun };

export interface ContainerRecord {
  readonly phase: ContainerPhase;
  readonly restartCount: number;
  readonly ready: boolean;
  readonly started: boolean;
  readonly last?: EndedRun;
}

export interface PodView {
  readonly pod: Pod;
  readonly initRecords: ReadonlyMap<string, ContainerRecord>;
  readonly records: ReadonlyMap<string, ContainerRecord>;
  /** One of each family; undefined until the sandbox is there. */
  readonly podIps: readonly string[] | undefined;
  readonly hostIps: readonly string[];
  readonly startTime: string;
  /** Set once the kubelet gives the pod up for good. */
  readonly failure?: { readonly reason: string; readonly message: string };
}

export type PodStatus = NonNullable<Pod['status']>;
type PublishedStatus = PodStatus & {
  observedGeneration?: number;
};

const CREATING: ContainerRecord = {
  phase: { kind: 'waiting', reason: 'ContainerCreating' },
  restartCount: 0,
  ready: false,
  started: false,
};

type Phase = NonNullable<PodStatus['phase']>;

export function podStatus(view: PodView, now: string): PublishedStatus {
  const { pod, podIps, hostIps } = view;
  const initContainers = pod.spec.initContainers ?? [];
  const passed = (container: Container): boolean =>
    hasPassed(container, view.initRecords.get(container.name));
  const initialized = hasBegun(view) || initContainers.every(passed);
  const record = (name: string): ContainerRecord => view.records.get(name) ?? waitingRecord(initialized);
  const phase = podPhase(view);
  const sidecars = initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  const notReady = [
    ...sidecars.filter(({ name }) => view.initRecords.get(name)?.ready !== true),
    ...pod.spec.containers.filter(({ name }) => !record(name).ready),
  ].map(({ name }) => name);
  const finished = isFinal(phase);
  const containersReady: Omit<Condition, 'type'> = finished
    ? { status: 'False', reason: phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed' }
    : notReady.length === 0
      ? { status: 'True' }
      : {
          status: 'False',
          reason: 'ContainersNotReady',
          message: `containers with unready status: [${notReady.join(' ')}]`,
        };
  const pendingInit = initContainers.filter((container) => !passed(container));
  const conditions: Condition[] = [
    { type: 'PodReadyToStartContainers', status: podIps === undefined ? 'False' : 'True' },
    initialized
      ? { type: 'Initialized', status: 'True' }
      : {
          type: 'Initialized',
          status: 'False',
          reason: 'ContainersNotInitialized',
          message: `containers with incomplete status: [${pendingInit.map(({ name }) => name).join(' ')}]`,
        },
    { type: 'Ready', ...containersReady },
    { type: 'ContainersReady', ...containersReady },
    { type: 'PodScheduled', status: 'True' },
  ];
  const status: PublishedStatus = {
    phase,
    ...(hostIps[0] === undefined ? {} : { hostIP: hostIps[0] }),
    hostIPs: hostIps.map((ip) => ({ ip })),
    startTime: view.startTime,
    conditions: keepTransitionTimes(conditions, pod.status?.conditions ?? [], now),
    containerStatuses: pod.spec.containers.map((container) =>
      containerStatus(container, record(container.name)),
    ),
    // Decided when the pod was made.
    qosClass: pod.status?.qosClass ?? 'BestEffort',
  };
  if (podIps?.[0] !== undefined) {
    status.podIP = podIps[0];
    status.podIPs = podIps.map((ip) => ({ ip }));
  }
  if (initContainers.length > 0) {
    status.initContainerStatuses = initContainers.map((container) =>
      containerStatus(container, view.initRecords.get(container.name) ?? waitingRecord(false)),
    );
  }
  if (view.failure !== undefined) {
    status.reason = view.failure.reason;
    status.message = view.failure.message;
  }
  return status;
}

function waitingRecord(initialized: boolean): ContainerRecord {
  return initialized ? CREATING : { ...CREATING, phase: { kind: 'waiting', reason: 'PodInitializing' } };
}

/** Once a container of the pod ran, a sidecar that starts again takes nothing back. */
function hasBegun({ records }: PodView): boolean {
  return [...records.values()].some(({ phase, last }) => phase.kind !== 'waiting' || last !== undefined);
}

/** Whether an init container lets the next one start: it ended well, or it is a sidecar and has started. */
export function hasPassed({ restartPolicy }: Container, record: ContainerRecord | undefined): boolean {
  return restartPolicy === 'Always' ? record?.started === true : isDone(record);
}

/** An init container that ended well. */
export function isDone(record: ContainerRecord | undefined): boolean {
  return record?.phase.kind === 'terminated' && record.phase.run.exitCode === 0;
}

/** What is published: a pod is over only when nothing of it runs any more, a sidecar included. */
export function podPhase(view: PodView): Phase {
  const outcome = podOutcome(view);
  if (!isFinal(outcome)) return outcome;
  const runs = [...view.records.values(), ...view.initRecords.values()].some(
    ({ phase }) => phase.kind === 'running',
  );
  if (!runs) return outcome;
  return hasBegun(view) ? 'Running' : 'Pending';
}

export const isFinal = (phase: Phase): boolean => phase === 'Succeeded' || phase === 'Failed';

/** What the pod comes to; final as soon as it is decided, whatever is still to be stopped. */
export function podOutcome(view: PodView): Phase {
  if (view.failure !== undefined) return 'Failed';
  const { pod, records, initRecords } = view;
  const policy = pod.spec.restartPolicy ?? 'Always';
  for (const container of hasBegun(view) ? [] : (pod.spec.initContainers ?? [])) {
    const record = initRecords.get(container.name);
    if (hasPassed(container, record)) continue;
    return record?.phase.kind === 'terminated' && policy === 'Never' ? 'Failed' : 'Pending';
  }
  const phases = pod.spec.containers.map(({ name }) => records.get(name));
  const neverStarted = phases.some(
    (record) => record === undefined || (record.phase.kind === 'waiting' && record.last === undefined),
  );
  if (neverStarted) return 'Pending';
  const running = phases.some((record) => record?.phase.kind !== 'terminated');
  if (running) return 'Running';
  const failed = phases.some(
    (record) => record?.phase.kind === 'terminated' && record.phase.run.exitCode !== 0,
  );
  if (policy === 'Always') return 'Running'; // between two runs
  if (!failed) return 'Succeeded';
  return policy === 'Never' ? 'Failed' : 'Running';
}

function containerStatus(container: Container, record: ContainerRecord): ContainerStatus {
  const { phase, last } = record;
  const status: ContainerStatus & { imageID: string } = {
    name: container.name,
    image: container.image,
    imageID: '',
    ready: record.ready,
    started: record.started,
    restartCount: record.restartCount,
    state: containerState(phase),
    lastState: last === undefined ? {} : { terminated: terminatedState(last) },
  };
  if (phase.kind === 'running') status.containerID = phase.containerId;
  else if (phase.kind === 'terminated' && phase.run.containerId !== undefined)
    status.containerID = phase.run.containerId;
  else if (last?.containerId !== undefined) status.containerID = last.containerId;
  return status;
}

function containerState(phase: ContainerPhase): ContainerState {
  switch (phase.kind) {
    case 'waiting':
      return {
        waiting: { reason: phase.reason, ...(phase.message === undefined ? {} : { message: phase.message }) },
      };
    case 'running':
      return { running: { startedAt: phase.startedAt } };
    case 'terminated':
      return { terminated: terminatedState(phase.run) };
  }
}

function terminatedState(run: EndedRun): NonNullable<ContainerState['terminated']> {
  return {
    exitCode: run.exitCode,
    reason: run.reason,
    ...(run.message === undefined ? {} : { message: run.message }),
    ...(run.startedAt === undefined ? {} : { startedAt: run.startedAt }),
    finishedAt: run.finishedAt,
    ...(run.containerId === undefined ? {} : { containerID: run.containerId }),
  };
}

/** `lastTransitionTime` says since when the status is what it is; conditions of other writers stay. */
export function keepTransitionTimes(
  conditions: readonly Condition[],
  former: readonly Condition[],
  now: string,
): Condition[] {
  const own = new Set(conditions.map(({ type }) => type));
  return [
    ...conditions.map((condition) => {
      const before = former.find(({ type }) => type === condition.type);
      const since = before?.status === condition.status ? before.lastTransitionTime : undefined;
      return { ...condition, lastTransitionTime: since ?? now };
    }),
    ...former.filter(({ type }) => !own.has(type)),
  ];
}
