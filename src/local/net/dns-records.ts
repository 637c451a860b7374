// The cluster's DNS zone (pure): what a name means, from Services and EndpointSlices, by Kubernetes' DNS specification.
// Wire format and sockets are dns-server.ts.

import { isIPv4 } from 'node:net';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import { CLUSTER_DOMAIN } from '#local/machine/plan.ts';

export interface ZoneSource {
  service(namespace: string, name: string): Service | undefined;
  slices(namespace: string, service: string): readonly EndpointSlice[];
  /** Whether anything lives in the namespace: its own name then exists, without records. */
  hasNamespace(namespace: string): boolean;
}

export type DnsRecord =
  | { readonly type: 'A'; readonly name: string; readonly data: string }
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

const NOTHING: ZoneAnswer = { kind: 'no-such-name' };
const EXISTS: ZoneAnswer = { kind: 'found', answers: [], additionals: [] };

/** `name` without the final dot, any case; the answers carry it as it was asked. */
export function lookup(name: string, type: string, source: ZoneSource): ZoneAnswer {
  const labels = name.toLowerCase().replace(/\.$/, '').split('.');
  const domain = CLUSTER_DOMAIN.split('.');
  if (labels.slice(-domain.length).join('.') !== CLUSTER_DOMAIN) return { kind: 'outside' };
  const rest = labels.slice(0, -domain.length);
  if (rest.length === 0) return EXISTS;
  if (rest.pop() !== 'svc') return NOTHING;
  const namespace = rest.pop();
  if (namespace === undefined) return EXISTS;
  const serviceName = rest.pop();
  if (serviceName === undefined) return source.hasNamespace(namespace) ? EXISTS : NOTHING;
  const service = source.service(namespace, serviceName);
  if (service === undefined) return NOTHING;
  const fqdn = `${serviceName}.${namespace}.svc.${CLUSTER_DOMAIN}`;
  if (service.spec.type === 'ExternalName') return externalName(name, service, rest);
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
      .flatMap(({ addresses: ips, hostname }) => ips.filter(isIPv4).map((ip) => ({ ip, hostname }))),
  );
}

/** Endpoints without a hostname are named after their address, as CoreDNS does. */
function hostLabel({ ip, hostname }: Endpoint): string {
  return hostname ?? ip.replaceAll('.', '-');
}

function addresses(name: string, type: string, service: Service, endpoints: readonly Endpoint[]): ZoneAnswer {
  if (isHeadless(service)) return records(name, type, [...new Set(endpoints.map(({ ip }) => ip))]);
  const { clusterIP } = service.spec;
  return clusterIP !== undefined && isIPv4(clusterIP) ? records(name, type, [clusterIP]) : EXISTS;
}

function records(name: string, type: string, ips: readonly string[]): ZoneAnswer {
  if (type !== 'A' && type !== 'ANY') return EXISTS; // AAAA of a known name: the name exists, the record does not
  return { kind: 'found', answers: ips.map((data) => ({ type: 'A', name, data })), additionals: [] };
}

function externalName(name: string, service: Service, rest: readonly string[]): ZoneAnswer {
  const { externalName: data } = service.spec;
  if (rest.length > 0 || data === undefined) return NOTHING;
  return { kind: 'found', answers: [{ type: 'CNAME', name, data }], additionals: [] };
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
    const { clusterIP } = service.spec;
    return {
      kind: 'found',
      answers: [{ type: 'SRV', name, data: { port: port.port, target: fqdn, weight: 100, priority: 0 } }],
      additionals:
        clusterIP !== undefined && isIPv4(clusterIP) ? [{ type: 'A', name: fqdn, data: clusterIP }] : [],
    };
  }
  const answers: DnsRecord[] = [];
  const additionals: DnsRecord[] = [];
  for (const slice of slices) {
    const target = slice.ports?.find((candidate) => candidate.name === wanted)?.port;
    if (target === undefined) continue;
    for (const endpoint of endpointsOf([slice])) {
      const host = `${hostLabel(endpoint)}.${fqdn}`;
      answers.push({ type: 'SRV', name, data: { port: target, target: host, weight: 100, priority: 0 } });
      additionals.push({ type: 'A', name: host, data: endpoint.ip });
    }
  }
  return { kind: 'found', answers, additionals };
}
