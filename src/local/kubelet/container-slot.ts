// One container of a pod over all its runs: the current run, its probes, when it may start again.
//
//   waiting ──start──▶ running ──ends──▶ waiting (back-off) | terminated
//
// The pod worker decides when to start and stop; the slot knows how.

import type { Clock } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { Container, Pod } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import {
  adoptContainer,
  type ContainerEnd,
  type RunningContainer,
  startContainer,
  whenPrepared,
} from './container.ts';
import { containerDir, type PlanContext, planContainer } from './container-plan.ts';
import type { EventSink } from './events.ts';
import type { LogStore } from './logs.ts';
import type { ContainerRecord, EndedRun } from './pod-status.ts';
import { type ProbeOutcome, type ProbeTarget, runHook, runProbe } from './probe.ts';
import { startProbes } from './prober.ts';
import {
  delayAfterEnd,
  formatDelay,
  NO_DELAY,
  type RestartDelay,
  type RestartPolicy,
  shouldRestart,
} from './restart.ts';
import { terminationMessage } from './termination-message.ts';

export interface SlotDeps {
  readonly node: EmulatedNode;
  readonly netnsFd: number;
  readonly logs: LogStore;
  readonly events: EventSink;
  readonly clock: Clock;
  /** Something changed: the worker should look again. */
  readonly wake: () => void;
}

/** What is held back by a missing object or image is looked at again this soon; objects also announce themselves. */
const HELD_RETRY_MS = 500;
const IMAGE_RETRY_MS = 5000;
/** What TERM is given after a preStop hook that used up the grace. */
const AFTER_HOOK_MS = 2000;
/** Kubernetes sets none; a hook that hangs for good would keep its container from ever being probed. */
const POST_START_LIMIT_MS = 600_000;

/** An `init` container ends before the next one starts; a `sidecar` is one that stays, beside the `main` ones. */
export type SlotRole = 'init' | 'sidecar' | 'main';

export class ContainerSlot {
  readonly container: Container;
  readonly role: SlotRole;
  readonly #deps: SlotDeps;
  #record: ContainerRecord;
  #running: RunningContainer | undefined;
  #stopProbes: () => void = () => {};
  #delay: RestartDelay = NO_DELAY;
  #notBeforeMs = 0;
  #killAtMs: number | undefined;
  /** Of the present run. */
  #hookTarget: ProbeTarget | undefined;
  #pod: Pod | undefined;
  #nextAttempt: number;
  #detached = false;
  #imageFailures = 0;
  #isOver = false;

  constructor(deps: SlotDeps, container: Container, role: SlotRole, formerRuns: number) {
    this.#deps = deps;
    this.container = container;
    this.role = role;
    this.#nextAttempt = formerRuns;
    this.#record = {
      phase: { kind: 'waiting', reason: role === 'main' ? 'ContainerCreating' : 'PodInitializing' },
      restartCount: formerRuns,
      ready: false,
      started: false,
    };
  }

  get record(): ContainerRecord {
    return this.#record;
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  get running(): RunningContainer | undefined {
    return this.#running;
  }

  /** When the worker has to look again for this container's sake. */
  get dueMs(): number | undefined {
    if (this.#killAtMs !== undefined) return this.#killAtMs;
    return this.#record.phase.kind === 'waiting' ? this.#notBeforeMs : undefined;
  }

  /** Takes over a run of a former LOCAL, if there is one. */
  async adopt(pod: Pod, context: PlanContext): Promise<boolean> {
    const { node, logs } = this.#deps;
    const found = await adoptContainer(node, containerDir(pod, this.container.name), (attempt) =>
      logs.writer(pod, this.container.name, attempt),
    );
    if (found === undefined) return false;
    const plan = planContainer(pod, this.container, context);
    this.#follow(pod, found, plan.kind === 'spec' ? plan.spec.env : {}, true);
    return true;
  }

  /** Starts the container when it is due. */
  async startIfDue(pod: Pod, context: PlanContext): Promise<void> {
    const { clock, node, logs, events } = this.#deps;
    if (this.#running !== undefined || clock.now() < this.#notBeforeMs) return;
    const plan = planContainer(pod, this.container, context);
    if (plan.kind === 'held') {
      const isImage = plan.reason === 'ErrImagePull';
      // As in the field: the failure itself first, then that it is tried again now and then.
      if (isImage && this.#imageFailures++ > 0)
        this.#wait(
          'ImagePullBackOff',
          `Back-off pulling image "${this.container.image}": ErrImagePull: ${plan.message}`,
        );
      else this.#wait(plan.reason, plan.message);
      this.#notBeforeMs = clock.now() + (isImage ? IMAGE_RETRY_MS : HELD_RETRY_MS);
      events.record(pod, 'Warning', plan.reason === 'ErrImagePull' ? 'Failed' : plan.reason, plan.message);
      return;
    }
    this.#imageFailures = 0;
    const attempt = this.#nextAttempt;
    const log = logs.writer(pod, this.container.name, attempt);
    try {
      const running = await startContainer(node, plan.spec, attempt, log);
      this.#nextAttempt = attempt + 1;
      events.record(pod, 'Normal', 'Started', `Started container ${this.container.name}`);
      this.#follow(pod, running, plan.spec.env, false);
    } catch (error) {
      log.end();
      this.#backOff(pod, 0, 'RunContainerError', reasonOf(error));
    }
  }

  /** TERM now, KILL after the grace. */
  stop(graceMs: number): void {
    if (this.#running === undefined) return;
    this.#stopProbes();
    const killAtMs = this.#deps.clock.now() + graceMs;
    if (this.#killAtMs !== undefined && this.#killAtMs <= killAtMs) return;
    const isFirst = this.#killAtMs === undefined;
    this.#killAtMs = killAtMs;
    this.#record = { ...this.#record, ready: false };
    if (isFirst) this.#sayGoodbye(this.#running, graceMs);
    this.killIfDue();
  }

  /** TERM, after the preStop hook, whose time is a part of the grace. */
  #sayGoodbye(running: RunningContainer, graceMs: number): void {
    const hook = this.container.lifecycle?.preStop;
    if (hook === undefined || graceMs <= 0 || this.#hookTarget === undefined) {
      running.signal('SIGTERM');
      return;
    }
    const target = this.#hookTarget;
    const done = (outcome: ProbeOutcome): void => {
      if (this.#running !== running) return;
      if (outcome.kind === 'failure') this.#hookFailed('FailedPreStopHook', outcome.message);
      running.signal('SIGTERM');
      // A hook that took all of it leaves the program a little, as in the field.
      const { clock, wake } = this.#deps;
      if (this.#killAtMs !== undefined)
        this.#killAtMs = Math.max(this.#killAtMs, clock.now() + Math.min(graceMs, AFTER_HOOK_MS));
      wake();
    };
    whenPrepared(running)
      .then(() => runHook(hook, target, graceMs))
      .then(done, (error: unknown) => done({ kind: 'failure', message: reasonOf(error) }));
  }

  #hookFailed(reason: 'FailedPreStopHook' | 'FailedPostStartHook', message: string): void {
    if (this.#pod !== undefined) this.#deps.events.record(this.#pod, 'Warning', reason, message);
  }

  /** As `stop`, and it is not started again: the pod is over. */
  finish(graceMs: number): void {
    this.#isOver = true;
    this.stop(graceMs);
  }

  killIfDue(): void {
    if (this.#killAtMs === undefined || this.#deps.clock.now() < this.#killAtMs) return;
    this.#running?.signal('SIGKILL');
    // The end follows at once; should the kernel be slow, there is nothing else to do.
    this.#killAtMs = undefined;
  }

  /** Leaves the process alone: LOCAL ends and its successor adopts, or the node lost its power. No end is judged any more. */
  detach(): void {
    this.#detached = true;
    this.#stopProbes();
  }

  get endedPromise(): Promise<unknown> {
    return this.#running?.ended ?? Promise.resolve();
  }

  #follow(
    pod: Pod,
    running: RunningContainer,
    env: Readonly<Record<string, string>>,
    adopted: boolean,
  ): void {
    const { wake } = this.#deps;
    const { run } = running;
    this.#running = running;
    this.#nextAttempt = run.attempt + 1;
    this.#record = {
      ...this.#record,
      phase: { kind: 'running', startedAt: run.startedAt, containerId: run.containerId },
      restartCount: run.attempt,
      started: false,
      ready: false,
    };
    this.#startProbing(pod, running, env, adopted);
    running.ended.then(
      (end) => {
        this.#onEnd(pod, running, end);
        wake();
      },
      (error: unknown) => {
        this.#onEnd(pod, running, {
          kind: 'setup-failed',
          message: reasonOf(error),
          finishedAt: new Date().toISOString(),
        });
        wake();
      },
    );
  }

  #startProbing(
    pod: Pod,
    running: RunningContainer,
    env: Readonly<Record<string, string>>,
    adopted: boolean,
  ): void {
    const { node, netnsFd, wake } = this.#deps;
    if (this.role === 'init') {
      this.#record = { ...this.#record, started: true };
      return;
    }
    const target: ProbeTarget = {
      node,
      netnsFd,
      podIp: this.#podIp,
      container: this.container,
      env,
      pid: running.run.process.pid,
    };
    this.#pod = pod;
    this.#hookTarget = target;
    const hook = this.container.lifecycle?.postStart;
    const probe = (): void => this.#probe(pod, running, target, adopted);
    if (hook === undefined || adopted) {
      probe();
      return;
    }
    // Probes begin after the hook; a container whose hook fails is ended, and its restart policy decides.
    whenPrepared(running)
      .then(() => runHook(hook, target, POST_START_LIMIT_MS))
      .then(
        (outcome) => {
          if (this.#running !== running || this.#killAtMs !== undefined) return;
          if (outcome.kind === 'success') probe();
          else {
            this.#hookFailed('FailedPostStartHook', outcome.message);
            this.stop((pod.spec.terminationGracePeriodSeconds ?? 30) * 1000);
            wake();
          }
        },
        (error: unknown) => this.#hookFailed('FailedPostStartHook', reasonOf(error)),
      );
  }

  #probe(pod: Pod, running: RunningContainer, target: ProbeTarget, adopted: boolean): void {
    const { events, wake } = this.#deps;
    const set = (change: Partial<Pick<ContainerRecord, 'ready' | 'started'>>): void => {
      this.#record = { ...this.#record, ...change };
      wake();
    };
    let prepared = false;
    this.#stopProbes = startProbes(
      {
        run: async (probe) => {
          // Until its mounts are made it has not started: a command would run in the node's file system, and a refused
          // connection would tell nothing. Asked once: probing ends with the run.
          prepared ||= await whenPrepared(running);
          if (!prepared) return { kind: 'failure', message: 'the container is not running' };
          return await runProbe(probe, target);
        },
        onStarted: () => set({ started: true }),
        onReady: (ready) => set({ ready }),
        onFailure: (kind, message) =>
          events.record(pod, 'Warning', 'Unhealthy', `${capital(kind)} probe failed: ${message}`),
        onUnhealthy: (kind) => {
          events.record(
            pod,
            'Normal',
            'Killing',
            `Container ${this.container.name} failed ${kind} probe, will be restarted`,
          );
          const { livenessProbe, startupProbe } = this.container;
          const own = (kind === 'liveness' ? livenessProbe : startupProbe)?.terminationGracePeriodSeconds;
          this.stop((own ?? pod.spec.terminationGracePeriodSeconds ?? 30) * 1000);
          wake();
        },
      },
      this.container,
    );
    // Nothing of an adopted container changed by LOCAL's absence: it stays ready until a probe says otherwise.
    if (adopted) {
      const former = pod.status?.containerStatuses?.find(({ name }) => name === this.container.name);
      if (former?.ready === true) set({ ready: true, started: true });
    }
  }

  #podIp = '';
  setPodIp(podIp: string): void {
    this.#podIp = podIp;
  }

  #onEnd(pod: Pod, running: RunningContainer, end: ContainerEnd): void {
    const { clock, logs } = this.#deps;
    const { run } = running;
    this.#stopProbes();
    this.#running = undefined;
    this.#killAtMs = undefined;
    if (this.#detached) return;
    const message =
      end.kind === 'setup-failed'
        ? end.message
        : terminationMessage(pod, this.container, end, () => logs.end(pod, this.container.name, run.attempt));
    const ended: EndedRun = {
      exitCode: end.kind === 'exited' ? end.exitCode : 128,
      reason: end.kind === 'exited' ? (end.exitCode === 0 ? 'Completed' : 'Error') : 'StartError',
      ...(message === '' ? {} : { message }),
      startedAt: run.startedAt,
      finishedAt: end.finishedAt,
      containerId: run.containerId,
    };
    if (this.#isOver || !shouldRestart(policyOf(this.role, pod), ended.exitCode)) {
      this.#record = { ...this.#record, phase: { kind: 'terminated', run: ended }, ready: false };
      return;
    }
    this.#record = { ...this.#record, last: ended };
    const ranMs = clock.now() - Date.parse(run.startedAt);
    const what = end.kind === 'exited' ? undefined : end.message;
    this.#backOff(pod, ranMs, what === undefined ? 'CrashLoopBackOff' : 'RunContainerError', what);
  }

  #backOff(pod: Pod, ranMs: number, reason: string, message: string | undefined): void {
    const { clock, events } = this.#deps;
    const { waitMs, delay } = delayAfterEnd(this.#delay, ranMs);
    this.#delay = delay;
    this.#notBeforeMs = clock.now() + waitMs;
    const { namespace, name, uid } = pod.metadata;
    const which = `container=${this.container.name} pod=${name}_${namespace}(${uid})`;
    this.#wait(reason, message ?? `back-off ${formatDelay(waitMs)} restarting failed ${which}`);
    if (waitMs > 0)
      events.record(
        pod,
        'Warning',
        'BackOff',
        `Back-off restarting failed container ${this.container.name} in pod ${name}`,
      );
  }

  #wait(reason: string, message: string): void {
    this.#record = {
      ...this.#record,
      phase: { kind: 'waiting', reason, message },
      ready: false,
      started: false,
    };
  }
}

function policyOf(role: SlotRole, { spec }: Pod): RestartPolicy {
  if (role === 'sidecar') return 'Always';
  const policy = spec.restartPolicy ?? 'Always';
  return role === 'init' && policy !== 'Never' ? 'OnFailure' : policy;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
