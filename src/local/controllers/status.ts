// Writing an object's status: only when it differs, and without touching what others wrote.

import type { KubeClient } from '#k8s/client.ts';
import type { Condition, KubeObject, Resource } from '#k8s/objects.ts';

export type StatusFields = Readonly<Record<string, unknown>>;

/**
 * Patches the fields that differ and returns the new state, or undefined when none did. An undefined field is removed.
 * The caller waits until its copy shows the new state: from an older one the next difference would come out wrong.
 */
export async function writeStatus<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  object: T & { readonly status?: object },
  wanted: StatusFields,
): Promise<T | undefined> {
  const current = (object.status ?? {}) as StatusFields;
  const changes: Record<string, unknown> = {};
  for (const field in wanted)
    if (JSON.stringify(current[field]) !== JSON.stringify(wanted[field]))
      changes[field] = wanted[field] ?? null;
  if (Object.keys(changes).length === 0) return undefined;
  const { name, namespace } = object.metadata;
  return client.patch(
    resource,
    name,
    'merge',
    { status: changes },
    {
      subresource: 'status',
      ...(namespace === undefined ? {} : { namespace }),
    },
  );
}

/** Of a ReplicaSet whose pods cannot be made or deleted, and of its Deployment. */
export const REPLICA_FAILURE = 'ReplicaFailure';

export interface TimedCondition extends Condition {
  lastUpdateTime?: string;
}

export const kubeTime = (nowMs: number): string => `${new Date(nowMs).toISOString().slice(0, 19)}Z`;

/** The conditions with one of them set; its transition time moves only when its status does. */
export function withCondition<C extends Condition>(
  conditions: readonly C[],
  condition: Omit<C, 'lastTransitionTime'>,
  nowMs: number,
): C[] {
  const old = conditions.find(({ type }) => type === condition.type);
  const lastTransitionTime =
    old?.status === condition.status ? (old.lastTransitionTime ?? kubeTime(nowMs)) : kubeTime(nowMs);
  const fresh = { ...condition, lastTransitionTime } as C;
  return old === undefined
    ? [...conditions, fresh]
    : conditions.map((candidate) => (candidate === old ? fresh : candidate));
}
