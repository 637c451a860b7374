// What a machine that has just started says about the past: nothing of the former one runs any more, whatever the objects
// claim. Without this, nodes and pods would stand Ready until their kubelets have published.

import type { KubeClient } from '#k8s/client.ts';
import { type Condition, NODES, type Node, PODS, type Pod } from '#k8s/objects.ts';
import { missingNodes, POWER_ANNOTATION } from './node-wishes.ts';
import { DEFAULT_NODE_COUNT } from './plan.ts';

const MESSAGE = 'the machine was started again';

/** Marks every node and pod that ran as not ready. A machine that starts gives all its nodes power. */
export async function forgetFormerMachine(client: KubeClient, nowIso: string): Promise<void> {
  const [nodes, pods] = await Promise.all([client.list(NODES), client.list(PODS)]);
  await Promise.all([
    ...nodes.items.map(async ({ metadata, status }) => {
      if (metadata.annotations?.[POWER_ANNOTATION] !== undefined)
        await client.patch(NODES, metadata.name, 'merge', {
          metadata: { annotations: { [POWER_ANNOTATION]: null } },
        });
      const conditions = notReady(status?.conditions ?? [], ['Ready'], 'Unknown', 'MachineRestarted', nowIso);
      if (conditions !== undefined)
        await client.patch(
          NODES,
          metadata.name,
          'merge',
          { status: { conditions } },
          { subresource: 'status' },
        );
    }),
    ...pods.items.map(async (pod) => {
      const status = stoppedStatus(pod, nowIso);
      if (status === undefined) return;
      const { name, namespace } = pod.metadata;
      await client.patch(
        PODS,
        name,
        'merge',
        { status },
        {
          subresource: 'status',
          ...(namespace === undefined ? {} : { namespace }),
        },
      );
    }),
  ]);
}

/** The part of a pod's status that is no longer true; undefined when all of it is. */
export function stoppedStatus(pod: Pod, nowIso: string): Partial<NonNullable<Pod['status']>> | undefined {
  const { phase, conditions = [], containerStatuses } = pod.status ?? {};
  if (phase === 'Succeeded' || phase === 'Failed') return undefined;
  const changed = notReady(conditions, ['Ready', 'ContainersReady'], 'False', 'MachineRestarted', nowIso);
  if (changed === undefined && containerStatuses?.some(({ state }) => state?.running !== undefined) !== true)
    return undefined;
  return {
    conditions: changed ?? conditions,
    ...(containerStatuses === undefined
      ? {}
      : {
          // The container ID stays: it tells the kubelet that there was a run before, which the restart count shows.
          containerStatuses: containerStatuses.map((status) => ({
            ...status,
            ready: false,
            started: false,
            state: { waiting: { reason: 'ContainerCreating' } },
          })),
        }),
  };
}

function notReady(
  conditions: readonly Condition[],
  types: readonly string[],
  status: 'False' | 'Unknown',
  reason: string,
  nowIso: string,
): Condition[] | undefined {
  if (!conditions.some((condition) => types.includes(condition.type) && condition.status === 'True'))
    return undefined;
  return conditions.map((condition) =>
    types.includes(condition.type) && condition.status === 'True'
      ? { ...condition, status, reason, message: MESSAGE, lastTransitionTime: nowIso }
      : condition,
  );
}

/** Makes the Node objects that are asked for and not there; the machine does the rest. */
export async function ensureNodeObjects(client: KubeClient, asked: number | undefined): Promise<void> {
  const present = (await client.list(NODES)).items.map(({ metadata }) => metadata.name);
  await Promise.all(
    missingNodes(present, asked, DEFAULT_NODE_COUNT).map((name) => {
      const node: Node = { apiVersion: 'v1', kind: NODES.kind, metadata: { name } };
      return client.create(NODES, node);
    }),
  );
}
