// NetworkPolicies as what they let through to and from one pod (pure): selectors become addresses, named ports numbers.
// Connections are judged by their first packet; answers and what the pod says to itself are policy-table.ts' matter.

import type { NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import { type AddressRange, addressNumber, cidrRange, type Range, union, without } from './ranges.ts';

export interface PolicyPod {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** A pod with addresses of both families stands here once for each. */
  readonly ip: string;
  readonly namedPorts: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
  /** Only these of its ports belong to the pod: something else listens at the same address. */
  readonly onlyPorts?: readonly PortRange[];
}

export interface PolicyWorld {
  readonly policies: readonly NetworkPolicy[];
  /** Every pod with an address of its own. */
  readonly pods: readonly PolicyPod[];
  /** Labels of every namespace. */
  readonly namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>;
}

export interface PortRange extends Range {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
}

/** One way in or out. */
export interface Allow {
  /** Addresses of the other side. */
  readonly peers: 'any' | readonly AddressRange[];
  /** Ports of the receiving side. */
  readonly ports: 'any' | readonly PortRange[];
}

/** A direction that no policy selects the pod for is undefined: everything passes. An empty list lets nothing through. */
export interface Isolation {
  readonly ingress: readonly Allow[] | undefined;
  readonly egress: readonly Allow[] | undefined;
}

type Direction = 'Ingress' | 'Egress';

/** For the pod's address: peers are those of the same family. */
export function isolationOf(pod: PolicyPod, everything: PolicyWorld): Isolation {
  const world = {
    ...everything,
    isV6: isV6(pod.ip),
    pods: everything.pods.filter(({ ip }) => isV6(ip) === isV6(pod.ip)),
  };
  const selecting = world.policies.filter((policy) => selects(policy, pod));
  const direction = <T>(type: Direction, allows: (policy: NetworkPolicy) => T[]): T[] | undefined => {
    const own = selecting.filter((policy) => policyTypesOf(policy).includes(type));
    return own.length === 0 ? undefined : own.flatMap(allows);
  };
  return {
    ingress: direction('Ingress', (policy) => ingressOf(policy, pod, world)),
    egress: direction('Egress', (policy) => egressOf(policy, world)),
  };
}

export const selects = ({ metadata, spec }: NetworkPolicy, pod: PolicyPod): boolean =>
  metadata.namespace === pod.namespace && matchesSelector(spec?.podSelector ?? {}, pod.labels);

/** Ingress always, Egress when there are rules for it, unless the policy says which. */
export function policyTypesOf({ spec }: NetworkPolicy): readonly Direction[] {
  if (spec?.policyTypes !== undefined && spec.policyTypes.length > 0) return spec.policyTypes;
  return (spec?.egress ?? []).length > 0 ? ['Ingress', 'Egress'] : ['Ingress'];
}

/** What of the world has addresses of one family. */
interface FamilyWorld extends PolicyWorld {
  readonly isV6: boolean;
}

const isV6 = (address: string): boolean => address.includes(':');

function ingressOf(policy: NetworkPolicy, pod: PolicyPod, world: FamilyWorld): Allow[] {
  return (policy.spec?.ingress ?? []).flatMap(({ from, ports }) => {
    const peers = peersOf(policy, from, world);
    const open = isEmpty(ports) ? 'any' : numbersOf(ports, pod);
    return allow(peers === 'any' ? 'any' : rangesOf(peers), open);
  });
}

function egressOf(policy: NetworkPolicy, world: FamilyWorld): Allow[] {
  return (policy.spec?.egress ?? []).flatMap(({ to, ports }) => {
    const peers = peersOf(policy, to, world);
    if (isEmpty(ports)) return everyPort(peers);
    const numbers = ports.filter(({ port }) => typeof port !== 'string').flatMap(numericRange);
    const names = ports.filter(({ port }) => typeof port === 'string');
    const pods = peers === 'any' ? world.pods : peers.pods;
    return [
      ...(peers === 'any' ? allow('any', numbers) : withNumbers(peers, numbers)),
      // A name means another number in every pod, and none in an address block.
      ...(names.length === 0
        ? []
        : pods.flatMap((other) =>
            allow(rangesOf({ pods: [other], blocks: [] }), within(other, numbersOf(names, other))),
          )),
    ];
  });
}

interface Peers {
  readonly pods: readonly PolicyPod[];
  readonly blocks: readonly AddressRange[];
}

function everyPort(peers: Peers | 'any'): Allow[] {
  if (peers === 'any') return allow('any', 'any');
  const whole = peers.pods.filter(({ onlyPorts }) => onlyPorts === undefined);
  const partly = peers.pods.filter(({ onlyPorts }) => onlyPorts !== undefined);
  return [
    ...allow(rangesOf({ pods: whole, blocks: peers.blocks }), 'any'),
    ...partly.flatMap((pod) => allow(rangesOf({ pods: [pod], blocks: [] }), pod.onlyPorts ?? [])),
  ];
}

function withNumbers(peers: Peers, numbers: readonly PortRange[]): Allow[] {
  const whole = peers.pods.filter(({ onlyPorts }) => onlyPorts === undefined);
  const partly = peers.pods.filter(({ onlyPorts }) => onlyPorts !== undefined);
  return [
    ...allow(rangesOf({ pods: whole, blocks: peers.blocks }), numbers),
    ...partly.flatMap((pod) => allow(rangesOf({ pods: [pod], blocks: [] }), within(pod, numbers))),
  ];
}

/** The part of the ports that are the pod's. */
function within({ onlyPorts }: PolicyPod, ports: readonly PortRange[]): PortRange[] {
  if (onlyPorts === undefined) return [...ports];
  return ports.flatMap((port) =>
    onlyPorts
      .filter(({ protocol }) => protocol === port.protocol)
      .map((own) => ({
        protocol: port.protocol,
        first: Math.max(own.first, port.first),
        last: Math.min(own.last, port.last),
      }))
      .filter(({ first, last }) => first <= last),
  );
}

/** Nothing for no peer or no port: such a rule opens nothing. */
function allow(peers: Allow['peers'], ports: Allow['ports']): Allow[] {
  return peers.length === 0 || ports.length === 0 ? [] : [{ peers, ports }];
}

const isEmpty = <T>(list: readonly T[] | undefined): list is undefined =>
  list === undefined || list.length === 0;

function peersOf(
  policy: NetworkPolicy,
  peers: readonly NetworkPolicyPeer[] | undefined,
  world: FamilyWorld,
): Peers | 'any' {
  if (isEmpty(peers)) return 'any';
  return {
    pods: world.pods.filter((pod) => peers.some((peer) => isPeer(policy, peer, pod, world))),
    blocks: peers.flatMap(({ ipBlock }) => {
      if (ipBlock === undefined || isV6(ipBlock.cidr) !== world.isV6) return [];
      const whole = cidrRange(ipBlock.cidr);
      if (whole === undefined) return [];
      const holes = (ipBlock.except ?? []).map(cidrRange).filter((range) => range !== undefined);
      return without(whole, holes);
    }),
  };
}

function isPeer(
  { metadata }: NetworkPolicy,
  { podSelector, namespaceSelector, ipBlock }: NetworkPolicyPeer,
  pod: PolicyPod,
  { namespaces }: PolicyWorld,
): boolean {
  if (ipBlock !== undefined) return false;
  const namespaceFits =
    namespaceSelector === undefined
      ? pod.namespace === metadata.namespace
      : matchesSelector(namespaceSelector, namespaces.get(pod.namespace) ?? {});
  return namespaceFits && (podSelector === undefined || matchesSelector(podSelector, pod.labels));
}

function rangesOf({ pods, blocks }: Peers): AddressRange[] {
  const addresses = pods.map(({ ip }) => addressNumber(ip)).filter((value) => value !== undefined);
  return union([...blocks, ...addresses.map((value) => ({ first: value, last: value }))]);
}

const protocolOf = ({ protocol = 'TCP' }: NetworkPolicyPort): PortRange['protocol'] =>
  protocol.toLowerCase() as PortRange['protocol'];

const ALL_PORTS: Range = { first: 0, last: 65_535 };

function numericRange(port: NetworkPolicyPort): PortRange[] {
  const protocol = protocolOf(port);
  if (port.port === undefined) return [{ protocol, ...ALL_PORTS }];
  const first = Number(port.port);
  return [{ protocol, first, last: port.endPort ?? first }];
}

/** Names as the receiving pod declares them; a name it lacks opens nothing. */
function numbersOf(ports: readonly NetworkPolicyPort[], pod: PolicyPod): PortRange[] {
  return ports.flatMap((port) => {
    if (typeof port.port !== 'string') return numericRange(port);
    const protocol = protocolOf(port);
    return pod.namedPorts
      .filter(({ name, protocol: own }) => name === port.port && own.toLowerCase() === protocol)
      .map(({ port: number }) => ({ protocol, first: number, last: number }));
  });
}
