// New pods as the CNI plugin reports them: found, judged, enrolled before their first packet. The plugin waits for the
// answer, and the pod starts only if it is a success.

import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer } from '#k8s/informer.ts';
import { NAMESPACES, type Namespace, PODS, type Pod } from '#k8s/objects.ts';
import type { Eligibility } from './decision.ts';
import { type Enrolment, uidOf } from './enrolment.ts';
import type { PluginAnswer, PluginEvent } from './plugin-event.ts';

export interface PluginPodsDeps {
  readonly client: Pick<KubeClient, 'get'>;
  readonly pods: Informer<Pod>;
  readonly namespaces: Informer<Namespace>;
  readonly eligible: (pod: Pod) => Eligibility;
  readonly enrolment: Enrolment;
  /** Alone for this pod. */
  readonly exclusive: <T>(uid: string, work: () => Promise<T>) => Promise<T>;
  /** Resolves when the agent has taken stock of the pods that were there before it. */
  readonly started: Promise<void>;
}

/** Within the plugin's deadline of 10 s, with room for ztunnel's ack (5 s). */
const WAIT_FOR_ZTUNNEL_MS = 4000;
const WAIT_FOR_START_MS = 5000;
const WAIT_FOR_NAMESPACE_MS = 1000;
const POLL_MS = 20;

/** @throws MeshError when the pod must not start now; the runtime tries again. */
export function createPluginPods(deps: PluginPodsDeps): (event: PluginEvent) => Promise<PluginAnswer> {
  const { client, pods, namespaces, eligible, enrolment, exclusive } = deps;

  /** The informer's copy, or the API server's: the plugin may be ahead of our watch. */
  async function findPod(event: PluginEvent): Promise<Pod> {
    const isIt = (pod: Pod): boolean => event.podUid === undefined || pod.metadata.uid === event.podUid;
    const cached = pods.get(`${event.podNamespace}/${event.podName}`);
    if (cached !== undefined && isIt(cached)) return cached;
    const fresh = await client.get(PODS, event.podName, event.podNamespace);
    if (isIt(fresh)) return fresh;
    throw new MeshError(
      'CNI_REFUSED',
      `pod ${event.podNamespace}/${event.podName} is another one by now (uid ${fresh.metadata.uid})`,
    );
  }

  /** A namespace made a moment ago: its label may decide, so it is waited for rather than guessed. */
  async function knowNamespace(name: string): Promise<void> {
    if (namespaces.get(name) !== undefined) return;
    await client.get(NAMESPACES, name);
    for (let waitedMs = 0; waitedMs < WAIT_FOR_NAMESPACE_MS; waitedMs += POLL_MS) {
      if (namespaces.get(name) !== undefined) return;
      await sleep(POLL_MS);
    }
    throw new MeshError('CNI_REFUSED', `the agent does not know the namespace ${name} yet`);
  }

  return async (event) => {
    await inTime(deps.started);
    const pod = await findPod(event);
    await knowNamespace(event.podNamespace);
    const decision = eligible(pod);
    if (!decision.enrol) return { enrolled: false, reason: decision.reason };
    if (event.ips.length === 0)
      throw new MeshError(
        'CNI_REFUSED',
        'the primary network gave the pod no address, so it cannot join the mesh; is culvert-cni chained after it?',
      );
    // The event's addresses: status.podIPs is not set before the sandbox stands.
    await exclusive(uidOf(pod), () =>
      enrolment.add(pod, event.ips, { netnsPath: event.netns, waitForZtunnelMs: WAIT_FOR_ZTUNNEL_MS }),
    );
    return { enrolled: true, reason: decision.reason };
  };
}

async function inTime(started: Promise<void>): Promise<void> {
  const timer = new AbortController();
  const late = sleep(WAIT_FOR_START_MS, timer.signal).then(() => {
    if (!timer.signal.aborted)
      throw new MeshError('API_UNREACHABLE', 'the agent has not read the pods from the API server yet');
  });
  try {
    await Promise.race([started, late]);
  } finally {
    timer.abort();
  }
}
