// Aggregated ClusterRoles: their rules follow those of the roles that their selectors match. So does a new definition's
// author extend `view` and `edit`: by a role of its own with the right label.

import { aggregatedRules, CLUSTER_ROLES } from '#k8s/rbac.ts';
import { isConflict, isNotFound } from '#k8s/status.ts';
import { type ControllerContext, settleOn } from './context.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';

export function createClusterRoleAggregation(context: ControllerContext): WorkQueue {
  const { client, informers, log } = context;
  const roles = informers.of(CLUSTER_ROLES);
  const settle = settleOn(roles);

  const reconcile = async (name: string): Promise<void> => {
    const role = roles.get(name);
    if (role === undefined || role.metadata.deletionTimestamp !== undefined) return;
    const rules = aggregatedRules(role, roles.all());
    if (rules === undefined || JSON.stringify(rules) === JSON.stringify(role.rules ?? [])) return;
    const { resourceVersion } = role.metadata;
    try {
      const body = { metadata: { resourceVersion }, rules };
      await settle.updated(await client.patch(CLUSTER_ROLES, name, 'merge', body));
    } catch (error) {
      if (isConflict(error)) queue.addAfter(name, RETRY_MS);
      else if (!isNotFound(error)) throw error;
    }
  };

  const queue = createWorkQueue({ log }, { name: 'cluster-role-aggregation' }, reconcile);
  // There are a few aggregated roles, and any role may become a part of any of them.
  const lookAtAll = (): void => {
    for (const role of roles.all()) if (role.aggregationRule !== undefined) queue.add(role.metadata.name);
  };
  roles.addHandlers({ upsert: lookAtAll, remove: lookAtAll });
  return queue;
}

/** The copy is a moment behind the server. */
const RETRY_MS = 50;
