// The cluster's DNS zone (pure): what a name means, from Services and EndpointSlices, by Kubernetes' DNS specification.
// Wire format and sockets are dns-server.ts.

import { isIP, isIPv4, isIPv6 } from 'node:net';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { ADDRESSES, CLUSTER_DOMAIN } from '#local/machine/plan.ts';
import { type Cidr, cidrContains, parseCidr } from '#net/cidr.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';
import { clusterAddresses } from './service-targets.ts';

export interface ZoneSource {
  service(namespace: string, name: string): Service | undefined;
  slices(namespace: string, service: string): readonly EndpointSlice[];
  /** The name of a namespace exists, without records. */
  hasNamespace(namespace: string): boolean;
  /** For names of addresses. */
  allServices(): Iterable<Service>;
}

export interface StartOfAuthority {
  readonly mname: string;
  readonly rname: string;
  readonly serial: number;
  readonly refresh: number;
  readonly retry: number;
  readonly expire: number;
  readonly minimum: number;
}

export type DnsRecord =
  | { readonly type: 'SOA'; readonly name: string; readonly data: StartOfAuthority }
  | { readonly type: 'A' | 'AAAA'; readonly name: string; readonly data: string }
  | { readonly type: 'CNAME'; readonly name: string; readonly data: string }
  | { readonly type: 'PTR'; readonly name: string; readonly data: string }
  | {
      readonly type: 'SRV';
      readonly name: string;
      readonly data: {
        readonly port: number;
        readonly target: string;
        readonly weight: number;
        readonly priority: number;
      };
    };

export type ZoneAnswer =
  /** The name exists; without records of the type asked for this is an empty NOERROR. */
  | {
      readonly kind: 'found';
      readonly answers: readonly DnsRecord[];
      readonly additionals: readonly DnsRecord[];
    }
  | { readonly kind: 'no-such-name' }
  /** Not ours to answer. */
  | { readonly kind: 'outside' };

export const TTL_S = 5;

/** Tells resolvers how long a missing name may be remembered (RFC 2308). */
export const START_OF_AUTHORITY: DnsRecord = {
  type: 'SOA',
  name: CLUSTER_DOMAIN,
  data: {
    mname: `ns.dns.${CLUSTER_DOMAIN}`,
    rname: `hostmaster.${CLUSTER_DOMAIN}`,
    serial: 1,
    refresh: 7200,
    retry: 1800,
    expire: 86_400,
    minimum: TTL_S,
  },
};

const NOTHING: ZoneAnswer = { kind: 'no-such-name' };
const EXISTS: ZoneAnswer = { kind: 'found', answers: [], additionals: [] };

/** `name` without the final dot, any case; the answers carry it as it was asked. */
export function lookup(name: string, type: string, source: ZoneSource): ZoneAnswer {
  const labels = name.toLowerCase().replace(/\.$/, '').split('.');
  if (labels.at(-1) === 'arpa') return nameOfAddress(name, type, labels, source);
  const domain = CLUSTER_DOMAIN.split('.');
  if (labels.slice(-domain.length).join('.') !== CLUSTER_DOMAIN) return { kind: 'outside' };
  const rest = labels.slice(0, -domain.length);
  if (rest.length === 0)
    return type === 'SOA' ? { kind: 'found', answers: [START_OF_AUTHORITY], additionals: [] } : EXISTS;
  const branch = rest.pop();
  if (branch === 'pod') return podAddress(name, type, rest, source);
  if (branch !== 'svc') return NOTHING;
  const namespace = rest.pop();
  if (namespace === undefined) return EXISTS;
  const serviceName = rest.pop();
  if (serviceName === undefined) return source.hasNamespace(namespace) ? EXISTS : NOTHING;
  const service = source.service(namespace, serviceName);
  if (service === undefined) return NOTHING;
  const fqdn = `${serviceName}.${namespace}.svc.${CLUSTER_DOMAIN}`;
  if (service.spec.type === 'ExternalName') return externalName(name, type, service, rest, source);
  if (rest.length === 0)
    return addresses(name, type, service, endpointsOf(source.slices(namespace, serviceName)));
  if (rest.length === 2 && rest.every((label) => label.startsWith('_')))
    return srv(name, type, rest as [string, string], service, source.slices(namespace, serviceName), fqdn);
  const [hostname] = rest;
  if (rest.length === 1 && hostname !== undefined && isHeadless(service)) {
    const matching = endpointsOf(source.slices(namespace, serviceName)).filter(
      (e) => hostLabel(e) === hostname,
    );
    return matching.length === 0
      ? NOTHING
      : records(
          name,
          type,
          matching.map(({ ip }) => ip),
        );
  }
  return NOTHING;
}

function isHeadless(service: Service): boolean {
  return service.spec.clusterIP === 'None';
}

interface Endpoint {
  readonly ip: string;
  readonly hostname: string | undefined;
}

function endpointsOf(slices: readonly EndpointSlice[]): Endpoint[] {
  return slices.flatMap((slice) =>
    (slice.endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false)
      .flatMap(({ addresses: ips, hostname }) =>
        ips.filter((ip) => isIP(ip) !== 0).map((ip) => ({ ip, hostname })),
      ),
  );
}

/** Endpoints without a hostname are named after their address, as CoreDNS does. */
function hostLabel({ ip, hostname }: Endpoint): string {
  return hostname ?? ip.replaceAll(/[.:]/g, '-');
}

function addresses(name: string, type: string, service: Service, endpoints: readonly Endpoint[]): ZoneAnswer {
  if (isHeadless(service)) return records(name, type, [...new Set(endpoints.map(({ ip }) => ip))]);
  return records(
    name,
    type,
    clusterAddresses(service).filter((address) => isIP(address) !== 0),
  );
}

const addressRecord = (name: string, data: string): DnsRecord => ({
  type: isIPv6(data) ? 'AAAA' : 'A',
  name,
  data,
});

const isAsked = (record: DnsRecord, type: string): boolean => type === 'ANY' || record.type === type;

function records(name: string, type: string, ips: readonly string[]): ZoneAnswer {
  // Of another family or type: the name exists, the record does not.
  const answers = ips.map((ip) => addressRecord(name, ip)).filter((record) => isAsked(record, type));
  return { kind: 'found', answers, additionals: [] };
}

/** The alias, and what it leads to if that is a name of the cluster: stub resolvers do not ask a second time. */
function externalName(
  name: string,
  type: string,
  service: Service,
  rest: readonly string[],
  source: ZoneSource,
): ZoneAnswer {
  const { externalName: target } = service.spec;
  if (rest.length > 0 || target === undefined) return NOTHING;
  const data = target.replace(/\.$/, '');
  const alias: DnsRecord = { type: 'CNAME', name, data };
  const further = type === 'CNAME' ? undefined : lookupOnce(data, type, source);
  return {
    kind: 'found',
    answers: [alias, ...(further?.kind === 'found' ? further.answers : [])],
    additionals: [],
  };
}

/** An alias of an alias is not followed: two that name each other would never end. */
function lookupOnce(name: string, type: string, source: ZoneSource): ZoneAnswer {
  return lookup(name, type, {
    ...source,
    service: (namespace, serviceName) => {
      const found = source.service(namespace, serviceName);
      return found?.spec.type === 'ExternalName' ? undefined : found;
    },
  });
}

/** `10-244-1-2.NAMESPACE.pod.…` and `fd00-10-244-1--2.…` spell their own answer, as in any cluster. */
function podAddress(name: string, type: string, rest: readonly string[], source: ZoneSource): ZoneAnswer {
  const [spelled, namespace] = rest;
  if (spelled === undefined) return EXISTS;
  if (namespace === undefined) return source.hasNamespace(spelled) ? EXISTS : NOTHING;
  const address = isIPv4(spelled.replaceAll('-', '.'))
    ? spelled.replaceAll('-', '.')
    : spelled.replaceAll('-', ':');
  return rest.length === 2 && isIP(address) !== 0 && source.hasNamespace(namespace)
    ? records(name, type, [address])
    : NOTHING;
}

/** `4.3.2.1.in-addr.arpa`, or 32 hex digits and `ip6.arpa` (RFC 3596 §2.5): the service with that address, or the pods of headless services. */
function nameOfAddress(
  name: string,
  type: string,
  labels: readonly string[],
  source: ZoneSource,
): ZoneAnswer {
  const spelled = spelledRange(labels);
  // Parts of an address are names, too; of ours they have no records.
  if (spelled === undefined || !OURS.some((range) => cidrContains(range, spelled.address)))
    return { kind: 'outside' };
  const { address, isWhole } = spelled;
  if (!isWhole) return NOTHING;
  const names: string[] = [];
  for (const service of source.allServices()) {
    const { name: serviceName, namespace = '' } = service.metadata;
    const fqdn = `${serviceName}.${namespace}.svc.${CLUSTER_DOMAIN}`;
    if (clusterAddresses(service).some((own) => parseIp(own) === address)) names.push(fqdn);
    else if (isHeadless(service))
      for (const endpoint of endpointsOf(source.slices(namespace, serviceName)))
        if (parseIp(endpoint.ip) === address) names.push(`${hostLabel(endpoint)}.${fqdn}`);
  }
  if (names.length === 0) return NOTHING;
  if (type !== 'PTR' && type !== 'ANY') return EXISTS;
  return { kind: 'found', answers: names.map((data) => ({ type: 'PTR', name, data })), additionals: [] };
}

/** Services and pods. */
const OURS: readonly Cidr[] = Object.values(ADDRESSES).flatMap(({ serviceCidr, podCidr }) =>
  [serviceCidr, podCidr].flatMap((text) => parseCidr(text) ?? []),
);

/** What the labels spell: an address, or the beginning of one with zeros after it. */
function spelledRange(
  labels: readonly string[],
): { readonly address: IpAddress; readonly isWhole: boolean } | undefined {
  const parts = labels.slice(0, -2).reverse();
  const [kind, width] = labels.at(-2) === 'ip6' ? (['ip6', 32] as const) : (['in-addr', 4] as const);
  if (labels.at(-2) !== kind || parts.length > width) return undefined;
  const whole = [...parts, ...new Array<string>(width - parts.length).fill('0')];
  if (kind === 'ip6' && !parts.every((part) => /^[0-9a-f]$/.test(part))) return undefined;
  const text = kind === 'ip6' ? (whole.join('').match(/.{4}/g) ?? []).join(':') : whole.join('.');
  const address = parseIp(text);
  return address === undefined ? undefined : { address, isWhole: parts.length === width };
}

/** `_port._protocol.service…` (RFC 2782). */
function srv(
  name: string,
  type: string,
  [portLabel, protocolLabel]: [string, string],
  service: Service,
  slices: readonly EndpointSlice[],
  fqdn: string,
): ZoneAnswer {
  const wanted = portLabel.slice(1);
  const protocol = protocolLabel.slice(1);
  const port = service.spec.ports?.find(
    (candidate) => candidate.name === wanted && (candidate.protocol ?? 'TCP').toLowerCase() === protocol,
  );
  if (port === undefined) return NOTHING;
  if (type !== 'SRV' && type !== 'ANY') return EXISTS;
  if (!isHeadless(service)) {
    return {
      kind: 'found',
      answers: [{ type: 'SRV', name, data: { port: port.port, target: fqdn, weight: 100, priority: 0 } }],
      additionals: clusterAddresses(service)
        .filter((address) => isIP(address) !== 0)
        .map((address) => addressRecord(fqdn, address)),
    };
  }
  const answers: DnsRecord[] = [];
  const additionals: DnsRecord[] = [];
  for (const slice of slices) {
    const target = slice.ports?.find((candidate) => candidate.name === wanted)?.port;
    if (target === undefined) continue;
    for (const endpoint of endpointsOf([slice])) {
      const host = `${hostLabel(endpoint)}.${fqdn}`;
      // A pod with a hostname and two addresses is one target.
      if (!answers.some((known) => known.type === 'SRV' && known.data.target === host))
        answers.push({ type: 'SRV', name, data: { port: target, target: host, weight: 100, priority: 0 } });
      additionals.push(addressRecord(host, endpoint.ip));
    }
  }
  return { kind: 'found', answers, additionals };
}
