// StatefulSets: numbered pods with names of their own, made in order, replaced from the last to the first
// (stateful-plan.ts decides), with their revisions and status.

import { reasonOf } from '#base/errors.ts';
import { objectKey } from '#k8s/informer.ts';
import {
  CONTROLLER_REVISIONS,
  type ControllerRevision,
  PODS,
  type Pod,
  STATEFUL_SETS,
  type StatefulSet,
} from '#k8s/objects.ts';
import { isAlreadyExists } from '#k8s/status.ts';
import { PERSISTENT_VOLUME_CLAIMS } from '#k8s/storage.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { claimDependents, controllerOf, followDependents } from './ownership.ts';
import { createPodFor, deletePod } from './pods.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';
import { type History, REVISION_HASH, syncHistory, templateOf, trimHistory } from './revisions.ts';
import { resolveCount } from './rollout.ts';
import { claimOwners, claimsFor, withClaims } from './stateful-claims.ts';
import { planStateful, type StatefulPlan } from './stateful-plan.ts';
import { writeStatus } from './status.ts';

const POD_NAME_LABEL = 'statefulset.kubernetes.io/pod-name';
const POD_INDEX_LABEL = 'apps.kubernetes.io/pod-index';
const REVISION_HISTORY_LIMIT = 10;

/** `web-3` of set `web` → 3; undefined for a name that is none of the set's. */
export function ordinalOf(setName: string, podName: string): number | undefined {
  const text = podName.startsWith(`${setName}-`) ? podName.slice(setName.length + 1) : '';
  return /^(0|[1-9]\d*)$/.test(text) ? Number(text) : undefined;
}

export function createStatefulSetController(context: ControllerContext): WorkQueue {
  const { client, informers, log, clock } = context;
  const sets = informers.of(STATEFUL_SETS);
  const pods = informers.of(PODS);
  const revisions = informers.of(CONTROLLER_REVISIONS);
  const events = createEvents({ client, log, clock }, { component: 'statefulset-controller' }, STATEFUL_SETS);
  const podsSettled = settleOn(pods);
  const setsSettled = settleOn(sets);
  const claims = informers.of(PERSISTENT_VOLUME_CLAIMS);
  const claimsSettled = settleOn(claims);
  const history = { context, revisions, settled: settleOn(revisions) };

  const planOf = (set: StatefulSet, owned: readonly Pod[], past: History): StatefulPlan => {
    const { replicas = 1, updateStrategy, ordinals, podManagementPolicy, minReadySeconds = 0 } = set.spec;
    const { partition = 0, maxUnavailable } = updateStrategy?.rollingUpdate ?? {};
    const current = past.all.find(({ metadata }) => metadata.name === set.status?.currentRevision);
    return planStateful({
      replicas,
      start: ordinals?.start ?? 0,
      ordered: podManagementPolicy !== 'Parallel',
      strategy:
        updateStrategy?.type === 'OnDelete'
          ? { kind: 'on-delete' }
          : {
              kind: 'rolling',
              partition,
              maxUnavailable: Math.max(1, resolveCount(maxUnavailable, replicas, 'up', 1)),
            },
      pods: new Map(
        owned.flatMap((pod) => {
          const ordinal = ordinalOf(set.metadata.name, pod.metadata.name);
          return ordinal === undefined ? [] : [[ordinal, pod] as const];
        }),
      ),
      revisionOf: ({ metadata }) => metadata.labels?.[REVISION_HASH] ?? '',
      currentRevision: (current ?? past.update).metadata.name,
      updateRevision: past.update.metadata.name,
      minReadySeconds,
      nowMs: clock.now(),
    });
  };

  const reconcile = async (key: string): Promise<void> => {
    const set = sets.get(key);
    if (set === undefined || set.metadata.deletionTimestamp !== undefined) return;
    const past = await syncHistory(history, STATEFUL_SETS, set);
    const owned = await claimDependents(client, PODS, pods, STATEFUL_SETS, set);
    const plan = planOf(set, owned, past);
    const written = await writeStatus(client, STATEFUL_SETS, set, {
      ...plan.status,
      observedGeneration: set.metadata.generation ?? 0,
      collisionCount: 0,
    });
    if (written !== undefined) await setsSettled.updated(written);
    if (plan.recheckInMs !== undefined) queue.addAfter(key, plan.recheckInMs);
    await ownClaims(set, owned);
    for (const pod of plan.remove) {
      await deletePod(client, pod);
      events.record(
        set,
        'Normal',
        'SuccessfulDelete',
        `delete Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} successful`,
      );
      await podsSettled.deleted(pod);
    }
    for (const { ordinal, revision } of plan.create) await createPod(set, ordinal, past, revision);
    const live = new Set(owned.map(({ metadata }) => metadata.labels?.[REVISION_HASH] ?? ''));
    live.add(plan.status.currentRevision);
    await trimHistory(history, past, live, set.spec.revisionHistoryLimit ?? REVISION_HISTORY_LIMIT);
  };

  const makeClaims = async (set: StatefulSet, ordinal: number): Promise<void> => {
    for (const claim of claimsFor(set, ordinal)) {
      if (claims.get(objectKey(claim)) !== undefined) continue;
      try {
        await claimsSettled.created(await client.create(PERSISTENT_VOLUME_CLAIMS, claim));
        events.record(
          set,
          'Normal',
          'SuccessfulCreate',
          `create Claim ${claim.metadata.name} Pod ${set.metadata.name}-${ordinal} in StatefulSet ${set.metadata.name} success`,
        );
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
      }
    }
  };

  /** Says by owner references with whom claims shall go, as the set's retention policy asks. */
  const ownClaims = async (set: StatefulSet, owned: readonly Pod[]): Promise<void> => {
    for (const pod of owned) {
      const ordinal = ordinalOf(set.metadata.name, pod.metadata.name);
      if (ordinal === undefined) continue;
      for (const { metadata } of claimsFor(set, ordinal)) {
        const claim = claims.get(`${metadata.namespace}/${metadata.name}`);
        const ownerReferences = claim === undefined ? undefined : claimOwners(claim, set, { pod, ordinal });
        if (claim === undefined || ownerReferences === undefined) continue;
        const { name, namespace = '', resourceVersion } = claim.metadata;
        const body = { metadata: { resourceVersion, ownerReferences } };
        await claimsSettled.updated(
          await client.patch(PERSISTENT_VOLUME_CLAIMS, name, 'merge', body, { namespace }),
        );
      }
    }
  };

  const createPod = async (
    set: StatefulSet,
    ordinal: number,
    past: History,
    revision: string,
  ): Promise<void> => {
    const source = past.all.find(({ metadata }) => metadata.name === revision) as ControllerRevision;
    const name = `${set.metadata.name}-${ordinal}`;
    const { serviceName = '' } = set.spec;
    const template = templateOf(source);
    try {
      await makeClaims(set, ordinal);
      const made = await createPodFor(
        context,
        STATEFUL_SETS,
        { ...set, spec: { ...set.spec, template } },
        {
          name,
          labels: { [REVISION_HASH]: revision, [POD_NAME_LABEL]: name, [POD_INDEX_LABEL]: String(ordinal) },
          spec: {
            hostname: name,
            ...(serviceName === '' ? {} : { subdomain: serviceName }),
            ...withClaims(template.spec, set, ordinal),
          },
        },
      );
      events.record(
        set,
        'Normal',
        'SuccessfulCreate',
        `create Pod ${name} in StatefulSet ${set.metadata.name} successful`,
      );
      await podsSettled.created(made);
    } catch (error) {
      if (isAlreadyExists(error)) {
        const other = await client.get(PODS, name, set.metadata.namespace);
        if (controllerOf(other)?.uid === set.metadata.uid) return; // made a moment ago, not in the copy yet
        events.record(
          set,
          'Warning',
          'FailedCreate',
          `create Pod ${name} failed: the name is taken by another pod`,
        );
      } else events.record(set, 'Warning', 'FailedCreate', `create Pod ${name} failed: ${reasonOf(error)}`);
      throw error;
    }
  };

  const queue = createWorkQueue({ log }, { name: 'statefulsets' }, reconcile);
  sets.addHandlers({ upsert: (set) => queue.add(objectKey(set)), remove: () => {} });
  followDependents(pods, { resource: STATEFUL_SETS, informer: sets }, queue);
  return queue;
}
