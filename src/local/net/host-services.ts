// Services on the host: node ports and load balancers answer on the host's loopback addresses. FRONT gives the listeners
// (machine/host-ports.ts); connections are copied to a node's port from here. Says in status and events how that went.

import { connect, type Server, type Socket } from 'node:net';
import { systemClock } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import { type EndpointSlice, SERVICES, type Service } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { createWorkQueue } from '#local/controllers/queue.ts';
import { createEvents } from '#local/kubelet/events.ts';
import type { HostPorts } from '#local/machine/host-ports.ts';
import { ADDRESSES, type Family, type NodePlan } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';
import { type HostPortUse, hostFamilies, hostPortUses, nodeAddressFor, unserved } from './host-port-plan.ts';
import { relay } from './relay.ts';

export interface HostServicesDeps {
  readonly client: KubeClient;
  readonly services: Informer<Service>;
  readonly slices: Informer<EndpointSlice>;
  readonly hostPorts: HostPorts;
  readonly log: Logger;
}

export interface HostServices {
  close(): void;
}

/** A port that another program holds may become free. */
const RETRY_MS = 30_000;
const MAX_CONNECTIONS_PER_PORT = 1000;
const CONNECT_LIMIT_MS = 5000;
/** Everything is one piece of work: ports that services hand over to one another must be closed before they are opened. */
const ALL = 'all';

/** `nodes` is asked for each connection. */
export function startHostServices(deps: HostServicesDeps, nodes: () => readonly NodePlan[]): HostServices {
  const { client, services, slices, log } = deps;
  const events = createEvents(
    { client, log, clock: systemClock },
    { component: 'service-controller' },
    SERVICES,
  );
  const open = new Map<string, { readonly server: Server; use: HostPortUse }>();
  /** What was told of a service last, so that it is told once. */
  const told = new Map<string, string>();

  const reconcile = async (): Promise<void> => {
    const { uses, conflicts } = hostPortUses(services.all());
    const wanted = new Map(uses.map((use) => [placeOf(use), use]));
    for (const [place, held] of open) {
      const use = wanted.get(place);
      if (use !== undefined) held.use = use;
      else {
        held.server.close();
        open.delete(place);
      }
    }
    const problems = new Map<string, string[]>();
    /** Services and families of which not every port answers. */
    const failed = new Set<string>();
    const problem = (key: string, family: Family, text: string): void => {
      problems.set(key, [...new Set([...(problems.get(key) ?? []), text])]);
      failed.add(`${key} ${family}`);
    };
    for (const { key, family, text } of conflicts) problem(key, family, text);
    let again = false;
    for (const [place, use] of wanted) {
      if (open.has(place)) continue;
      try {
        const server = await deps.hostPorts.open({ host: ADDRESSES[use.family].host, port: use.hostPort });
        const held = { server, use };
        open.set(place, held);
        serve(server, () => held.use);
      } catch (error) {
        if (!(error instanceof MeshError) || error.code !== 'PORT_IN_USE') throw error;
        problem(use.key, use.family, error.message);
        again = true;
      }
    }
    for (const service of [...services.all()]) {
      const key = objectKey(service);
      const families = hostFamilies(service);
      for (const text of unserved(service)) for (const family of families) problem(key, family, text);
      tell(service, problems.get(key) ?? []);
      await writeIngress(
        service,
        families.filter((family) => !failed.has(`${key} ${family}`)),
      );
    }
    for (const key of told.keys()) if (services.get(key) === undefined) told.delete(key);
    if (again) queue.addAfter(ALL, RETRY_MS);
  };

  const tell = (service: Service, problems: readonly string[]): void => {
    const key = objectKey(service);
    const text = problems.join('; ');
    if ((told.get(key) ?? '') === text) return;
    told.set(key, text);
    if (text === '') events.record(service, 'Normal', 'HostPortServed', 'every port answers on the host now');
    else {
      events.record(service, 'Warning', 'HostPortUnavailable', text);
      log.warn('a service is not reachable from the host', { service: key, why: text });
    }
  };

  /** A load balancer has an address once every one of its ports answers there. */
  const writeIngress = async (service: Service, answering: readonly Family[]): Promise<void> => {
    const { name, namespace = '' } = service.metadata;
    if (service.spec.type === 'LoadBalancer' && service.spec.loadBalancerClass !== undefined) return;
    const present = (service.status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip);
    const hosts = (service.spec.type === 'LoadBalancer' ? answering : []).map(
      (family) => ADDRESSES[family].host,
    );
    if (String(present) === String(hosts)) return;
    const ingress = hosts.length === 0 ? null : hosts.map((ip) => ({ ip, ipMode: 'Proxy' }));
    const options = { namespace, subresource: 'status' };
    try {
      await client.patch(SERVICES, name, 'merge', { status: { loadBalancer: { ingress } } }, options);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  };

  const serve = (server: Server, use: () => HostPortUse): void => {
    server.maxConnections = MAX_CONNECTIONS_PER_PORT;
    (server as Server & { allowHalfOpen: boolean }).allowHalfOpen = true;
    server.on('connection', (client: Socket) => {
      const { key, nodePort } = use();
      const service = services.get(key);
      const address =
        service === undefined ? undefined : nodeAddressFor(service, use(), slices.all(), nodes());
      if (address === undefined) client.resetAndDestroy();
      else relay(client, dial(address, nodePort));
    });
    server.on('error', (error) => log.warn('a host port', { port: use().hostPort, error: reasonOf(error) }));
  };

  const queue = createWorkQueue({ log }, { name: 'host-ports', concurrency: 1 }, reconcile);
  const changed = (): void => queue.add(ALL);
  services.addHandlers({ upsert: changed, remove: changed });
  queue.start();
  return {
    close() {
      queue.close();
      for (const { server } of open.values()) server.close();
      open.clear();
    },
  };
}

const placeOf = ({ family, hostPort }: HostPortUse): string => `${family} ${hostPort}`;

function dial(host: string, port: number): Socket {
  const socket = connect({ host, port, allowHalfOpen: true });
  // The kernel would try for minutes.
  socket.setTimeout(CONNECT_LIMIT_MS, () => socket.destroy(new Error('no answer')));
  socket.once('connect', () => socket.setTimeout(0));
  return socket;
}
