// The decision table of ztunnel.md §6.2 with the consequences it names, and what must hold for any mesh.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { OriginalDst, Port } from '#net/host-port.ts';
import { type IpAddress, ip } from '#net/ip.ts';
import { isFromWaypoint, type Route, route } from './route.ts';
import { serviceOf, workloadOf } from './samples.ts';
import type { Service } from './service.ts';
import { createStore, type Store } from './store.ts';
import type { GatewayRef, PortMap, ServiceKey, Workload, WorkloadUid } from './workload.ts';

const SRC = ip('10.244.1.2');
const POD = ip('10.244.2.3');
const VIP = ip('10.96.0.20');
const WP = ip('10.244.2.9');
const WP_VIP = ip('10.96.0.99');
const UNKNOWN = ip('192.0.2.1');

const key = (text: string): ServiceKey => text as ServiceKey;
const ports = (...pairs: [number, number][]): PortMap => new Map(pairs);
const source = workloadOf({ name: 'client', namespace: 'shop', serviceAccount: 'web', ips: [SRC] });
const CART = key('shop/cart.shop.svc.cluster.local');
const cartPod = workloadOf({
  name: 'cart',
  namespace: 'shop',
  serviceAccount: 'cart',
  ips: [POD],
  services: new Map([[CART, ports([80, 8080])]]),
});
const cart = serviceOf({
  name: 'cart',
  namespace: 'shop',
  vips: [{ network: '', ip: VIP }],
  ports: ports([80, 8080]),
});
const WAYPOINT = key('shop/waypoint.shop.svc.cluster.local');
const waypointPod = workloadOf({
  name: 'waypoint',
  namespace: 'shop',
  serviceAccount: 'waypoint',
  ips: [WP],
  protocol: 'TCP',
  services: new Map([[WAYPOINT, ports([15_008, 15_008])]]),
});
const waypoint = serviceOf({
  name: 'waypoint',
  namespace: 'shop',
  vips: [{ network: '', ip: WP_VIP }],
  ports: ports([15_008, 15_008]),
});
const toWaypoint: GatewayRef = {
  destination: { kind: 'hostname', namespace: 'shop', hostname: 'waypoint.shop.svc.cluster.local' },
  hbonePort: 15_008,
};

function mesh(...things: readonly (Workload | Service)[]): Store {
  const store = createStore({ localNode: 'n1' });
  store.apply({
    addresses: things.map((thing) =>
      'uid' in thing ? { kind: 'workload', workload: thing } : { kind: 'service', service: thing },
    ),
  });
  return store;
}

function decide(
  store: Store,
  address: IpAddress,
  port: number,
  from: Workload = source,
  random = () => 0,
): Route {
  const originalDst: OriginalDst = { ip: address, port: port as Port };
  return route({
    view: store,
    network: '',
    source: from,
    downstreamIp: from.ips[0] ?? SRC,
    originalDst,
    random,
  });
}

test('an HBONE workload by address: its port 15008, authority address and port, its identity', () => {
  assert.deepEqual(decide(mesh(source, cartPod), POD, 9000), {
    kind: 'hbone',
    via: 'workload',
    dial: { ip: POD, port: 15_008 },
    authority: '10.244.2.3:9000',
    expected: ['spiffe://cluster.local/ns/shop/sa/cart'],
    destination: cartPod,
    service: undefined,
  });
});

test('a pod that was deleted a moment ago is not dialled in plaintext; another in its place is', () => {
  const store = mesh(source, cartPod);
  store.apply({ removedAddresses: [cartPod.uid] });
  const refused = decide(store, POD, 9000);
  assert.equal(refused.kind, 'refuse');
  assert.equal(refused.kind === 'refuse' && refused.reason, 'no-healthy-upstream');
  const outside: Workload = { ...cartPod, protocol: 'TCP', uid: 'other' as Workload['uid'] };
  store.apply({ addresses: [{ kind: 'workload', workload: outside }] });
  assert.equal(decide(store, POD, 9000).kind, 'tcp');
  store.apply({ removedAddresses: ['other'] });
  assert.equal(decide(store, ip('192.0.2.9'), 9000).kind, 'passthrough', 'nobody ever had this address');
});

test('a service: an endpoint and its target port; the names of the service count as identities too', () => {
  const named = {
    ...cart,
    subjectAltNames: ['spiffe://other.domain/ns/a/sa/b', 'not-spiffe', 'spiffe://cluster.local/odd'],
  };
  assert.deepEqual(decide(mesh(source, cartPod, named), VIP, 80), {
    kind: 'hbone',
    via: 'workload',
    dial: { ip: POD, port: 15_008 },
    authority: '10.244.2.3:8080',
    expected: ['spiffe://other.domain/ns/a/sa/b', 'spiffe://cluster.local/ns/shop/sa/cart'],
    destination: cartPod,
    service: named,
  });
});

test('IPv6 stands in brackets in the authority', () => {
  const six = ip('fd00::5');
  const decision = decide(mesh(source, { ...cartPod, ips: [six] }), six, 9000);
  assert.equal(decision.kind === 'hbone' && decision.authority, '[fd00::5]:9000');
});

test('a TCP workload is dialled plainly, by address and through a service', () => {
  const plain = { ...cartPod, protocol: 'TCP' as const };
  const byAddress = { kind: 'tcp', dial: { ip: POD, port: 9000 }, destination: plain, service: undefined };
  assert.deepEqual(decide(mesh(source, plain), POD, 9000), byAddress);
  const byService = { kind: 'tcp', dial: { ip: POD, port: 8080 }, destination: plain, service: cart };
  assert.deepEqual(decide(mesh(source, plain, cart), VIP, 80), byService);
});

test('an unknown address passes through, and so does a passthrough service', () => {
  assert.deepEqual(decide(mesh(source), UNKNOWN, 443), {
    kind: 'passthrough',
    reason: 'unknown-destination',
    dial: { ip: UNKNOWN, port: 443 },
    service: undefined,
  });
  const loadBalancer = { routingPreferences: [], mode: 'Passthrough', healthPolicy: 'OnlyHealthy' } as const;
  const passing = { ...cart, loadBalancer };
  assert.deepEqual(decide(mesh(source, cartPod, passing), VIP, 80), {
    kind: 'passthrough',
    reason: 'passthrough-service',
    dial: { ip: VIP, port: 80 },
    service: passing,
  });
});

test('a known service that nobody serves is refused, with the reason', () => {
  const refusal = (...things: (Workload | Service)[]): string => {
    const decision = decide(mesh(source, ...things), VIP, 80);
    assert.equal(decision.kind, 'refuse');
    assert.equal(decision.kind === 'refuse' && decision.reason, 'no-healthy-upstream');
    return decision.kind === 'refuse' ? decision.explain : '';
  };
  const prefix = 'no healthy upstream: 10.96.0.20:80 (shop/cart.shop.svc.cluster.local): ';
  assert.equal(refusal(cart), `${prefix}the service has no endpoints`);
  assert.equal(
    refusal(cart, { ...cartPod, status: 'Unhealthy' }),
    `${prefix}none of its 1 endpoints is healthy`,
  );
  assert.equal(
    refusal({ ...cart, ports: ports([443, 8443]) }, cartPod),
    `${prefix}the service has no port 80`,
  );
});

test('a service of namespace visibility is unknown to others: passed through', () => {
  const hidden = { ...cart, visibility: 'Namespace' as const };
  const stranger = workloadOf({ name: 'x', namespace: 'bank', ips: [SRC] });
  assert.equal(decide(mesh(stranger, cartPod, hidden), VIP, 80, stranger).kind, 'passthrough');
  assert.equal(decide(mesh(source, cartPod, hidden), VIP, 80).kind, 'hbone');
});

test('a service waypoint takes every connection to the service, with the original destination as authority', () => {
  const viaWaypoint = { ...cart, waypoint: toWaypoint };
  const sans = { ...waypoint, subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/wp2'] };
  assert.deepEqual(decide(mesh(source, cartPod, viaWaypoint, waypointPod, sans), VIP, 80), {
    kind: 'hbone',
    via: 'service-waypoint',
    dial: { ip: WP, port: 15_008 },
    authority: '10.96.0.20:80',
    expected: ['spiffe://cluster.local/ns/shop/sa/wp2', 'spiffe://cluster.local/ns/shop/sa/waypoint'],
    destination: waypointPod,
    service: viaWaypoint,
  });
  // Also when the service has no such port, no endpoint, or asks for passthrough.
  const loadBalancer = { routingPreferences: [], mode: 'Passthrough', healthPolicy: 'OnlyHealthy' } as const;
  const passing = { ...viaWaypoint, loadBalancer };
  const decision = decide(mesh(source, passing, waypointPod, waypoint), VIP, 1234);
  assert.equal(decision.kind === 'hbone' && decision.authority, '10.96.0.20:1234');
});

test('a waypoint by address: the VIP of its service, or a workload and the port of the reference', () => {
  const reference = (address: IpAddress, hbonePort: number): GatewayRef => ({
    destination: { kind: 'address', address: { network: '', ip: address } },
    hbonePort,
  });
  const byVip = { ...cart, waypoint: reference(WP_VIP, 15_008) };
  const first = decide(mesh(source, byVip, waypointPod, waypoint), VIP, 80);
  assert.deepEqual(first.kind === 'hbone' && first.dial, { ip: WP, port: 15_008 });
  const byWorkload = { ...cart, waypoint: reference(WP, 15_088) };
  const second = decide(mesh(source, byWorkload, waypointPod), VIP, 80);
  assert.deepEqual(second.kind === 'hbone' && second.dial, { ip: WP, port: 15_088 });
});

test('a dangling waypoint is refused, never gone around', () => {
  const viaWaypoint = { ...cart, waypoint: toWaypoint };
  for (const [things, reason] of [
    [[], /unknown waypoint: shop\/waypoint\.shop\.svc\.cluster\.local port 15008 is neither a known service/],
    [[waypoint], /unknown waypoint: .*: the service has no endpoints/],
    [[waypoint, { ...waypointPod, status: 'Unhealthy' as const }], /none of its 1 endpoints is healthy/],
  ] as const) {
    const decision = decide(mesh(source, cartPod, viaWaypoint, ...things), VIP, 80);
    assert.equal(decision.kind === 'refuse' && decision.reason, 'waypoint-unavailable');
    assert.match(decision.kind === 'refuse' ? decision.explain : '', reason);
  }
});

test('weighted waypoints are chosen by weight; none usable falls back to the plain one', () => {
  const canary: GatewayRef = {
    destination: { kind: 'address', address: { network: '', ip: ip('10.244.2.77') } },
    hbonePort: 15_008,
  };
  const canaryPod = workloadOf({ name: 'canary', ips: [ip('10.244.2.77')] });
  const at = (weights: readonly [number, number], random: number): string => {
    const service: Service = {
      ...cart,
      waypoint: toWaypoint,
      weightedWaypoints: [
        { destination: toWaypoint, weight: weights[0] },
        { destination: canary, weight: weights[1] },
      ],
    };
    const store = mesh(source, service, waypointPod, waypoint, canaryPod);
    const decision = decide(store, VIP, 80, source, () => random);
    return decision.kind === 'hbone' ? decision.destination.name : decision.kind;
  };
  assert.equal(at([90, 10], 0.89), 'waypoint');
  assert.equal(at([90, 10], 0.91), 'canary');
  assert.equal(at([0, 10], 0), 'canary');
  assert.equal(at([0, 0], 0.5), 'waypoint');
});

test('a workload waypoint takes connections addressed to the workload, and only those', () => {
  const behind = { ...cartPod, waypoint: toWaypoint };
  const store = mesh(source, behind, cart, waypointPod, waypoint);
  const byAddress = decide(store, POD, 9000);
  assert.equal(byAddress.kind === 'hbone' && byAddress.via, 'workload-waypoint');
  assert.equal(byAddress.kind === 'hbone' && byAddress.authority, '10.244.2.3:9000');
  const byService = decide(store, VIP, 80);
  assert.equal(byService.kind === 'hbone' && byService.via, 'workload');
});

test('the waypoint itself reaches the workload behind it directly: by identity and address together', () => {
  const behind = { ...cartPod, waypoint: toWaypoint };
  const store = mesh(source, behind, waypointPod, waypoint);
  const own = decide(store, POD, 9000, waypointPod);
  assert.equal(own.kind === 'hbone' && own.via, 'workload');
  const request = { view: store, random: () => 0 };
  const wp = waypointPod;
  assert.equal(isFromWaypoint({ ...request, source: wp, downstreamIp: WP }, toWaypoint), true);
  assert.equal(isFromWaypoint({ ...request, source: wp, downstreamIp: SRC }, toWaypoint), false);
  assert.equal(isFromWaypoint({ ...request, source, downstreamIp: WP }, toWaypoint), false);
});

test('the source’s own waypoint plays no part', () => {
  const decision = decide(mesh(cartPod), POD, 9000, { ...source, waypoint: toWaypoint });
  assert.equal(decision.kind === 'hbone' && decision.via, 'workload');
});

test('a workload’s address beats a VIP in what was addressed, a VIP beats it in the choice of upstream', () => {
  // The VIP of a service with a waypoint is also another workload's address.
  const squatter = workloadOf({ name: 'squatter', namespace: 'shop', ips: [VIP] });
  const viaWaypoint = { ...cart, waypoint: toWaypoint };
  const decision = decide(mesh(source, squatter, cartPod, viaWaypoint, waypointPod, waypoint), VIP, 80);
  assert.equal(decision.kind === 'hbone' && decision.via, 'workload');
  assert.equal(decision.kind === 'hbone' && decision.destination.name, 'cart');
});

test('host-network workloads are reached as endpoints only', () => {
  const hostNetwork = { ...cartPod, networkMode: 'HostNetwork' as const, protocol: 'TCP' as const };
  const store = mesh(source, hostNetwork, cart);
  assert.equal(decide(store, POD, 8080).kind, 'passthrough');
  assert.equal(decide(store, VIP, 80).kind, 'tcp');
});

const GATEWAY_IP = ip('192.0.2.15');
const gatewayPod = workloadOf({
  name: 'eastwest',
  namespace: 'istio-system',
  serviceAccount: 'eastwest',
  network: 'west',
  ips: [GATEWAY_IP],
});
const toGateway: GatewayRef = {
  destination: { kind: 'address', address: { network: 'west', ip: GATEWAY_IP } },
  hbonePort: 15_008,
};
const farPod: Workload = { ...cartPod, ips: [], network: 'west', networkGateway: toGateway };
const namedCart: Service = { ...cart, subjectAltNames: ['spiffe://west.local/ns/shop/sa/cart', 'no-spiffe'] };

test('an endpoint on another network: through its gateway, by the service’s name, in a tunnel of its own (§6.2 step 6)', () => {
  assert.deepEqual(decide(mesh(source, farPod, namedCart, gatewayPod), VIP, 80), {
    kind: 'double-hbone',
    dial: { ip: GATEWAY_IP, port: 15_008 },
    // The port that was asked for, not the target port.
    authority: 'cart.shop.svc.cluster.local:80',
    expected: ['spiffe://cluster.local/ns/istio-system/sa/eastwest'],
    // Never the far workload’s own identity (§5.8 item 2).
    innerExpected: ['spiffe://west.local/ns/shop/sa/cart'],
    destination: gatewayPod,
    service: namedCart,
  });
});

test('a service waypoint on another network: its gateway, the names of the waypoint’s service inside', () => {
  const far = { ...waypointPod, network: 'west', networkGateway: toGateway };
  const names = { ...waypoint, subjectAltNames: ['spiffe://west.local/ns/shop/sa/wp'] };
  const service = { ...namedCart, waypoint: toWaypoint };
  const decision = decide(mesh(source, service, far, names, gatewayPod), VIP, 8443);
  assert.equal(decision.kind, 'double-hbone');
  if (decision.kind !== 'double-hbone') return;
  assert.equal(decision.authority, 'cart.shop.svc.cluster.local:8443');
  assert.deepEqual(decision.innerExpected, ['spiffe://west.local/ns/shop/sa/wp']);
  assert.equal(decision.service, service);
});

test('a network gateway by host name: its service’s endpoint, port and names, in standard mode (§6.6)', () => {
  const reference: GatewayRef = {
    destination: {
      kind: 'hostname',
      namespace: 'istio-system',
      hostname: 'eastwest.istio-system.svc.cluster.local',
    },
    hbonePort: 15_008,
  };
  const GATEWAY = key('istio-system/eastwest.istio-system.svc.cluster.local');
  const gateway = serviceOf({
    name: 'eastwest',
    namespace: 'istio-system',
    ports: ports([15_008, 15_108]),
    subjectAltNames: ['spiffe://west.local/ns/istio-system/sa/gw'],
  });
  const endpoint = { ...gatewayPod, services: new Map([[GATEWAY, ports()]]) };
  const far = { ...farPod, networkGateway: reference };
  const decision = decide(mesh(source, far, namedCart, gateway, endpoint), VIP, 80);
  assert.deepEqual(decision.kind === 'double-hbone' && [decision.dial.port, decision.expected], [
    15_108,
    ['spiffe://west.local/ns/istio-system/sa/gw', 'spiffe://cluster.local/ns/istio-system/sa/eastwest'],
  ]);
  // An application tunnel excuses a missing port for waypoints only.
  const tunnelled = { ...endpoint, applicationTunnel: { protocol: 'NONE' as const, port: 9 } };
  const without = decide(mesh(source, far, namedCart, { ...gateway, ports: ports() }, tunnelled), VIP, 80);
  assert.equal(without.kind === 'refuse' && without.reason, 'network-gateway-unavailable');
});

test('another network that cannot be reached is refused, with what is missing', () => {
  const refusal = (...things: (Workload | Service)[]): string => {
    const decision = decide(mesh(source, ...things), VIP, 80);
    return decision.kind === 'refuse' ? `${decision.reason}: ${decision.explain}` : decision.kind;
  };
  const where = 'Kubernetes//Pod/shop/cart is on network "west"';
  const noGateway = { ...farPod, ips: [POD], networkGateway: undefined };
  assert.equal(
    refusal(noGateway, namedCart, gatewayPod),
    `no-network-gateway: ${where}: it has no network gateway to be reached through`,
  );
  assert.equal(
    refusal(farPod, namedCart),
    `network-gateway-unavailable: ${where}: unknown network gateway: west/192.0.2.15 port 15008 is neither a known service nor a known workload`,
  );
  assert.equal(
    refusal(farPod, cart, gatewayPod),
    `no-subject-names: ${where}: shop/cart.shop.svc.cluster.local has no subject names to recognise its workloads by`,
  );
  // A VIP that is a workload’s address too is not addressed to the service (§6.2 step 1).
  const squatter = workloadOf({ name: 'squatter', namespace: 'shop', ips: [VIP] });
  assert.match(refusal(farPod, namedCart, gatewayPod, squatter), /^network-gateway-needs-service: /);
});

test('addresses of other networks are not ours: an address that only they know passes through', () => {
  const store = mesh(source, { ...cartPod, network: 'west' });
  assert.equal(decide(store, POD, 9000).kind, 'passthrough');
});

test('target ports: the endpoint’s mapping, then the service’s, then the tunnel’s same port', () => {
  const port = (service: Service, pod: Workload): number | string => {
    const decision = decide(mesh(source, pod, service), VIP, 80);
    return decision.kind === 'tcp' ? decision.dial.port : decision.kind;
  };
  const tcp = { ...cartPod, protocol: 'TCP' as const };
  const mapped = (map: PortMap): Workload => ({ ...tcp, services: new Map([[CART, map]]) });
  assert.equal(port({ ...cart, ports: ports([80, 1111]) }, mapped(ports([80, 2222]))), 2222);
  assert.equal(port({ ...cart, ports: ports([80, 1111]) }, mapped(ports())), 1111);
  assert.equal(port({ ...cart, ports: ports([80, 0]) }, mapped(ports())), 'refuse');
  assert.equal(port({ ...cart, ports: ports([80, 0]) }, mapped(ports([80, 2222]))), 2222);
});

test('which address of a workload: the very one, else its family, within what the service allows', () => {
  const four = ip('10.244.2.3');
  const six = ip('fd00::3');
  const dual = { ...cartPod, protocol: 'TCP' as const, ips: [six, four] };
  const dialled = (ipFamilies: Service['ipFamilies'], ips: readonly IpAddress[] = dual.ips): string => {
    const decision = decide(mesh(source, { ...dual, ips }, { ...cart, ipFamilies }), VIP, 80);
    return decision.kind === 'tcp' ? decision.dial.ip : decision.kind === 'refuse' ? decision.reason : '';
  };
  assert.equal(dialled(undefined), four);
  assert.equal(dialled('IPv4'), four);
  assert.equal(dialled('IPv6'), six);
  assert.equal(dialled('Dual', [six]), six);
  assert.equal(dialled('IPv4', [six]), 'no-address');
});

test('a workload known by host name only: the decision goes on with one of its addresses (§6.3)', () => {
  const looked = ip('203.0.113.7');
  const lookedUp = (pod: Workload, ...things: (Workload | Service)[]): Route => {
    const decision = decide(mesh(source, pod, ...things), VIP, 80);
    assert.equal(decision.kind, 'resolve');
    if (decision.kind !== 'resolve') throw new Error('unreachable');
    assert.equal(decision.hostname, 'db.example.com');
    assert.equal(decision.target, VIP);
    return decision.withAddress(looked);
  };
  const named = { ...cartPod, ips: [], hostname: 'db.example.com' };
  const plain = lookedUp({ ...named, protocol: 'TCP' }, cart);
  assert.deepEqual(plain.kind === 'tcp' && plain.dial, { ip: looked, port: 8080 });
  const tunnel = lookedUp(named, cart);
  assert.deepEqual(tunnel.kind === 'hbone' && [tunnel.dial, tunnel.authority], [
    { ip: looked, port: 15_008 },
    '203.0.113.7:8080',
  ]);
  // So do a waypoint and a gateway.
  const viaWaypoint = { ...cart, waypoint: toWaypoint };
  const wp = lookedUp(cartPod, viaWaypoint, waypoint, {
    ...waypointPod,
    ips: [],
    hostname: 'db.example.com',
  });
  assert.deepEqual(wp.kind === 'hbone' && [wp.via, wp.dial.ip, wp.authority], [
    'service-waypoint',
    looked,
    '10.96.0.20:80',
  ]);
  // Also when the service allows none of the addresses it has.
  const six = { ...named, ips: [ip('fd00::3')], protocol: 'TCP' as const };
  const other = lookedUp(six, { ...cart, ipFamilies: 'IPv4' });
  assert.equal(other.kind === 'tcp' && other.dial.ip, looked);
});

test('a waypoint or gateway named by its host is balanced even when its service asks for passthrough', () => {
  const loadBalancer = { routingPreferences: [], mode: 'Passthrough', healthPolicy: 'OnlyHealthy' } as const;
  const passing = { ...waypoint, loadBalancer };
  const byName = decide(mesh(source, { ...cart, waypoint: toWaypoint }, passing, waypointPod), VIP, 80);
  assert.equal(byName.kind === 'hbone' && byName.via, 'service-waypoint');
  const byVip: GatewayRef = {
    destination: { kind: 'address', address: { network: '', ip: WP_VIP } },
    hbonePort: 15_008,
  };
  const refused = decide(mesh(source, { ...cart, waypoint: byVip }, passing, waypointPod), VIP, 80);
  assert.equal(refused.kind === 'refuse' && refused.reason, 'waypoint-unavailable');
});

test('an endpoint that just failed is avoided as long as there is another', () => {
  const second = { ...cartPod, uid: 'Kubernetes//Pod/shop/cart-2' as WorkloadUid, ips: [ip('10.244.2.4')] };
  const avoiding = (store: Store, ...uids: WorkloadUid[]): string => {
    const request = { view: store, network: '', source, downstreamIp: SRC, random: () => 0 };
    const originalDst: OriginalDst = { ip: VIP, port: 80 as Port };
    const decision = route({ ...request, originalDst, avoid: new Set(uids) });
    return decision.kind === 'hbone' ? decision.destination.uid : decision.kind;
  };
  assert.equal(avoiding(mesh(source, cart, cartPod, second), cartPod.uid), second.uid);
  assert.equal(avoiding(mesh(source, cart, cartPod, second), second.uid), cartPod.uid);
  assert.equal(avoiding(mesh(source, cart, cartPod), cartPod.uid), cartPod.uid);
  // A waypoint’s endpoints likewise; a connection never goes around a waypoint because one of them failed.
  const via = { ...cart, waypoint: toWaypoint };
  const wp2 = { ...waypointPod, uid: 'Kubernetes//Pod/shop/wp-2' as WorkloadUid, ips: [ip('10.244.2.8')] };
  assert.equal(avoiding(mesh(source, via, cartPod, waypoint, waypointPod, wp2), waypointPod.uid), wp2.uid);
  assert.equal(avoiding(mesh(source, via, cartPod, waypoint, waypointPod), waypointPod.uid), waypointPod.uid);
});

test('whatever the mesh looks like: a tunnel expects somebody, plaintext never reaches an HBONE workload', () => {
  const address = fc.constantFrom(POD, VIP, WP, WP_VIP, UNKNOWN);
  const flavour = fc.record({
    protocol: fc.constantFrom<Workload['protocol']>('TCP', 'HBONE'),
    status: fc.constantFrom<Workload['status']>('Healthy', 'Unhealthy'),
    network: fc.constantFrom('', 'west'),
    networkGateway: fc.constantFrom(undefined, toGateway),
    hostname: fc.constantFrom('', 'db.example.com'),
    ips: fc.subarray([POD, VIP, WP]),
    waypoint: fc.constantFrom(undefined, toWaypoint),
  });
  const sans = fc.subarray(['spiffe://cluster.local/ns/shop/sa/x', 'nonsense']);
  const avoided = fc.subarray([cartPod.uid, waypointPod.uid]);
  const dst = fc.record({ address, port: fc.constantFrom(80, 8080, 15_008) });
  fc.assert(
    fc.property(
      flavour,
      flavour,
      fc.boolean(),
      dst,
      fc.double({ min: 0, max: 0.999 }),
      sans,
      avoided,
      (pod, wp, via, to, chance, subjectAltNames, avoid) => {
        const service = { ...cart, subjectAltNames };
        const store = mesh(
          source,
          { ...cartPod, ...pod, uid: 'Kubernetes//Pod/shop/cart' as WorkloadUid },
          { ...waypointPod, ...wp, waypoint: undefined },
          via ? { ...service, waypoint: toWaypoint } : service,
          { ...waypoint, subjectAltNames },
          gatewayPod,
        );
        const first = route({
          view: store,
          network: '',
          source,
          downstreamIp: SRC,
          originalDst: { ip: to.address, port: to.port as Port },
          random: () => chance,
          avoid: new Set(avoid),
        });
        const decision = first.kind === 'resolve' ? first.withAddress(ip('203.0.113.7')) : first;
        assert.notEqual(decision.kind, 'resolve');
        if (decision.kind === 'hbone') assert.ok(decision.expected.length > 0);
        if (decision.kind === 'double-hbone') {
          assert.ok(decision.expected.length > 0 && decision.innerExpected.length > 0);
          assert.ok(decision.innerExpected.every((id) => subjectAltNames.includes(id)));
        }
        // Whoever is avoided changes who serves, never whether it is served or how.
        const plain = decide(store, to.address, to.port, source, () => chance);
        const isServed = ({ kind }: Route): boolean => kind !== 'refuse';
        if (pod.network === wp.network) assert.equal(isServed(first), isServed(plain));
        if (decision.kind === 'tcp') assert.equal(decision.destination.protocol, 'TCP');
        if (decision.kind === 'refuse') assert.ok(decision.explain.length > 0);
        // Fail closed: what a service behind a waypoint gets always went through one.
        if (
          via &&
          decision.service?.hostname === cart.hostname &&
          decision.kind === 'hbone' &&
          to.address === VIP
        )
          assert.ok(decision.via === 'service-waypoint' || store.workloadByIp('', VIP) !== undefined);
        if (decision.kind === 'passthrough')
          assert.equal(store.workloadByIp('', to.address) ?? undefined, undefined);
      },
    ),
  );
});
