// The shapes of `/config_dump` (ztunnel.md §1.6, §11.3), which `istioctl ztunnel-config` reads. Pure conversion.

import { X509Certificate } from 'node:crypto';
import { CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES } from '#hbone/settings.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { Policy, PolicyMatch, StringMatch } from '#model/policy.ts';
import type { Service } from '#model/service.ts';
import type { GatewayRef, NetworkAddress, Workload } from '#model/workload.ts';
import { type Cidr, formatCidr } from '#net/cidr.ts';
import { formatHostPort } from '#net/host-port.ts';
import type { SecretState } from '#tls/secret.ts';
import { INBOUND_HBONE_PORT, INBOUND_PLAINTEXT_PORT, OUTBOUND_PORT } from './capture/capture.ts';
import type { ZtunnelConfig } from './config.ts';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** Object keys sorted at every level, as the peers print them. */
export function printDump(dump: { readonly [key: string]: Json }): string {
  return `${JSON.stringify(sorted(dump), undefined, 2)}\n`;
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const record = value as { readonly [key: string]: Json };
  return Object.fromEntries(
    Object.keys(record)
      .sort()
      .map((key) => [key, sorted(record[key]!)]),
  );
}

/** Some keys always stand, the others only when they say something. */
export function dumpWorkload(workload: Workload): Json {
  return {
    workloadIps: [...workload.ips],
    protocol: workload.protocol,
    networkMode: workload.networkMode,
    name: workload.name,
    namespace: workload.namespace,
    status: workload.status,
    clusterId: workload.clusterId,
    capacity: workload.capacity,
    ...given({
      uid: workload.uid,
      network: workload.network,
      trustDomain: workload.trustDomain,
      serviceAccount: workload.serviceAccount,
      node: workload.node,
      hostname: workload.hostname,
      workloadName: workload.workloadName,
      workloadType: workload.workloadType,
      canonicalName: workload.canonicalName,
      canonicalRevision: workload.canonicalRevision,
      nativeTunnel: workload.nativeTunnel,
      waypoint: gateway(workload.waypoint),
      networkGateway: gateway(workload.networkGateway),
      applicationTunnel:
        workload.applicationTunnel === undefined
          ? undefined
          : {
              protocol: workload.applicationTunnel.protocol,
              port: workload.applicationTunnel.port ?? null,
            },
      authorizationPolicies: [...workload.authorizationPolicies],
      locality: locality(workload.locality),
      services: [...workload.services.keys()],
    }),
  };
}

export interface DumpedEndpoint {
  readonly workloadUid: string;
  readonly ports: ReadonlyMap<number, number>;
  readonly status: string;
}

export function dumpService(service: Service, endpoints: Iterable<DumpedEndpoint>): Json {
  const byUid: Record<string, Json> = {};
  for (const endpoint of endpoints) byUid[endpoint.workloadUid] = dumpEndpoint(endpoint);
  return {
    name: service.name,
    namespace: service.namespace,
    hostname: service.hostname,
    vips: service.vips.map(networkAddress),
    ports: ports(service.ports),
    endpoints: byUid,
    subjectAltNames: [...service.subjectAltNames],
    canonical: service.canonical,
    visibility: service.visibility,
    ...given({
      cidrVips: service.cidrVips.map(({ network, cidr }) => ({ network, cidr: formatCidr(cidr) })),
      waypoint: gateway(service.waypoint),
      weightedWaypoints: service.weightedWaypoints.map(({ destination, weight }) => ({
        destination: gateway(destination)!,
        weight,
      })),
      loadBalancer:
        service.loadBalancer === undefined
          ? undefined
          : {
              routingPreferences: [...service.loadBalancer.routingPreferences],
              mode: service.loadBalancer.mode,
              healthPolicy: service.loadBalancer.healthPolicy,
            },
      ipFamilies: service.ipFamilies,
    }),
  };
}

export function dumpEndpoint(endpoint: DumpedEndpoint): Json {
  return { workloadUid: endpoint.workloadUid, port: ports(endpoint.ports), status: endpoint.status };
}

export function dumpPolicy(policy: Policy): Json {
  return {
    name: policy.name,
    namespace: policy.namespace,
    scope: policy.scope,
    action: policy.action,
    dryRun: policy.dryRun,
    rules: policy.rules.map((rule) => rule.clauses.map((clause) => clause.map(dumpMatch))),
  };
}

function dumpMatch(match: PolicyMatch): Json {
  const text = (matches: readonly StringMatch[]): Json[] => matches.map(dumpStringMatch);
  const cidrs = (list: readonly Cidr[]): Json[] => list.map(formatCidr);
  return given({
    namespaces: text(match.namespaces),
    notNamespaces: text(match.notNamespaces),
    serviceAccounts: match.serviceAccounts.map((account) => ({ ...account })),
    notServiceAccounts: match.notServiceAccounts.map((account) => ({ ...account })),
    principals: text(match.principals),
    notPrincipals: text(match.notPrincipals),
    sourceIps: cidrs(match.sourceIps),
    notSourceIps: cidrs(match.notSourceIps),
    destinationIps: cidrs(match.destinationIps),
    notDestinationIps: cidrs(match.notDestinationIps),
    destinationPorts: [...match.destinationPorts],
    notDestinationPorts: [...match.notDestinationPorts],
  });
}

function dumpStringMatch(match: StringMatch): Json {
  switch (match.kind) {
    case 'exact':
      return { Exact: match.text };
    case 'prefix':
      return { Prefix: match.text };
    case 'suffix':
      return { Suffix: match.text };
    case 'presence':
      return { Presence: [] };
  }
}

/** Sorted by identity. The PEM text stands in base64, serial numbers in decimal, times without fractions. */
export function dumpCertificates(entries: ReadonlyMap<SpiffeId, SecretState>): Json {
  return [...entries]
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([identity, entry]) => {
      if (entry.state !== 'Available')
        return {
          identity,
          state: entry.state === 'Unavailable' ? `Unavailable: ${entry.error}` : entry.state,
          certChain: [],
          rootCerts: [],
        };
      return {
        identity,
        state: 'Available',
        certChain: entry.secret.chainPem.map(dumpCertificate),
        rootCerts: entry.secret.rootsPem.map(dumpCertificate),
      };
    });
}

function dumpCertificate(pem: string): Json {
  const certificate = new X509Certificate(pem);
  return {
    pem: Buffer.from(pem).toString('base64'),
    serialNumber: BigInt(`0x${certificate.serialNumber}`).toString(),
    validFrom: seconds(certificate.validFromDate),
    expirationTime: seconds(certificate.validToDate),
  };
}

/** The settings in effect; durations as seconds and nanoseconds. Tokens and roots are left out. */
export function dumpConfig(config: ZtunnelConfig): Json {
  const at = (endpoint: ZtunnelConfig['xds']): Json =>
    endpoint === undefined ? null : `https://${formatHostPort(endpoint.host, endpoint.port)}`;
  return {
    localNode: config.nodeName ?? null,
    network: config.network,
    clusterId: config.clusterId,
    clusterDomain: config.clusterDomain,
    dnsProxy: config.dnsProxy !== undefined,
    dnsProxyAddr: dnsAddress(config.dnsProxy),
    preferedServiceNamespace: config.preferredServiceNamespace ?? null,
    proxyMode: config.mode === 'shared' ? 'Shared' : 'Dedicated',
    xdsAddress: at(config.xds),
    xdsOnDemand: config.xdsOnDemand,
    caAddress: at(config.fakeCa === undefined ? config.ca : undefined),
    fakeCa: config.fakeCa !== undefined,
    secretTtl: duration(config.secretTtlSeconds * 1000),
    poolMaxStreamsPerConn: config.poolMaxStreams,
    poolUnusedReleaseTimeout: duration(config.poolUnusedMs),
    windowSize: STREAM_WINDOW_BYTES,
    connectionWindowSize: CONNECTION_WINDOW_BYTES,
    selfTerminationDeadline: duration(config.drainMs),
    requireOriginalSource:
      config.originalSource === 'best-effort' ? null : config.originalSource === 'required',
    numWorkerThreads: config.threads,
    packetMark: config.packetMark ?? null,
    inpodUds: config.zdsPath,
    inpodPortReuse: config.reusePort,
    ipv6Enabled: config.ipv6,
    enableEnhancedBaggage: config.responseBaggage,
    altXdsHostname: config.altXdsHostname ?? null,
    altCaHostname: config.altCaHostname ?? null,
    socketConfig: {
      keepaliveEnabled: config.keepalive !== undefined,
      keepaliveTime: duration(config.keepalive?.idleMs ?? 0),
      keepaliveInterval: duration(config.keepalive?.intervalMs ?? 0),
      keepaliveRetries: config.keepalive?.probes ?? 0,
      userTimeoutEnabled: config.keepalive?.userTimeoutMs !== undefined,
    },
    adminAddr: { Localhost: [config.ipv6, config.adminPort] },
    statsAddr: { SocketAddr: everyAddress(config, config.statsPort) },
    readinessAddr: { SocketAddr: everyAddress(config, config.readinessPort) },
    outboundAddr: everyAddress(config, OUTBOUND_PORT),
    inboundPlaintextAddr: everyAddress(config, INBOUND_PLAINTEXT_PORT),
    inboundAddr: everyAddress(config, INBOUND_HBONE_PORT),
  };
}

/** Both loopback addresses are one setting in the field, with whether IPv6 is among them. */
function dnsAddress(listen: ZtunnelConfig['dnsProxy']): Json {
  if (listen === undefined) return null;
  const [first] = listen.ips;
  if (first === '127.0.0.1') return { Localhost: [listen.ips.length > 1, listen.port] };
  return { SocketAddr: formatHostPort(first ?? '', listen.port) };
}

function everyAddress({ ipv6 }: ZtunnelConfig, port: number): string {
  return `${ipv6 ? '[::]' : '0.0.0.0'}:${port}`;
}

function duration(ms: number): Json {
  return { secs: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}

function seconds(date: Date): string {
  return date.toISOString().replace(/\.\d{3}Z$/, 'Z');
}

function ports(map: ReadonlyMap<number, number>): Json {
  return Object.fromEntries([...map].map(([service, target]) => [String(service), target]));
}

/** All three or none. */
function locality({ region, zone, subzone }: Workload['locality']): Json | undefined {
  return region === '' && zone === '' && subzone === '' ? undefined : { region, zone, subzone };
}

function networkAddress(address: NetworkAddress): string {
  return `${address.network}/${address.ip}`;
}

function gateway(reference: GatewayRef | undefined): Json | undefined {
  if (reference === undefined) return undefined;
  const { destination, hbonePort } = reference;
  return {
    destination:
      destination.kind === 'address'
        ? networkAddress(destination.address)
        : `${destination.namespace}/${destination.hostname}`,
    hboneMtlsPort: hbonePort,
  };
}

/** Without what is empty: undefined, '', false, [] and {}. */
function given(fields: Readonly<Record<string, Json | undefined>>): { readonly [key: string]: Json } {
  const kept: Record<string, Json> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined || value === '' || value === false) continue;
    if (typeof value === 'object' && value !== null && Object.keys(value).length === 0) continue;
    kept[key] = value;
  }
  return kept;
}
