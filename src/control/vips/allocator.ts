// Keeps the planned addresses in the status of ServiceEntries (control-plane.md §2.14). The status is the memory: after
// a restart the plan is made from it. Replicas plan alike; when two write at once, the one that comes second is refused
// by the version it saw, and looks again.

import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import { SERVICE_ENTRIES, type ServiceEntry, type ServiceEntryAddress } from '#k8s/mesh-objects.ts';
import type { KubeObject } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { WorkQueue } from '../work-queue.ts';
import { type Plan, type Pools, planAddresses } from './plan.ts';

export interface VipAllocatorDeps {
  readonly client: Pick<KubeClient, 'patch'>;
  readonly serviceEntries: Informer<ServiceEntry>;
  /** Entries of other revisions and of namespaces out of view are left alone. */
  readonly isOurs: (entry: ServiceEntry) => boolean;
  /** What decides that, besides the entries themselves. */
  readonly decidedBy: readonly Informer<KubeObject>[];
  readonly schedule: (run: () => void) => void;
  readonly log: Logger;
  readonly scope: Scope;
}

export function startVipAllocator(deps: VipAllocatorDeps, pools: Pools): void {
  const { client, serviceEntries, isOurs, schedule, log, scope } = deps;
  let plan: Plan = { addresses: new Map(), unserved: [] };
  let planned = false;
  let complained = '';
  const queue = new WorkQueue({ log, scope, work: reconcile }, { retryInitialMs: 200, retryMaxMs: 30_000 });

  /** Changes of one turn share a plan. */
  function replan(): void {
    if (planned || scope.closed) return;
    planned = true;
    schedule(() => {
      planned = false;
      if (scope.closed) return;
      plan = planAddresses(serviceEntries.all(), pools);
      for (const entry of serviceEntries.all()) if (wanted(entry) !== undefined) queue.add(objectKey(entry));
      complain(plan.unserved);
    });
  }

  function complain(unserved: readonly string[]): void {
    const text = unserved.join(', ');
    if (text !== complained && unserved.length > 0)
      log.error('no address is left for hosts of ServiceEntries; widen PILOT_IP_AUTOALLOCATE_…_PREFIX', {
        hosts: text,
      });
    complained = text;
  }

  /** What has to be written; undefined when the status says it already. */
  function wanted(entry: ServiceEntry): readonly ServiceEntryAddress[] | undefined {
    if (!isOurs(entry)) return undefined;
    const addresses = plan.addresses.get(objectKey(entry)) ?? [];
    const held = (entry.status?.addresses ?? []).map(({ value, host = '' }) => ({ value, host }));
    return JSON.stringify(held) === JSON.stringify(addresses) ? undefined : addresses;
  }

  async function reconcile(key: string): Promise<void> {
    const entry = serviceEntries.get(key);
    const addresses = entry === undefined ? undefined : wanted(entry);
    if (entry === undefined || addresses === undefined) return;
    const { name, namespace = '', resourceVersion } = entry.metadata;
    try {
      await client.patch(
        SERVICE_ENTRIES,
        name,
        'json',
        [
          { op: 'test', path: '/metadata/resourceVersion', value: resourceVersion },
          entry.status === undefined
            ? { op: 'add', path: '/status', value: { addresses } }
            : { op: 'add', path: '/status/addresses', value: addresses },
        ],
        { namespace, subresource: 'status' },
      );
      log.info('addresses of a ServiceEntry', {
        entry: key,
        addresses: addresses.map(({ value }) => value).join(' '),
      });
    } catch (error) {
      if (isNotFound(error)) return;
      // It has changed meanwhile: the change is on its way here, and plans anew.
      if (serviceEntries.get(key)?.metadata.resourceVersion !== resourceVersion) {
        log.debug('the ServiceEntry has changed', { entry: key, error: reasonOf(error) });
        return;
      }
      throw error;
    }
  }

  serviceEntries.addHandlers({ upsert: replan, remove: replan });
  for (const informer of deps.decidedBy) informer.addHandlers({ upsert: replan, remove: replan });
}
