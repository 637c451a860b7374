// Small meshes out of a number, each in addresses of its own, so that hundreds fit into one state file: services with
// endpoints, waypoints and gateways of every kind, and destinations worth asking for. Both sides get the same.

import type { Address } from '#model/address.ts';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { LoadBalancing, Service } from '#model/service.ts';
import {
  type GatewayRef,
  type PortMap,
  serviceKey,
  type Workload,
  type WorkloadUid,
} from '#model/workload.ts';
import { parseCidr } from '#net/cidr.ts';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';

export interface Mesh {
  readonly seed: number;
  readonly addresses: readonly Address[];
  readonly destinations: readonly SocketAddress[];
}

const NEAR = { region: 'r1', zone: 'z1', subzone: 's1' };

export const SOURCE: Workload = workloadOf({
  uid: 'c1//Pod/shop/client' as WorkloadUid,
  name: 'client',
  namespace: 'shop',
  serviceAccount: 'client',
  ips: [ip('10.250.0.1')],
  node: 'n1',
  clusterId: 'c1',
  locality: NEAR,
});

export function meshOf(seed: number, index: number): Mesh {
  const dice = new Dice(seed);
  const net = `10.${index % 250}`;
  const v6 = `fd00:${index.toString(16)}:`;
  const host = (name: string): string => `${name}.m${index}.example`;
  const byName = (name: string): GatewayRef => ({
    destination: { kind: 'hostname', namespace: 'shop', hostname: host(name) },
    hbonePort: 15_008,
  });
  const byIp = (network: string, address: string, hbonePort = 15_008): GatewayRef => ({
    destination: { kind: 'address', address: { network, ip: ip(address) } },
    hbonePort,
  });
  const waypointRef = (): GatewayRef =>
    dice.of([
      byName('wp'),
      byName('wp'),
      byName('nowhere'),
      byIp('', `${net}.96.9`),
      byIp('', `${net}.8.1`, 15_088),
    ]);
  const gatewayRef = (): GatewayRef =>
    dice.of([byName('gw'), byName('gw'), byName('nowhere'), byIp('west', `${net}.9.1`)]);
  const nearOrFar = (): Partial<Workload> => {
    if (dice.chance(0.75)) return { network: '' };
    return { network: 'west', ...(dice.chance(0.85) ? { networkGateway: gatewayRef() } : {}) };
  };
  const pod = (name: string, fields: Partial<Workload>): Workload =>
    workloadOf({
      uid: `c1//Pod/m${index}/${name}` as WorkloadUid,
      name: `${name}-m${index}`,
      namespace: 'shop',
      serviceAccount: name,
      clusterId: 'c1',
      ...fields,
    });

  const services: Service[] = [];
  const serviceCount = dice.of([1, 2, 2]);
  for (let number = 0; number < serviceCount; number++) {
    const isShared = number === 1 && dice.chance(0.5);
    services.push(
      serviceOf({
        name: `svc${number}`,
        namespace: dice.of(['shop', 'shop', 'bank']),
        hostname: host(`svc${number}`),
        vips: [{ network: '', ip: ip(`${net}.96.${isShared ? 1 : number + 1}`) }],
        cidrVips: dice.chance(0.2)
          ? [{ network: '', cidr: parseCidr(`${net}.100.0/${dice.of([24, 25, 28])}`)! }]
          : [],
        ports: dice.of<PortMap>([
          new Map([[80, 8080]]),
          new Map([[80, 0]]),
          new Map([
            [80, 0],
            [443, 8443],
          ]),
        ]),
        // Without names we refuse what the peer would dial in vain.
        subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/far'],
        canonical: dice.chance(0.3),
        visibility: dice.of(['Public', 'Public', 'Namespace']),
        ipFamilies: dice.of([undefined, undefined, 'IPv4', 'IPv6', 'Dual']),
        waypoint: dice.chance(0.25) ? waypointRef() : undefined,
        weightedWaypoints: dice.chance(0.15)
          ? [
              { destination: waypointRef(), weight: dice.of([0, 1, 9]) },
              { destination: waypointRef(), weight: dice.of([0, 1, 9]) },
            ]
          : [],
        loadBalancer: dice.chance(0.5) ? loadBalancing(dice) : undefined,
      }),
    );
  }
  const keyed = services.map((one) => serviceKey(one.namespace, one.hostname));

  const workloads: Workload[] = [];
  const podCount = dice.of([1, 2, 3, 4]);
  for (let number = 1; number <= podCount; number++) {
    const four = ip(`${net}.1.${number}`);
    const six = ip(`${v6}:${number}`);
    const place = nearOrFar();
    workloads.push(
      pod(`pod${number}`, {
        ...place,
        ips: dice.of([[four], [four], [four, six], [six, four], [six], []]),
        protocol: dice.of(['HBONE', 'HBONE', 'TCP']),
        networkMode: dice.of(['Standard', 'Standard', 'Standard', 'HostNetwork']),
        status: dice.of(['Healthy', 'Healthy', 'Healthy', 'Unhealthy']),
        capacity: dice.of([1, 1, 2, 0]),
        node: dice.of(['n1', 'n2']),
        clusterId: dice.of(['c1', 'c2']),
        locality: dice.of([
          NEAR,
          { region: 'r1', zone: 'z2', subzone: '' },
          { region: 'r2', zone: 'z1', subzone: 's1' },
          { region: '', zone: '', subzone: '' },
        ]),
        waypoint: dice.chance(0.2) ? waypointRef() : undefined,
        applicationTunnel: dice.chance(0.15)
          ? { protocol: 'PROXY', port: dice.of([undefined, 15_088]) }
          : undefined,
        services: new Map(
          keyed
            .filter(() => dice.chance(0.8))
            .map((key) => [
              key,
              dice.of<PortMap>([
                new Map([[80, 9080]]),
                new Map(),
                new Map([
                  [80, 8080],
                  [443, 9443],
                ]),
              ]),
            ]),
        ),
      }),
    );
  }

  const waypoint = serviceOf({
    name: 'wp',
    namespace: 'shop',
    hostname: host('wp'),
    vips: [{ network: '', ip: ip(`${net}.96.9`) }],
    ports: dice.of<PortMap>([new Map([[15_008, 15_008]]), new Map([[15_008, 0]]), new Map()]),
    subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/wpfar'],
    loadBalancer: dice.chance(0.2) ? loadBalancing(dice) : undefined,
  });
  const waypointPod = pod('waypoint', {
    ...nearOrFar(),
    ips: [ip(`${net}.8.1`)],
    status: dice.of(['Healthy', 'Healthy', 'Unhealthy']),
    applicationTunnel: dice.chance(0.4) ? { protocol: 'PROXY', port: 15_088 } : undefined,
    services: new Map([
      [serviceKey('shop', host('wp')), dice.of<PortMap>([new Map([[15_008, 15_008]]), new Map()])],
    ]),
  });
  const gateway = serviceOf({
    name: 'gw',
    namespace: 'shop',
    hostname: host('gw'),
    ports: dice.of<PortMap>([new Map([[15_008, 15_108]]), new Map()]),
    loadBalancer: dice.chance(0.2) ? loadBalancing(dice) : undefined,
  });
  const gatewayPod = pod('gateway', {
    network: 'west',
    ips: [ip(`${net}.9.1`)],
    applicationTunnel: dice.chance(0.3) ? { protocol: 'PROXY', port: 15_088 } : undefined,
    services: new Map([[serviceKey('shop', host('gw')), new Map()]]),
  });

  const destinations = [
    ...workloads.flatMap(({ ips }) => ips.map((address) => ({ ip: address, port: 8080 }))),
    ...[1, 2].flatMap((last) => [80, 443, 9999].map((port) => ({ ip: ip(`${net}.96.${last}`), port }))),
    { ip: ip(`${net}.100.7`), port: 80 },
    { ip: ip(`${net}.100.200`), port: 80 },
    { ip: ip(`${net}.96.9`), port: 15_008 },
    { ip: ip(`${net}.200.1`), port: 80 },
  ] as { readonly ip: SocketAddress['ip']; readonly port: number }[];
  const all = [...workloads, waypointPod, gatewayPod].map(
    (one) => ({ kind: 'workload', workload: one }) as const,
  );
  const served = [...services, waypoint, gateway].map((one) => ({ kind: 'service', service: one }) as const);
  return {
    seed,
    addresses: [...all, ...served],
    destinations: destinations.map(({ ip: address, port }) => ({ ip: address, port: port as Port })),
  };
}

function loadBalancing(dice: Dice): LoadBalancing {
  return {
    mode: dice.of(['Standard', 'Strict', 'Failover', 'Failover', 'Passthrough']),
    routingPreferences: dice.of<LoadBalancing['routingPreferences']>([
      [],
      ['Network'],
      ['Network', 'Region', 'Zone'],
      ['Region', 'Zone', 'Subzone'],
      ['Node'],
      ['Cluster', 'Region'],
      ['Region', 'Network', 'Zone'],
    ]),
    healthPolicy: dice.of(['OnlyHealthy', 'OnlyHealthy', 'AllowAll']),
  };
}

class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = (seed % 2_147_483_646) + 1;
  }

  next(): number {
    this.#state = (this.#state * 48_271) % 2_147_483_647;
    return this.#state / 2_147_483_647;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  of<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.next() * choices.length)]!;
  }
}
