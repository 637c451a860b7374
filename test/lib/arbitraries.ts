// Any workload, service, policy and request of the model, for property tests and for the fuzzer's first inputs.

import fc from 'fast-check';
import type { Policy, PolicyMatch, StringMatch } from '#model/policy.ts';
import type { Service } from '#model/service.ts';
import type { GatewayRef, ServiceKey, Workload, WorkloadUid } from '#model/workload.ts';
import { type Cidr, cidrOf } from '#net/cidr.ts';
import { type IpAddress, ipFromBytes } from '#net/ip.ts';
import type { DeltaRequest } from '#proto/discovery.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const word = fc.string({ minLength: 1, maxLength: 12 });
const port = fc.integer({ min: 0, max: 65_535 });
const ip: fc.Arbitrary<IpAddress> = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map(ipFromBytes);
const cidr: fc.Arbitrary<Cidr> = fc
  .tuple(ip, fc.nat(128))
  .map(([address, length]) => cidrOf(address, address.includes(':') ? length : length % 33)!);
const narrowCidr = cidr.filter((range) => range.prefixLength < 32);
const networkAddress = fc.record({ network: text, ip });
const gateway: fc.Arbitrary<GatewayRef> = fc.record({
  destination: fc.oneof(
    fc.record({ kind: fc.constant('address' as const), address: networkAddress }),
    fc.record({ kind: fc.constant('hostname' as const), namespace: text, hostname: text }),
  ),
  hbonePort: port,
});
const ports = fc.array(fc.tuple(port, port), { maxLength: 4 }).map((entries) => new Map(entries));
const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(value, { nil: undefined });

export const workload: fc.Arbitrary<Workload> = fc.record({
  uid: word.map((uid) => uid as WorkloadUid),
  name: text,
  namespace: text,
  ips: fc.array(ip, { maxLength: 3 }),
  network: text,
  protocol: fc.constantFrom('TCP', 'HBONE'),
  networkMode: fc.constantFrom('Standard', 'HostNetwork'),
  trustDomain: word,
  serviceAccount: word,
  waypoint: maybe(gateway),
  networkGateway: maybe(gateway),
  node: text,
  hostname: text,
  workloadName: text,
  workloadType: fc.constantFrom('deployment', 'cronjob', 'pod', 'job'),
  canonicalName: text,
  canonicalRevision: text,
  clusterId: word,
  nativeTunnel: fc.boolean(),
  applicationTunnel: maybe(
    fc.record({
      protocol: fc.constantFrom('NONE', 'PROXY'),
      port: maybe(fc.integer({ min: 1, max: 65_535 })),
    }),
  ),
  authorizationPolicies: fc.array(text, { maxLength: 3 }),
  status: fc.constantFrom('Healthy', 'Unhealthy'),
  locality: fc.record({ region: text, zone: text, subzone: text }),
  capacity: fc.nat(),
  services: fc
    .array(fc.tuple(text, text, ports), { maxLength: 3 })
    .map((entries) => new Map(entries.map(([ns, host, map]) => [`${ns}/${host}` as ServiceKey, map]))),
});

export const service: fc.Arbitrary<Service> = fc.record({
  name: text,
  namespace: text,
  hostname: text,
  vips: fc.array(networkAddress, { maxLength: 3 }),
  cidrVips: fc.array(fc.record({ network: text, cidr: narrowCidr }), { maxLength: 2 }),
  ports,
  subjectAltNames: fc.array(text, { maxLength: 2 }),
  waypoint: maybe(gateway),
  weightedWaypoints: fc.array(fc.record({ destination: gateway, weight: fc.nat() }), { maxLength: 2 }),
  loadBalancer: maybe(
    fc.record({
      routingPreferences: fc.array(
        fc.constantFrom('Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network'),
        {
          maxLength: 4,
        },
      ),
      mode: fc.constantFrom('Standard', 'Strict', 'Failover', 'Passthrough'),
      healthPolicy: fc.constantFrom('OnlyHealthy', 'AllowAll'),
    }),
  ),
  ipFamilies: maybe(fc.constantFrom('Dual', 'IPv4', 'IPv6')),
  canonical: fc.boolean(),
  visibility: fc.constantFrom('Public', 'Namespace'),
});

const stringMatch: fc.Arbitrary<StringMatch> = fc.oneof(
  fc.record({ kind: fc.constantFrom('exact', 'prefix', 'suffix'), text }),
  fc.constant({ kind: 'presence' as const }),
);
const few = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(value, { maxLength: 2 });
const account = fc.record({ namespace: text, serviceAccount: text });
const match: fc.Arbitrary<PolicyMatch> = fc.record({
  namespaces: few(stringMatch),
  notNamespaces: few(stringMatch),
  serviceAccounts: few(account),
  notServiceAccounts: few(account),
  principals: few(stringMatch),
  notPrincipals: few(stringMatch),
  sourceIps: few(cidr),
  notSourceIps: few(cidr),
  destinationIps: few(cidr),
  notDestinationIps: few(cidr),
  destinationPorts: few(port),
  notDestinationPorts: few(port),
});
export const policy: fc.Arbitrary<Policy> = fc.record({
  name: text,
  namespace: text,
  scope: fc.constantFrom('Global', 'Namespace', 'WorkloadSelector'),
  action: fc.constantFrom('Allow', 'Deny'),
  rules: few(fc.record({ clauses: few(few(match)) })),
  dryRun: fc.boolean(),
});

export const request: fc.Arbitrary<DeltaRequest> = fc.record({
  node: maybe(
    fc.record({ id: text, metadata: fc.constant({ NODE_NAME: 'n1', deep: { a: [1, true, null] } }) }),
  ),
  typeUrl: text,
  subscribe: few(text),
  unsubscribe: few(text),
  initialResourceVersions: fc.array(fc.tuple(word, text), { maxLength: 4 }).map((all) => new Map(all)),
  responseNonce: text,
  error: maybe(fc.record({ code: fc.integer({ min: -5, max: 20 }), message: text })),
});

/** Comparable: maps as lists of entries, whatever their order. */
export const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value, mapsAsEntries));
function mapsAsEntries(_key: string, value: unknown): unknown {
  return value instanceof Map ? [...value].sort() : value;
}
