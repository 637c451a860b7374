// One pod on one node, as a small state machine driven by its spec, its containers and the clock. Level-triggered: `wake()`
// says that something changed, the loop looks at everything again; one pass at a time.
//
//   starting ──sandbox, CNI──▶ running ──all containers ended──▶ finished
//      │                         │                                  │
//      └────────────────── deletion (timestamp or gone) ────────────┴──▶ terminating ──▶ gone

import { Backoff } from '#base/backoff.ts';
import { sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { nodeAddresses } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';
import type { PlanContext } from './container-plan.ts';
import { ContainerSlot } from './container-slot.ts';
import type { ReachablePod } from './kubelet-streams.ts';
import {
  type ContainerRecord,
  hasPassed,
  isFinal,
  type PodView,
  podOutcome,
  podStatus,
} from './pod-status.ts';
import { PodVolumes } from './pod-volumes.ts';
import { createSandbox, removeSandbox, type Sandbox } from './sandbox.ts';
import { isGone, StatusPublisher } from './status-publisher.ts';
import type { WorkerDeps } from './worker-deps.ts';

type PodState =
  | { readonly kind: 'starting' }
  | { readonly kind: 'running'; readonly sandbox: Sandbox }
  | { readonly kind: 'finished' }
  | { readonly kind: 'terminating'; readonly sandbox: Sandbox | undefined }
  | { readonly kind: 'gone' };

const HELD_RETRY_MS = 500;
const STALE_RETRY_MS = 5000;
const API_RETRY_MS = 500;
/** Of a pod that was removed from the API by force: nobody waits for it any more. */
const FORCED_GRACE_MS = 2000;

const DEADLINE_EXCEEDED = {
  reason: 'DeadlineExceeded',
  message: 'Pod was active on the node longer than the specified deadline',
};

export class PodWorker {
  readonly #deps: WorkerDeps;
  readonly #log: Logger;
  readonly #volumes: PodVolumes;
  readonly #publisher: StatusPublisher;
  readonly #initSlots: ContainerSlot[];
  readonly #slots: ContainerSlot[];
  readonly #backoff = new Backoff({ initialMs: 500, maxMs: 10_000 });
  readonly #startTime: string;
  #pod: Pod;
  #state: PodState = { kind: 'starting' };
  #removed = false;
  #closed = false;
  /** Every init container has let the others start. */
  #begun = false;
  #failure: PodView['failure'];
  #graceEndsMs = 0;
  #attempt = 0;
  #retryAtMs = 0;
  #held: { readonly reason: string; readonly message: string } | undefined;
  #wake = new AbortController();
  readonly #unreachable = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(deps: WorkerDeps, pod: Pod, sandbox?: Sandbox) {
    this.#deps = deps;
    this.#pod = pod;
    this.#log = deps.log;
    this.#volumes = new PodVolumes(deps);
    this.#publisher = new StatusPublisher(deps.client);
    const slotDeps = { ...deps, wake: () => this.wake() };
    const formerRuns = (name: string): number => {
      const former = pod.status?.containerStatuses?.find((status) => status.name === name);
      if (former === undefined) return 0;
      // Without an id the run that the count is for never began: its machine was killed before.
      return former.containerID === undefined ? former.restartCount : former.restartCount + 1;
    };
    this.#initSlots = (pod.spec.initContainers ?? []).map(
      (c) => new ContainerSlot(slotDeps, c, c.restartPolicy === 'Always' ? 'sidecar' : 'init', 0),
    );
    this.#slots = pod.spec.containers.map((c) => new ContainerSlot(slotDeps, c, 'main', formerRuns(c.name)));
    this.#startTime = pod.status?.startTime ?? sandbox?.startTime ?? new Date(deps.clock.now()).toISOString();
    const phase = pod.status?.phase;
    if (sandbox !== undefined) this.#state = { kind: 'running', sandbox };
    // A pod that ended in an earlier machine stays ended.
    else if (phase === 'Succeeded' || phase === 'Failed') this.#state = { kind: 'finished' };
  }

  get pod(): Pod {
    return this.#pod;
  }

  get podIp(): string | undefined {
    return this.#state.kind === 'running' ? this.#state.sandbox.podIp : undefined;
  }

  /** What exec, attach and port-forward reach; undefined while the pod has no network. */
  get reachable(): ReachablePod | undefined {
    if (this.#state.kind !== 'running' && this.#state.kind !== 'terminating') return undefined;
    const { sandbox } = this.#state;
    if (sandbox === undefined) return undefined;
    return {
      netnsPath: sandbox.netnsPath,
      gone: this.#unreachable.signal,
      container: (name) =>
        [...this.#initSlots, ...this.#slots].find((slot) => slot.container.name === name)?.running,
    };
  }

  /** Takes over the containers of a former LOCAL, then starts the loop. Returns how many were running. */
  async adopt(): Promise<number> {
    let adopted = 0;
    if (this.#state.kind === 'running') {
      const { sandbox } = this.#state;
      const context = this.#planContext(sandbox, new Map());
      for (const slot of [...this.#initSlots, ...this.#slots]) {
        slot.setPodIp(sandbox.podIp);
        if (await slot.adopt(this.#pod, context)) adopted++;
      }
    }
    this.start();
    return adopted;
  }

  start(): void {
    this.#loop = this.#run();
  }

  update(pod: Pod): void {
    // Downward API files show them.
    const shown = ({ metadata }: Pod): string => JSON.stringify([metadata.labels, metadata.annotations]);
    if (shown(pod) !== shown(this.#pod)) this.#volumes.touch();
    this.#pod = pod;
    this.wake();
  }

  /** The object is gone from the API. */
  remove(): void {
    this.#removed = true;
    this.wake();
  }

  sourcesChanged(): void {
    this.#volumes.touch();
    this.wake();
  }

  wake(): void {
    this.#wake.abort();
  }

  /** Ends the loop and leaves the containers running. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const slot of [...this.#initSlots, ...this.#slots]) slot.detach();
    this.wake();
    await this.#loop;
  }

  /** The machine stops: TERM, then KILL; the API object stays as it is. */
  async stopContainers(graceMs: number): Promise<void> {
    await this.close();
    const running = [...this.#initSlots, ...this.#slots].filter((slot) => slot.isRunning);
    for (const slot of running) slot.stop(graceMs);
    await Promise.race([Promise.all(running.map((slot) => slot.endedPromise)), sleep(graceMs)]);
    for (const slot of running) slot.killIfDue();
  }

  async #run(): Promise<void> {
    while (!this.#closed && this.#state.kind !== 'gone') {
      // Made before the pass: what happens during it wakes the next one.
      this.#wake = new AbortController();
      let delayMs: number | undefined;
      try {
        delayMs = await this.#pass();
        if (!this.#closed) await this.#publish();
      } catch (error) {
        this.#log.warn('a pod could not be brought on', { pod: this.#name, error: reasonOf(error) });
        delayMs = API_RETRY_MS;
      }
      if (this.#isGone || this.#closed) break;
      await sleep(delayMs ?? 3_600_000, this.#wake.signal);
    }
    if (this.#isGone) this.#deps.onGone();
  }

  get #isGone(): boolean {
    return this.#state.kind === 'gone';
  }

  get #name(): string {
    return `${this.#pod.metadata.namespace}/${this.#pod.metadata.name}`;
  }

  get #mustEnd(): boolean {
    return this.#removed || this.#pod.metadata.deletionTimestamp !== undefined;
  }

  /** One look at everything; returns how long nothing is due, or undefined. */
  async #pass(): Promise<number | undefined> {
    const { kind } = this.#state;
    if (this.#mustEnd && kind !== 'terminating' && kind !== 'gone') this.#beginTermination();
    switch (this.#state.kind) {
      case 'starting':
        return this.#start();
      case 'running':
        return this.#drive(this.#state.sandbox);
      case 'terminating':
        return this.#terminate(this.#state.sandbox);
      case 'finished':
      case 'gone':
        return undefined;
    }
  }

  async #start(): Promise<number | undefined> {
    const { clock, events } = this.#deps;
    const waitMs = this.#retryAtMs - clock.now();
    if (waitMs > 0) return waitMs;
    try {
      const sandbox = await createSandbox(this.#deps, this.#pod, this.#attempt++);
      this.#state = { kind: 'running', sandbox };
      this.#held = undefined;
      return 0;
    } catch (error) {
      const message = `Failed to create pod sandbox: ${reasonOf(error)}`;
      this.#log.warn('a pod sandbox failed', { pod: this.#name, error: reasonOf(error) });
      events.record(this.#pod, 'Warning', 'FailedCreatePodSandBox', message);
      this.#held = { reason: 'ContainerCreating', message };
      const delayMs = this.#backoff.next();
      this.#retryAtMs = clock.now() + delayMs;
      return delayMs;
    }
  }

  async #drive(sandbox: Sandbox): Promise<number | undefined> {
    const synced = await this.#volumes.syncIfDue(this.#pod, sandbox);
    if (synced.kind === 'missing') {
      this.#held = { reason: 'ContainerCreating', message: synced.message };
      this.#deps.events.record(this.#pod, 'Warning', 'FailedMount', synced.message);
      return HELD_RETRY_MS;
    }
    this.#held = undefined;
    if (synced.kind === 'stale')
      this.#log.warn('volumes could not be renewed', { pod: this.#name, error: synced.message });
    const context = this.#planContext(sandbox, this.#volumes.paths);
    const slots = this.#currentSlots();
    const deadlineMs = this.#deadlineMs();
    if (deadlineMs <= this.#deps.clock.now()) this.#failure ??= DEADLINE_EXCEEDED;
    for (const slot of slots) {
      slot.setPodIp(sandbox.podIp);
      slot.killIfDue();
      if (slot.record.phase.kind === 'waiting' && this.#failure === undefined)
        await slot.startIfDue(this.#pod, context);
    }
    if (isFinal(podOutcome(this.#view(sandbox.podIps)))) {
      // Sidecars, and all of a pod whose time is up.
      const running = [...this.#initSlots, ...this.#slots].filter((slot) => slot.isRunning);
      if (running.length > 0) {
        for (const slot of running) slot.finish(this.#graceMs());
        return Math.max(1, Math.min(...running.map((slot) => (slot.dueMs ?? 0) - this.#deps.clock.now())));
      }
      await this.#publish(); // with the address it had
      this.#unreachable.abort();
      await removeSandbox(this.#deps, this.#pod, sandbox);
      this.#state = { kind: 'finished' };
      return undefined;
    }
    const dueMs = [...slots.flatMap((slot) => slot.dueMs ?? []), deadlineMs].map((due) =>
      Math.max(0, due - this.#deps.clock.now()),
    );
    // What could not be renewed is tried again soon.
    const renewal = synced.kind === 'stale' ? STALE_RETRY_MS : this.#volumes.renewalInMs();
    const next = Math.min(renewal, ...dueMs);
    return Number.isFinite(next) ? Math.max(1, next) : undefined;
  }

  /** The containers that may run now: init containers one by one, sidecars from their turn on, then all. */
  #currentSlots(): ContainerSlot[] {
    const blocking = this.#begun
      ? undefined
      : this.#initSlots.find((slot) => !hasPassed(slot.container, slot.record));
    if (blocking === undefined) {
      this.#begun = true;
      return [...this.#initSlots.filter(({ role }) => role === 'sidecar'), ...this.#slots];
    }
    const earlier = this.#initSlots.slice(0, this.#initSlots.indexOf(blocking));
    return [...earlier.filter(({ role }) => role === 'sidecar'), blocking];
  }

  #deadlineMs(): number {
    const { activeDeadlineSeconds } = this.#pod.spec;
    return activeDeadlineSeconds === undefined
      ? Number.POSITIVE_INFINITY
      : Date.parse(this.#startTime) + activeDeadlineSeconds * 1000;
  }

  #graceMs(): number {
    const { deletionGracePeriodSeconds } = this.#pod.metadata;
    const seconds = deletionGracePeriodSeconds ?? this.#pod.spec.terminationGracePeriodSeconds ?? 30;
    return this.#removed ? FORCED_GRACE_MS : seconds * 1000;
  }

  #beginTermination(): void {
    const sandbox = this.#state.kind === 'running' ? this.#state.sandbox : undefined;
    const graceMs = this.#graceMs();
    this.#graceEndsMs = this.#deps.clock.now() + graceMs;
    const others = [...this.#initSlots, ...this.#slots].filter(
      (slot) => slot.isRunning && slot.role !== 'sidecar',
    );
    // Sidecars serve the others to the end; with nobody to serve they go at once.
    for (const slot of others.length > 0 ? others : this.#initSlots) {
      if (!slot.isRunning) continue;
      this.#deps.events.record(this.#pod, 'Normal', 'Killing', `Stopping container ${slot.container.name}`);
      slot.stop(graceMs);
    }
    this.#state = { kind: 'terminating', sandbox };
  }

  async #terminate(sandbox: Sandbox | undefined): Promise<number | undefined> {
    const running = [...this.#initSlots, ...this.#slots].filter((slot) => slot.isRunning);
    if (running.length > 0) {
      if (running.every(({ role }) => role === 'sidecar'))
        for (const slot of running) slot.stop(Math.max(0, this.#graceEndsMs - this.#deps.clock.now()));
      if (this.#removed) for (const slot of running) slot.stop(FORCED_GRACE_MS);
      for (const slot of running) slot.killIfDue();
      const dueMs = running.flatMap((slot) => slot.dueMs ?? []);
      return Math.max(1, Math.min(API_RETRY_MS * 10, ...dueMs.map((due) => due - this.#deps.clock.now())));
    }
    if (sandbox !== undefined) {
      await this.#publish();
      this.#unreachable.abort();
      await removeSandbox(this.#deps, this.#pod, sandbox);
      this.#state = { kind: 'terminating', sandbox: undefined };
    }
    if (!this.#removed) {
      const { name, namespace, uid } = this.#pod.metadata;
      try {
        await this.#deps.client.delete(PODS, name, {
          gracePeriodSeconds: 0,
          ...(namespace === undefined ? {} : { namespace }),
          ...(uid === undefined ? {} : { uid }),
        });
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
    this.#state = { kind: 'gone' };
    return undefined;
  }

  #planContext(sandbox: Sandbox, volumes: ReadonlyMap<string, string>): PlanContext {
    const { node, images, keepPaths, source, allocatable } = this.#deps;
    return { node, images, keepPaths, source, allocatable: allocatable(), sandbox, volumes };
  }

  #view(podIps: readonly string[] | undefined): PodView {
    const recordOf = (slot: ContainerSlot): readonly [string, ContainerRecord] => {
      const { record } = slot;
      const held = this.#held;
      if (held === undefined || record.phase.kind !== 'waiting') return [slot.container.name, record];
      return [slot.container.name, { ...record, phase: { kind: 'waiting', ...held } }];
    };
    return {
      pod: this.#pod,
      initRecords: new Map(this.#initSlots.map(recordOf)),
      records: new Map(this.#slots.map(recordOf)),
      podIps,
      hostIps: nodeAddresses(this.#deps.node.plan),
      startTime: this.#startTime,
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
    };
  }

  async #publish(): Promise<void> {
    const state = this.#state;
    if (state.kind === 'finished' || state.kind === 'gone' || this.#removed) return;
    if (state.kind === 'terminating' && state.sandbox === undefined) return;
    const podIps = state.kind === 'starting' ? undefined : state.sandbox?.podIps;
    const status = podStatus(this.#view(podIps), new Date(this.#deps.clock.now()).toISOString());
    const written = await this.#publisher.publish(this.#pod, status);
    // Kept for the transition times of the next status; the watch brings the same a little later.
    if (written !== undefined) this.#pod = { ...this.#pod, status: written };
  }
}
