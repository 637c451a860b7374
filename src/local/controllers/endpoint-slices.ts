// EndpointSlices of every Service with a selector: planned by endpoint-plan.ts, written here with as few changes as possible.

import { objectKey } from '#k8s/informer.ts';
import { type EndpointSlice, PODS, type Pod, SERVICES, type Service } from '#k8s/objects.ts';
import type { ControllerContext } from './context.ts';
import {
  comparableEndpoint,
  hasPlannedEndpoints,
  planSlices,
  type SlicePlan,
  selectsPod,
} from './endpoint-plan.ts';
import { MANAGED_BY, ownSlices, SERVICE_NAME, type SliceContent } from './own-slices.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';

const OUR_NAME = 'endpointslice-controller.k8s.io';
const HEADLESS = 'service.kubernetes.io/headless';

export function createEndpointSliceController(context: ControllerContext): WorkQueue {
  const { informers, log } = context;
  const services = informers.of(SERVICES);
  const pods = informers.of(PODS);
  const slices = ownSlices(context, OUR_NAME);

  const create = (service: Service, plan: SlicePlan): Promise<void> =>
    slices.create(SERVICES, service, labelsFor(service), contentOf(plan));

  const update = async (service: Service, slice: EndpointSlice, plan: SlicePlan): Promise<void> => {
    const labels = labelsFor(service);
    const same =
      JSON.stringify([sorted(labels), plan.ports, plan.endpoints.map(comparableEndpoint)]) ===
      JSON.stringify([
        sorted(slice.metadata.labels ?? {}),
        slice.ports ?? [],
        (slice.endpoints ?? []).map(comparableEndpoint),
      ]);
    if (same) return;
    await slices.update({ ...slice, metadata: { ...slice.metadata, labels }, ...contentOf(plan) });
  };

  const reconcile = async (key: string): Promise<void> => {
    const service = services.get(key);
    const existing = slices.of(key);
    const gone = service === undefined || service.metadata.deletionTimestamp !== undefined;
    if (gone || !hasPlannedEndpoints(service)) {
      for (const slice of existing) await slices.remove(slice);
      return;
    }
    const { kept, fresh, surplus } = assign(planSlices(service, [...pods.all()]), existing);
    for (const [slice, plan] of kept) await update(service, slice, plan);
    for (const plan of fresh) await create(service, plan);
    for (const slice of surplus) await slices.remove(slice);
  };

  const queue = createWorkQueue({ log }, { name: 'endpointslices' }, reconcile);
  const enqueueService = (service: Service): void => queue.add(objectKey(service));
  services.addHandlers({ upsert: enqueueService, remove: enqueueService });
  const enqueueServicesOf = (pod: Pod): void => {
    for (const service of services.all()) if (selectsPod(service, pod)) enqueueService(service);
  };
  pods.addHandlers({
    upsert(pod, old) {
      // Its labels may have changed: the Services it leaves must know too.
      if (old !== undefined) enqueueServicesOf(old);
      enqueueServicesOf(pod);
    },
    remove: enqueueServicesOf,
  });
  slices.watch(queue);
  return queue;
}

/** Gives every planned group the slice that has its ports already, else any other of its family. */
function assign(
  plans: readonly SlicePlan[],
  existing: readonly EndpointSlice[],
): { kept: [EndpointSlice, SlicePlan][]; fresh: SlicePlan[]; surplus: EndpointSlice[] } {
  const free = new Set(existing);
  const kept: [EndpointSlice, SlicePlan][] = [];
  let open = [...plans];
  const take = (matches: (slice: EndpointSlice, plan: SlicePlan) => boolean): void => {
    open = open.filter((plan) => {
      for (const slice of free)
        if (slice.addressType === plan.addressType && matches(slice, plan)) {
          free.delete(slice);
          kept.push([slice, plan]);
          return false;
        }
      return true;
    });
  };
  take((slice, plan) => JSON.stringify(slice.ports ?? []) === JSON.stringify(plan.ports));
  take(() => true);
  return { kept, fresh: open, surplus: [...free] };
}

const contentOf = (plan: SlicePlan): SliceContent => ({
  addressType: plan.addressType,
  endpoints: [...plan.endpoints],
  ports: [...plan.ports],
});

function labelsFor(service: Service): Record<string, string> {
  return {
    ...service.metadata.labels,
    ...(service.spec.clusterIP === 'None' ? { [HEADLESS]: '' } : {}),
    [SERVICE_NAME]: service.metadata.name,
    [MANAGED_BY]: OUR_NAME,
  };
}

const sorted = (labels: Readonly<Record<string, string>>): string[][] =>
  Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
