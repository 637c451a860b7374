// The node's CNI agent: brings every pod of this node to the state that its labels ask for, and tells ztunnel.
// Level-triggered: events only say which pod to look at; what is to be done follows from labels and real state.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemClock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer } from '#k8s/informer.ts';
import type { Namespace, PeerAuthentication, Pod } from '#k8s/objects.ts';
import { closeFd, netnsId, openNetns } from '#linux/netns.ts';
import type { Logger } from '#telemetry/log.ts';
import type { BranchEni } from './branch-eni.ts';
import { createComparison } from './comparison.ts';
import { DATAPLANE_MODE_LABEL } from './constants.ts';
import { type Eligibility, type Enrolled, type EnrolmentPolicy, eligibility, nextStep } from './decision.ts';
import { createEnrolment, namesOf, uidOf } from './enrolment.ts';
import { createNetnsFinder, type FindNetns } from './netns-finder.ts';
import {
  createOlderWatch,
  kernelOlderConnections,
  type OlderConnectionCalls,
  type PodOlderConnections,
} from './older-watch.ts';
import type { PluginAnswer, PluginEvent } from './plugin-event.ts';
import { createPluginPods } from './plugin-pods.ts';
import { type PluginServer, startPluginServer } from './plugin-server.ts';
import { PodTable } from './pod-table.ts';
import { createProtectionWatch, type Protection } from './protection.ts';
import { createRuleWatch } from './rule-watch.ts';
import type { HostProbes } from './rules/host-probes.ts';
import type { PodRules } from './rules/pod-rules.ts';
import { createSurvey } from './survey.ts';
import { createWorkQueue } from './work-queue.ts';
import { createZdsServer, type ZdsServer } from './zds-server.ts';

export interface CniAgentDeps {
  readonly client: Pick<KubeClient, 'get' | 'patch'>;
  /** Of this node only (`spec.nodeName`). */
  readonly pods: Informer<Pod>;
  readonly namespaces: Informer<Namespace>;
  /** Say where older connections in plaintext may not go on; not waited for at the start. */
  readonly peerAuthentications: Informer<PeerAuthentication>;
  readonly log: Logger;
  /** Told of everything the agent does, for its metrics. */
  readonly onReconciled?: (type: 'add' | 'update' | 'delete') => void;
  readonly onPluginAnswer?: (status: number) => void;
  /** How rules get into pods and onto the node. */
  readonly rules: PodRules;
  readonly probes: HostProbes;
  readonly branchEni?: BranchEni | undefined;
  readonly findNetns?: FindNetns;
  readonly older?: OlderConnectionCalls;
}

export interface CniAgentOptions {
  readonly policy: EnrolmentPolicy;
  readonly netnsDir: string;
  /** `/proc` of the node. */
  readonly procDir: string;
  /** UNIX socket that ztunnel connects to. */
  readonly zdsPath: string;
  /** Holds the plugin's socket. */
  readonly runDir: string;
  readonly ipv6: boolean;
  readonly dnsCapture: boolean;
  /** How long redirected connections of a pod that leaves the mesh may go on. */
  readonly unenrolDrainMs: number;
  /** Connections older than the enrolment end with it, unless the pod says otherwise. */
  readonly closeOlder: boolean;
  /** How often the namespaces' real state is compared; 60 s unless given. */
  readonly resyncMs?: number;
}

export interface CniAgent {
  /** Resolves when new pods can be enrolled: rules of the node, plugin socket, first list of pods. */
  start(): Promise<void>;
  readonly isReady: boolean;
  readonly connectedZtunnels: number;
  /** Connections of enrolled pods that go past ztunnel because they are older than the enrolment. */
  olderConnections(): PodOlderConnections[];
  /** How many pods of the mesh on this node are in this state. */
  podCount(protection: Protection): number;
  /** Pods stay as they are: their rules hold without us. `removeHostRules` also forgets the node's probes. */
  stop(options?: { readonly removeHostRules?: boolean }): Promise<void>;
}

const RESYNC_MS = 60_000;
const RETRY = { initialMs: 50, maxMs: 5000, jitter: 0.2 } as const;
const CONCURRENCY = 4;
const DRAIN_CHECK_MS = 250;
const PROTECTION_CHECK_MS = 5000;

export function createCniAgent(deps: CniAgentDeps, options: CniAgentOptions): CniAgent {
  const { client, pods, namespaces, rules, probes, log } = deps;
  const { policy } = options;
  const olderCalls = deps.older ?? kernelOlderConnections;
  const scope = new Scope('cni agent');
  const table = new PodTable(createRuleWatch({ onChange: (uid) => comparison.rulesSoon(uid), log }));
  /** Every pod of the node that the informer holds, by uid. */
  const known = new Map<string, Pod>();
  /** Pods of the first list that are not ours: their namespaces may still carry rules of an agent that died. */
  const unchecked = new Set<string>();
  /** Why the last attempt failed. */
  const failures = new Map<string, string>();
  const started = Promise.withResolvers<void>();
  // Stopping before the start was complete is no failure of its own.
  started.promise.catch(() => {});
  let pluginServer: PluginServer | undefined;
  let zds: ZdsServer | undefined;
  let isReady = false;

  const homeFd = openNetns('/proc/self/ns/net');
  const hostNetns = netnsId(homeFd);
  closeFd(homeFd);
  const findNetns =
    deps.findNetns ??
    createNetnsFinder(
      { hostNetns, monotonicMs: systemClock.monotonicMs },
      { pinnedDir: options.netnsDir, procDir: options.procDir },
    );

  const enrolment = createEnrolment(
    {
      table,
      rules,
      probes,
      branchEni: deps.branchEni,
      client,
      findNetns,
      hostNetns,
      older: olderCalls,
      clock: systemClock,
      log,
      zds: {
        add: (pod, waitMs) => requireZds().add(pod, waitMs),
        del: (uid) => requireZds().del(uid),
      },
    },
    { ipv6: options.ipv6, dnsCapture: options.dnsCapture, drainMs: options.unenrolDrainMs },
  );
  const older = createOlderWatch(
    {
      calls: olderCalls,
      table,
      pod: (uid) => known.get(uid),
      peerAuthentications: deps.peerAuthentications,
      log,
    },
    {
      ipv6: options.ipv6,
      dnsCapture: options.dnsCapture,
      rootNamespace: policy.systemNamespace,
      closeByDefault: options.closeOlder,
    },
  );

  const queue = createWorkQueue(
    {
      run: reconcile,
      onFailure(uid, error, retryMs) {
        failures.set(uid, reasonOf(error));
        const noZtunnel = zds === undefined || zds.connectedCount === 0;
        const report = noZtunnel ? log.debug : log.warn;
        report('pod not brought to its state yet', {
          ...namesOf(known.get(uid)),
          uid,
          error: reasonOf(error),
          retryMs: Math.round(retryMs),
        });
      },
    },
    { concurrency: CONCURRENCY, retry: RETRY },
  );

  const comparison = createComparison({
    table,
    pod: (uid) => known.get(uid),
    enrolment,
    queue,
    consider,
    onRound: () => older.reviewAll(),
    scope,
    log,
  });

  function requireZds(): ZdsServer {
    if (zds === undefined) throw new MeshError('CNI_REFUSED', 'the agent has not started yet');
    return zds;
  }

  const eligible = (pod: Pod): Eligibility =>
    eligibility(pod, namespaces.get(pod.metadata.namespace ?? 'default')?.metadata.labels, policy);

  const survey = createSurvey(
    { table, rules, findNetns, eligible },
    { ipv6: options.ipv6, dnsCapture: options.dnsCapture },
  );

  function enrolledState(uid: string): Enrolled {
    const entry = table.entry(uid);
    if (entry === undefined) return { stage: 'none' };
    return entry.stage === 'done' ? { stage: 'done', ips: entry.ips } : { stage: 'partial' };
  }

  const stepFor = (uid: string): ReturnType<typeof nextStep> => {
    const pod = known.get(uid);
    const state = pod === undefined ? ({ enrol: false, reason: 'not-labelled' } as const) : eligible(pod);
    return nextStep(pod, state, enrolledState(uid), table.entry(uid)?.ips);
  };

  async function reconcile(uid: string): Promise<void> {
    const pod = known.get(uid);
    const step = stepFor(uid);
    switch (step.kind) {
      case 'nothing':
        if (pod !== undefined && step.reason === 'not-ours' && unchecked.delete(uid))
          await enrolment.cleanLeftovers(uid, pod);
        return;
      case 'add':
        unchecked.delete(uid);
        if (pod === undefined) return;
        await enrolment.add(pod, step.ips);
        failures.delete(uid);
        older.review(uid);
        deps.onReconciled?.('add');
        return;
      case 'addresses':
        await enrolment.setAddresses(uid, step.ips);
        // Another address is another sandbox, and it may have been made without us.
        comparison.podSoon(uid);
        deps.onReconciled?.('update');
        return;
      case 'remove':
        unchecked.delete(uid);
        if ((await enrolment.remove(uid, pod, step.podEnded)) === 'draining')
          scope.timeout(DRAIN_CHECK_MS, () => queue.schedule(uid));
        else {
          failures.delete(uid);
          deps.onReconciled?.('delete');
        }
        return;
    }
  }

  /** Only pods with something to do enter the queue: every status update of every pod passes here. */
  function consider(uid: string): void {
    if (stepFor(uid).kind !== 'nothing' || unchecked.has(uid)) queue.schedule(uid);
  }

  function follow(): void {
    pods.addHandlers({
      upsert(pod, old) {
        const uid = uidOf(pod);
        known.set(uid, pod);
        consider(uid);
        // Containers that were made anew may be in a new sandbox, made without us (cni.md A.13.5).
        if (old !== undefined && containersOf(old) !== containersOf(pod)) comparison.podSoon(uid);
      },
      remove(pod) {
        const uid = uidOf(pod);
        known.delete(uid);
        unchecked.delete(uid);
        consider(uid);
      },
    });
    namespaces.addHandlers({
      upsert(namespace, old) {
        const mode = namespace.metadata.labels?.[DATAPLANE_MODE_LABEL];
        if (old !== undefined && old.metadata.labels?.[DATAPLANE_MODE_LABEL] === mode) return;
        for (const [uid, pod] of known) if (pod.metadata.namespace === namespace.metadata.name) consider(uid);
      },
      // Its pods go first, each with an event of its own.
      remove: () => {},
    });
    deps.peerAuthentications.addHandlers({ upsert: () => older.reviewAll(), remove: () => {} });
  }

  /**
   * Before any ztunnel may connect: whoever was enrolled must be named in the first snapshot, or ztunnel would drop
   * running proxies. Whether the pod should be enrolled is looked at afterwards.
   */
  async function adopt(): Promise<void> {
    for (const pod of pods.all()) {
      known.set(uidOf(pod), pod);
      if (pod.spec.hostNetwork !== true && !(await survey.adopt(pod))) unchecked.add(uidOf(pod));
    }
    await probes.install([...table.entries()].flatMap(({ uid, ips }) => ips.map((ip) => ({ ip, uid }))));
  }

  const onPluginPod = createPluginPods({
    client,
    pods,
    namespaces,
    eligible,
    enrolment,
    exclusive: (uid, work) => queue.exclusive(uid, work),
    started: started.promise,
  });

  /** Its labels may have changed while it was enrolled. One that our watch has not shown yet is considered when it does. */
  async function onPlugin(event: PluginEvent): Promise<PluginAnswer> {
    const answer = await onPluginPod(event);
    for (const { uid } of [...table.entries()]) if (known.has(uid)) consider(uid);
    return answer;
  }

  async function onCheck({ podNamespace, podName, podUid }: PluginEvent): Promise<void> {
    await started.promise;
    const pod = pods.get(`${podNamespace}/${podName}`);
    const isIt = pod !== undefined && (podUid === undefined || pod.metadata.uid === podUid);
    if (isIt) await survey.check(pod);
  }

  const protection = createProtectionWatch({
    observe: () => survey.observe(known, failures),
    clock: systemClock,
    log,
  });

  function watchProtection(): void {
    scope.timeout(PROTECTION_CHECK_MS, () => {
      protection.check();
      watchProtection();
    });
  }

  return {
    async start() {
      pluginServer = await startPluginServer(
        {
          onPod: onPlugin,
          onCheck,
          isReady: () => isReady,
          onAnswer: (status) => deps.onPluginAnswer?.(status),
          log,
        },
        { runDir: options.runDir },
      );
      await Promise.all([pods.synced, namespaces.synced]);
      await adopt();
      mkdirSync(dirname(options.zdsPath), { recursive: true });
      const zdsServer = createZdsServer(
        { pods: table, log },
        {
          path: options.zdsPath,
          onSnapshot: () => {
            for (const { uid } of [...table.entries()]) consider(uid);
          },
        },
      );
      zds = zdsServer;
      scope.onClose(() => zdsServer.close());
      follow();
      comparison.startRounds(options.resyncMs ?? RESYNC_MS);
      watchProtection();
      isReady = true;
      started.resolve();
      log.info('ready', { pods: known.size, enrolled: table.uids().length });
    },
    get isReady() {
      return isReady;
    },
    get connectedZtunnels() {
      return zds?.connectedCount ?? 0;
    },
    olderConnections: () => older.list(),
    podCount: (state) => protection.count(state),
    async stop({ removeHostRules = false } = {}) {
      isReady = false;
      started.reject(new MeshError('CNI_REFUSED', 'the agent is stopping'));
      await pluginServer?.close();
      scope.close();
      await queue.close();
      if (removeHostRules) await probes.uninstall();
      table.close();
    },
  };
}

const containersOf = ({ status }: Pod): string =>
  (status?.containerStatuses ?? []).map(({ containerID = '' }) => containerID).join(' ');
