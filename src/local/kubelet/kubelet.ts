// The kubelet of one emulated node: registers the node, follows the pods bound to it, adopts what a former LOCAL left.

import { type Clock, systemClock } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer, StartInformer } from '#k8s/informer.ts';
import { type Node, PODS, type Pod } from '#k8s/objects.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { IpPool } from '#local/net/ip-pool.ts';
import type { PodPolicies } from '#local/net/network-policies.ts';
import type { Logger } from '#telemetry/log.ts';
import { createEvents } from './events.ts';
import type { ImageOptions } from './images.ts';
import type { ReachablePod } from './kubelet-streams.ts';
import type { LogStore } from './logs.ts';
import { type NodeRegistration, registerNode } from './node-status.ts';
import type { ObjectSource } from './object-source.ts';
import { preparePodProc } from './pod-proc.ts';
import { PodWorker } from './pod-worker.ts';
import { type FoundSandbox, findSandboxes, removeSandbox } from './sandbox.ts';

export interface KubeletDeps {
  readonly node: EmulatedNode;
  readonly client: KubeClient;
  readonly startInformer: StartInformer;
  readonly source: ObjectSource;
  readonly policies: PodPolicies;
  readonly logs: LogStore;
  readonly log: Logger;
  /** The Node as the cluster has it at present. */
  readonly nodeObject: () => Node | undefined;
  readonly clock?: Clock;
}

export interface KubeletOptions {
  readonly images: ImageOptions;
  readonly keepPaths: readonly string[];
}

export interface Kubelet {
  /** Containers of a former LOCAL that still ran. */
  readonly adopted: number;
  /** The pod by its uid, when it runs here. */
  reachable(podUid: string): ReachablePod | undefined;
  /** Leaves the containers running. */
  close(): Promise<void>;
  /** TERM, then KILL, for every container; nothing is written to the API. */
  stopContainers(graceMs: number): Promise<void>;
}

/** Resolves when the node is Ready and what ran is adopted. */
export async function startKubelet(deps: KubeletDeps, options: KubeletOptions): Promise<Kubelet> {
  const { node, client, source, log, nodeObject, clock = systemClock } = deps;
  const netnsFd = openNetns(node.netnsPath);
  const pool = new IpPool(node.plan.networks[0].podPrefix);
  const events = createEvents({ client, log, clock }, { component: 'kubelet', host: node.plan.name }, PODS);
  const workers = new Map<string, PodWorker>();
  let closed = false;

  await preparePodProc(node);
  const found = await findSandboxes(node);
  const foundByUid = new Map<string, FoundSandbox>();
  for (const sandbox of found) {
    foundByUid.set(sandbox.pod.metadata.uid ?? '', sandbox);
    if (!sandbox.sandbox.hostNetwork) pool.reserve(sandbox.sandbox.podIp);
  }

  const makeWorker = (pod: Pod, sandbox?: FoundSandbox): PodWorker => {
    const uid = pod.metadata.uid ?? '';
    const worker = new PodWorker(
      {
        node,
        netnsFd,
        client,
        source,
        policies: deps.policies,
        logs: deps.logs,
        pool,
        events,
        images: options.images,
        keepPaths: options.keepPaths,
        allocatable: () => nodeObject()?.status?.allocatable ?? {},
        clock,
        log,
        onGone: () => {
          workers.delete(uid);
          deps.logs.remove(pod);
        },
      },
      pod,
      sandbox?.sandbox,
    );
    workers.set(uid, worker);
    return worker;
  };

  const registration: NodeRegistration = await registerNode({ client, log, clock, nodeObject }, node);
  const pods: Informer<Pod> = deps.startInformer<Pod>({ client, log }, PODS, {
    fieldSelector: `spec.nodeName=${node.plan.name}`,
  });
  await Promise.all([pods.synced, source.synced]);

  let adopted = 0;
  const known = new Map([...pods.all()].map((pod) => [pod.metadata.uid ?? '', pod]));
  for (const [uid, sandbox] of foundByUid) {
    const pod = known.get(uid);
    if (!sandbox.complete) {
      await removeSandbox({ node, pool, log, policies: deps.policies }, sandbox.pod, sandbox.sandbox);
      continue;
    }
    const worker = makeWorker(pod ?? sandbox.pod, sandbox);
    adopted += await worker.adopt();
    if (pod === undefined) worker.remove();
  }
  if (adopted > 0) log.info('running containers adopted', { node: node.plan.name, containers: adopted });

  pods.addHandlers({
    upsert: (pod) => {
      const uid = pod.metadata.uid ?? '';
      const worker = workers.get(uid);
      if (worker !== undefined) worker.update(pod);
      else if (!closed) makeWorker(pod).start();
    },
    remove: (pod) => workers.get(pod.metadata.uid ?? '')?.remove(),
  });
  const forgetSource = source.onChange((namespace) => {
    for (const worker of workers.values())
      if ((worker.pod.metadata.namespace ?? '') === namespace) worker.sourcesChanged();
  });

  const endLoops = async (end: (worker: PodWorker) => Promise<void>): Promise<void> => {
    if (closed) return;
    closed = true;
    forgetSource();
    pods.close();
    registration.close();
    const results = await Promise.allSettled([...workers.values()].map(end));
    for (const result of results)
      if (result.status === 'rejected')
        log.warn('a pod did not stop cleanly', { error: reasonOf(result.reason) });
    closeFd(netnsFd);
  };
  return {
    adopted,
    reachable: (podUid) => workers.get(podUid)?.reachable,
    close: () => endLoops((worker) => worker.close()),
    stopContainers: (graceMs) => endLoops((worker) => worker.stopContainers(graceMs)),
  };
}
