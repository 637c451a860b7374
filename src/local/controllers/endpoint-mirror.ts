// Mirrors Endpoints that people write (for a Service without selector) into EndpointSlices: everything else reads slices only.

import { objectKey } from '#k8s/informer.ts';
import { ENDPOINTS, type EndpointSlice, type Endpoints, SERVICES, type Service } from '#k8s/objects.ts';
import type { ControllerContext } from './context.ts';
import { type AddressType, comparableEndpoint, type Endpoint, type EndpointPort } from './endpoint-plan.ts';
import { ownSlices } from './own-slices.ts';
import { createWorkQueue, type WorkQueue } from './queue.ts';

const OUR_NAME = 'endpointslicemirroring-controller.k8s.io';
/** Set by people and by leader election: these Endpoints are nobody's backends. */
const SKIP_LABEL = 'endpointslice.kubernetes.io/skip-mirror';
const LEADER_ANNOTATION = 'control-plane.alpha.kubernetes.io/leader';
const MAX_PER_SUBSET = 1000;

export interface MirroredSlice {
  readonly addressType: AddressType;
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
}

/** One slice for each subset and address family (pure). */
export function mirrorOf({ subsets = [] }: Endpoints): MirroredSlice[] {
  return subsets.flatMap(({ addresses = [], notReadyAddresses = [], ports = [] }) => {
    const entries = [
      ...addresses.map((address) => ({ address, ready: true })),
      ...notReadyAddresses.map((address) => ({ address, ready: false })),
    ].slice(0, MAX_PER_SUBSET);
    return (['IPv4', 'IPv6'] as const).flatMap((addressType) => {
      const own = entries.filter(({ address }) => address.ip.includes(':') === (addressType === 'IPv6'));
      if (own.length === 0) return [];
      return [
        {
          addressType,
          ports: ports.map(({ name = '', port, protocol = 'TCP', appProtocol }) => ({
            name,
            port,
            protocol,
            ...(appProtocol === undefined ? {} : { appProtocol }),
          })),
          endpoints: own.map(({ address: { ip, hostname, nodeName, targetRef }, ready }) => ({
            addresses: [ip],
            conditions: { ready },
            ...(hostname === undefined ? {} : { hostname }),
            ...(nodeName === undefined ? {} : { nodeName }),
            ...(targetRef === undefined ? {} : { targetRef }),
          })),
        },
      ];
    });
  });
}

/** Whether these Endpoints are mirrored at all (pure). */
export function isMirrored(endpoints: Endpoints | undefined, service: Service | undefined): boolean {
  if (endpoints === undefined || service === undefined) return false;
  if (endpoints.metadata.deletionTimestamp !== undefined) return false;
  if (endpoints.metadata.labels?.[SKIP_LABEL] === 'true') return false;
  if (endpoints.metadata.annotations?.[LEADER_ANNOTATION] !== undefined) return false;
  return service.spec.type !== 'ExternalName' && Object.keys(service.spec.selector ?? {}).length === 0;
}

export function createEndpointMirror(context: ControllerContext): WorkQueue {
  const { informers, log } = context;
  const services = informers.of(SERVICES);
  const endpoints = informers.of(ENDPOINTS);
  const slices = ownSlices(context, OUR_NAME);

  const reconcile = async (key: string): Promise<void> => {
    const source = endpoints.get(key);
    const wanted = source !== undefined && isMirrored(source, services.get(key)) ? mirrorOf(source) : [];
    const surplus = slices.of(key);
    for (const slice of wanted) {
      const same = surplus.findIndex((existing) => contentOf(existing) === contentOf(slice));
      if (same >= 0) surplus.splice(same, 1);
      else if (source !== undefined) await create(source, slice);
    }
    // New ones first: a service never loses all its endpoints in between.
    for (const slice of surplus) await slices.remove(slice);
  };

  const create = (source: Endpoints, { addressType, ports, endpoints }: MirroredSlice): Promise<void> =>
    slices.create(ENDPOINTS, source, source.metadata.labels, {
      addressType,
      ports: [...ports],
      endpoints: [...endpoints],
    });

  const queue = createWorkQueue({ log }, { name: 'endpointslicemirroring' }, reconcile);
  const enqueue = (object: Service | Endpoints): void => queue.add(objectKey(object));
  services.addHandlers({ upsert: enqueue, remove: enqueue });
  endpoints.addHandlers({ upsert: enqueue, remove: enqueue });
  slices.watch(queue);
  return queue;
}

/** Field by field: the server may give them back in another order. */
function contentOf({ addressType, ports, endpoints }: MirroredSlice | EndpointSlice): string {
  return JSON.stringify([
    addressType,
    (ports ?? []).map(({ name, port, protocol, appProtocol }) => [name, port, protocol, appProtocol]),
    endpoints.map(comparableEndpoint),
  ]);
}
