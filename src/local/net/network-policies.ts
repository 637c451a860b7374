// NetworkPolicies in force: keeps every node's table current with policies, pods and namespaces, and holds a new pod back
// until its rules stand.

import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer } from '#k8s/informer.ts';
import { type Namespace, NETWORK_POLICIES, type NetworkPolicy, type Pod } from '#k8s/objects.ts';
import { createEvents } from '#local/kubelet/events.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { ADDRESSES } from '#local/machine/plan.ts';
import type { Logger } from '#telemetry/log.ts';
import { blockedMeshPort, REDIRECTION_ANNOTATION } from './mesh-port.ts';
import { isolationOf, type PolicyPod, type PolicyWorld } from './policy-rules.ts';
import { type IsolatedPod, policyTables } from './policy-table.ts';
import { createRuleWriter, type RuleWriter } from './rule-writer.ts';

export interface NetworkPolicyDeps {
  readonly client: KubeClient;
  readonly policies: Informer<NetworkPolicy>;
  readonly pods: Informer<Pod>;
  readonly namespaces: Informer<Namespace>;
  readonly log: Logger;
}

/** What the kubelet asks before a pod's first container starts. */
export interface PodPolicies {
  /** Resolves when the pod's rules stand on its node; rejects when they cannot be written: it must not start then. */
  podStarts(pod: Pod, podIps: readonly string[]): Promise<void>;
}

export interface NetworkPolicies extends PodPolicies {
  /** Resolves when the node has its rules. */
  add(node: EmulatedNode): Promise<void>;
  /** The node is gone, and its table with it. */
  remove(nodeName: string): void;
  /** Resolves when every node has what is known now. */
  written(): Promise<void>;
  close(): void;
}

interface KnownPod {
  readonly object: Pod;
  readonly node: string;
  readonly policyPod: PolicyPod;
}

/** Resolves when policies, pods and namespaces are known. */
export async function startNetworkPolicies(deps: NetworkPolicyDeps): Promise<NetworkPolicies> {
  const { policies, pods, namespaces, client, log } = deps;
  await Promise.all([policies.synced, pods.synced, namespaces.synced]);
  const events = createEvents(
    { client, log, clock: systemClock },
    { component: 'networkpolicy-controller' },
    NETWORK_POLICIES,
  );
  const writers = new Map<string, RuleWriter>();
  /** Addresses that the status of their pods does not show yet: of new pods, and of pods whose sandbox was made again. */
  const starting = new Map<string, { readonly pod: Pod; readonly ips: readonly string[] }>();

  /** One for each address: of two that claim it the one that starts has it, the other's sandbox failed or is gone. */
  const knownPods = (): KnownPod[] => {
    const byAddress = new Map<string, KnownPod>();
    const add = (pod: Pod, ips: readonly string[]): void => {
      for (const known of knownPod(pod, ips)) byAddress.set(known.policyPod.ip, known);
    };
    const current = new Map([...pods.all()].map((pod) => [pod.metadata.uid ?? '', pod]));
    for (const [uid, pod] of current) if (!starting.has(uid)) add(pod, addressesOf(pod));
    for (const [uid, { pod, ips }] of starting) add(current.get(uid) ?? pod, ips);
    return [...byAddress.values()];
  };
  const worldOf = (known: readonly KnownPod[]): PolicyWorld => ({
    policies: [...policies.all()],
    pods: [...known.map(({ policyPod }) => policyPod), ...DNS_PODS],
    namespaces: new Map([...namespaces.all()].map(({ metadata }) => [metadata.name, metadata.labels ?? {}])),
  });
  // Worked out once for all nodes, and again only after a change.
  let state: { readonly known: readonly KnownPod[]; readonly world: PolicyWorld } | undefined;
  const present = (): NonNullable<typeof state> => {
    if (state === undefined) {
      const known = knownPods();
      state = { known, world: worldOf(known) };
      hint(state);
    }
    return state;
  };
  const isolated = (node: string): IsolatedPod[] => {
    if (hasNone()) return [];
    const { known, world } = present();
    return known
      .filter((pod) => pod.node === node)
      .map(({ object, policyPod }) => ({
        name: `${object.metadata.namespace}/${object.metadata.name}`,
        ip: policyPod.ip,
        ...isolationOf(policyPod, world),
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  };
  const hasNone = (): boolean => policies.all().next().done === true;

  const hinted = new Set<string>();
  const hint = ({ known, world }: NonNullable<typeof state>): void => {
    for (const { policy, message } of blockedMeshPort(known, world)) {
      const { uid, resourceVersion, namespace, name } = policy.metadata;
      const key = `${uid} ${resourceVersion}`;
      if (hinted.has(key)) continue;
      hinted.add(key);
      events.record(policy, 'Warning', 'MeshPortBlocked', message);
      log.warn('a NetworkPolicy blocks traffic of the mesh', {
        policy: `${namespace}/${name}`,
        why: message,
      });
    }
  };

  const changed = (): void => {
    state = undefined;
    for (const writer of writers.values()) writer.changed();
  };
  pods.addHandlers({
    upsert(pod, old) {
      const uid = pod.metadata.uid ?? '';
      if (String(addressesOf(pod)) === String(starting.get(uid)?.ips)) starting.delete(uid);
      // Most changes of a pod are its conditions and heartbeats.
      if (old === undefined || whatCounts(pod) !== whatCounts(old)) changed();
    },
    remove(pod) {
      starting.delete(pod.metadata.uid ?? '');
      changed();
    },
  });
  policies.addHandlers({ upsert: changed, remove: changed });
  namespaces.addHandlers({ upsert: changed, remove: changed });

  const removeNode = (name: string): void => {
    writers.get(name)?.close();
    writers.delete(name);
  };
  return {
    async add(node) {
      const { name } = node.plan;
      removeNode(name);
      let written = '';
      const keywords = node.plan.networks.map(({ family }) => KEYWORDS[family]);
      const writer = createRuleWriter({ log }, { what: 'network policies', node: name }, async () => {
        const text = policyTables(isolated(name), keywords);
        if (text !== written) {
          written = '';
          await node.nft(text, `writing the network policies of node ${name}`);
          written = text;
        }
      });
      writers.set(name, writer);
      await writer.write();
    },
    remove: removeNode,
    async podStarts(pod, podIps) {
      const node = pod.spec.nodeName ?? '';
      starting.set(pod.metadata.uid ?? '', { pod, ips: podIps });
      state = undefined;
      if (hasNone()) return;
      const writer = writers.get(node);
      if (writer === undefined)
        throw new MeshError('LOCAL_MACHINE_FAILED', `network policies are not in force on node ${node}`);
      await writer.write();
      changed(); // the other nodes may let it in now
    },
    async written() {
      await Promise.all([...writers.values()].map((writer) => writer.write()));
    },
    close() {
      for (const name of [...writers.keys()]) removeNode(name);
    },
  };
}

/** What of a pod policies depend on. */
const whatCounts = (pod: Pod): string =>
  JSON.stringify([
    pod.metadata.labels,
    pod.metadata.annotations?.[REDIRECTION_ANNOTATION],
    pod.spec.nodeName,
    addressesOf(pod),
    pod.status?.phase,
  ]);

function addressesOf({ status }: Pod): readonly string[] {
  const listed = (status?.podIPs ?? []).map(({ ip }) => ip);
  return listed.length > 0 ? listed : [status?.podIP ?? ''].filter((ip) => ip !== '');
}

/** Pods of the node's own network have no address that a policy could select by; finished ones have none any more. */
function knownPod(object: Pod, ips: readonly string[]): KnownPod[] {
  const { metadata, spec, status } = object;
  if (spec.hostNetwork === true || status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
  const namedPorts = spec.containers.flatMap(({ ports = [] }) =>
    ports.flatMap(({ name, containerPort, protocol = 'TCP' }) =>
      name === undefined ? [] : [{ name, protocol, port: containerPort }],
    ),
  );
  return ips.map((ip) => ({
    object,
    node: spec.nodeName ?? '',
    policyPod: { namespace: metadata.namespace ?? '', labels: metadata.labels ?? {}, ip, namedPorts },
  }));
}

/**
 * The cluster's DNS is part of LOCAL. Policies that let pods ask the DNS pods of a real cluster must work here, too, without
 * opening what else listens at that address.
 */
const DNS_PODS = Object.values(ADDRESSES).map(
  ({ machine }): PolicyPod => ({
    namespace: 'kube-system',
    labels: { 'k8s-app': 'kube-dns' },
    ip: machine,
    namedPorts: [
      { name: 'dns', protocol: 'UDP', port: 53 },
      { name: 'dns-tcp', protocol: 'TCP', port: 53 },
    ],
    onlyPorts: [
      { protocol: 'udp', first: 53, last: 53 },
      { protocol: 'tcp', first: 53, last: 53 },
    ],
  }),
);

const KEYWORDS = { IPv4: 'ip', IPv6: 'ip6' } as const;
