// Questions about pods that several controllers ask, and the making and deleting of pods from a template.

import type { Random } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import {
  type Condition,
  type KubeObject,
  type Node,
  PODS,
  type Pod,
  type PodTemplate,
  type Resource,
} from '#k8s/objects.ts';
import { isConflict, isNotFound } from '#k8s/status.ts';
import { controllerReference } from './ownership.ts';
import { withCondition, writeStatus } from './status.ts';

const readyCondition = (pod: Pod) => pod.status?.conditions?.find(({ type }) => type === 'Ready');

export const isPodReady = (pod: Pod): boolean => readyCondition(pod)?.status === 'True';

export const isPodFinished = (pod: Pod): boolean =>
  pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';

export const isPodTerminating = (pod: Pod): boolean => pod.metadata.deletionTimestamp !== undefined;

/** Counts towards what a workload wants to have. */
export const isPodActive = (pod: Pod): boolean => !isPodFinished(pod) && !isPodTerminating(pod);

/** Milliseconds until a ready pod counts as available: 0 when it does, undefined when it is not ready at all. */
export function availableInMs(pod: Pod, minReadySeconds: number, nowMs: number): number | undefined {
  if (!isPodReady(pod) || isPodTerminating(pod)) return undefined;
  if (minReadySeconds === 0) return 0;
  const readySinceMs = Date.parse(readyCondition(pod)?.lastTransitionTime ?? '');
  return Number.isNaN(readySinceMs) ? 0 : Math.max(0, readySinceMs + minReadySeconds * 1000 - nowMs);
}

export const isNodeReady = (node: Node): boolean =>
  node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;

const SUFFIX_CHARACTERS = 'bcdfghjklmnpqrstvwxz2456789';
const SUFFIX_LENGTH = 5;
/** Pod names become host names: 63 characters with the suffix. */
const NAME_BASE_LENGTH = 63 - SUFFIX_LENGTH;

/** `web-7d4b9c` → `web-7d4b9c-x2x9z`. */
export function childName(parent: string, random: Random): string {
  let name = `${parent}-`.slice(0, NAME_BASE_LENGTH);
  for (let i = 0; i < SUFFIX_LENGTH; i++)
    name += SUFFIX_CHARACTERS[Math.floor(random() * SUFFIX_CHARACTERS.length)];
  return name;
}

export interface PodMakerDeps {
  readonly client: KubeClient;
  readonly random: Random;
}

/** What a pod has beyond its template. */
export interface PodExtra {
  /** One is made up unless given. */
  readonly name?: string;
  readonly labels?: Record<string, string>;
  readonly spec?: Partial<Pod['spec']>;
}

export function createPodFor(
  deps: PodMakerDeps,
  resource: Resource,
  owner: KubeObject & { readonly spec: { readonly template: PodTemplate } },
  extra: PodExtra = {},
): Promise<Pod> {
  const { name, namespace = '' } = owner.metadata;
  const { metadata = {}, spec } = owner.spec.template;
  const pod: Pod = {
    apiVersion: 'v1',
    kind: PODS.kind,
    metadata: {
      name: extra.name ?? childName(name, deps.random),
      ...(extra.name === undefined ? { generateName: `${name}-` } : {}),
      namespace,
      labels: { ...metadata.labels, ...extra.labels },
      ...(metadata.annotations === undefined ? {} : { annotations: metadata.annotations }),
      ...(metadata.finalizers === undefined ? {} : { finalizers: metadata.finalizers }),
      ownerReferences: [controllerReference(resource, owner)],
    },
    spec: { ...spec, ...extra.spec },
  };
  return deps.client.create(PODS, pod, namespace);
}

/** Says on a pod that is about to be deleted that it was not its own doing. Gone already is fine. */
export async function markDisrupted(
  client: KubeClient,
  pod: Pod,
  why: { readonly reason: string; readonly message: string },
  nowMs: number,
): Promise<void> {
  const condition: Condition = { type: 'DisruptionTarget', status: 'True', ...why };
  try {
    await writeStatus(client, PODS, pod, {
      conditions: withCondition(pod.status?.conditions ?? [], condition, nowMs),
    });
  } catch (error) {
    if (!isNotFound(error) && !isConflict(error)) throw error;
  }
}

/** Deletes this pod and no later one of its name; gone already is fine. A grace of 0 s asks no kubelet. */
export async function deletePod(client: KubeClient, pod: Pod, gracePeriodSeconds?: number): Promise<void> {
  const { name, namespace = '', uid } = pod.metadata;
  try {
    await client.delete(PODS, name, {
      namespace,
      ...(uid === undefined ? {} : { uid }),
      ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    });
  } catch (error) {
    if (!isNotFound(error) && !isConflict(error)) throw error;
  }
}
