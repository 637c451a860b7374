// The network of the emulated cluster, put together: services, network policies and DNS for nodes that come and go, and
// services on the host.

import type { KubeClient } from '#k8s/client.ts';
import type { Informer, StartInformer } from '#k8s/informer.ts';
import {
  ENDPOINT_SLICES,
  type EndpointSlice,
  NAMESPACES,
  type Namespace,
  NETWORK_POLICIES,
  type NetworkPolicy,
  PODS,
  type Pod,
  SERVICES,
  type Service,
} from '#k8s/objects.ts';
import type { HostPorts } from '#local/machine/host-ports.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { ADDRESSES, type ClusterFamily, familiesOf, type NodePlan } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';
import { startDnsServer, zoneOf } from './dns-server.ts';
import { startHostServices } from './host-services.ts';
import { type PodPolicies, startNetworkPolicies } from './network-policies.ts';
import { startServiceProxy } from './service-proxy.ts';

export interface ClusterNetworkDeps {
  readonly client: KubeClient;
  readonly startInformer: StartInformer;
  readonly hostPorts: HostPorts;
  readonly ipFamily: ClusterFamily;
  readonly log: Logger;
}

export interface ClusterNetwork {
  /** To be asked before a pod starts. */
  readonly policies: PodPolicies;
  /** Resolves when the node's rules stand; no pod of it may run before. */
  add(node: EmulatedNode): Promise<void>;
  remove(nodeName: string): void;
  close(): Promise<void>;
}

/** Resolves when the cluster's state is known and names are answered. */
export async function startClusterNetwork(deps: ClusterNetworkDeps): Promise<ClusterNetwork> {
  const { client, log } = deps;
  const informers: Informer<never>[] = [];
  const follow: StartInformer = (informerDeps, resource, options) => {
    const informer = deps.startInformer(informerDeps, resource, options);
    informers.push(informer as unknown as Informer<never>);
    return informer;
  };
  const services = follow<Service>({ client, log }, SERVICES);
  const slices = follow<EndpointSlice>({ client, log }, ENDPOINT_SLICES);
  const pods = follow<Pod>({ client, log }, PODS);
  const namespaces = follow<Namespace>({ client, log }, NAMESPACES);
  const policyObjects = follow<NetworkPolicy>({ client, log }, NETWORK_POLICIES);
  const [proxy, policies, dns] = await Promise.all([
    startServiceProxy({ services, slices, log: log.scoped('services') }),
    startNetworkPolicies({ client, policies: policyObjects, pods, namespaces, log: log.scoped('policies') }),
    startDnsServer(
      { zone: zoneOf(services, slices, namespaces), log: log.scoped('dns') },
      { host: ADDRESSES[familiesOf(deps.ipFamily)[0]].machine, port: 53 },
    ),
  ]);
  const nodes = new Map<string, NodePlan>();
  const host = startHostServices(
    { client, services, slices, hostPorts: deps.hostPorts, log: log.scoped('host-ports') },
    () => [...nodes.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
  return {
    policies,
    async add(node) {
      await Promise.all([proxy.add(node), policies.add(node)]);
      nodes.set(node.plan.name, node.plan);
    },
    remove(name) {
      nodes.delete(name);
      proxy.remove(name);
      policies.remove(name);
    },
    async close() {
      host.close();
      proxy.close();
      policies.close();
      for (const informer of informers) informer.close();
      await dns.close();
    },
  };
}
