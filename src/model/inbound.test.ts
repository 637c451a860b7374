// Validation and target resolution of a CONNECT request: ztunnel.md §7.2, §7.3, §7.7.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ip } from '#net/ip.ts';
import { guessService, type InboundDecision, validateInbound } from './inbound.ts';
import { serviceOf, workloadOf } from './samples.ts';
import type { Service } from './service.ts';
import { createStore, type Store } from './store.ts';
import type { GatewayRef, ServiceKey, Workload } from './workload.ts';

const POD = ip('10.244.1.5');
const BEHIND = ip('10.244.1.6');
const VIP = ip('10.96.0.20');
const SIX = ip('fd00::20');
const CART = 'shop/cart.shop.svc.cluster.local' as ServiceKey;
const ILLEGAL = new Set([15_001, 15_006, 15_008]);

const local = workloadOf({
  name: 'cart',
  namespace: 'shop',
  ips: [POD],
  services: new Map([[CART, new Map([[81, 8181]])]]),
});
const cart = serviceOf({
  name: 'cart',
  namespace: 'shop',
  vips: [
    { network: 'west', ip: ip('172.20.0.1') },
    { network: '', ip: SIX },
    { network: '', ip: VIP },
  ],
  ports: new Map([
    [80, 8080],
    [81, 1],
    [82, 0],
    [83, 15_008],
  ]),
});

function storeOf(...workloads: Workload[]): Store {
  const store = createStore({ localNode: 'n1' });
  store.apply({
    addresses: [
      { kind: 'service', service: cart },
      ...[local, ...workloads].map((workload) => ({ kind: 'workload' as const, workload })),
    ],
  });
  return store;
}

const judge = (authority: string, as: Workload = local, view: Store = storeOf()): InboundDecision =>
  validateInbound({ view, network: '', local: as, connectionIp: POD, authority, illegalPorts: ILLEGAL });

function targetOf(decision: InboundDecision): string {
  return decision.kind === 'target'
    ? `${decision.target.ip}:${decision.target.port}`
    : `${decision.status} ${decision.reason}`;
}

// authority → target, or status and reason
const CASES: readonly [string, string][] = [
  ['10.244.1.5:8080', '10.244.1.5:8080'],
  ['10.244.1.6:8080', '400 ip-mismatch'],
  ['10.96.0.20:80', '400 ip-mismatch'],
  ['[fd00::20]:80', '400 ip-mismatch'],
  ['10.244.1.5', '400 authority-malformed'],
  ['cart.shop.svc.cluster.local', '400 authority-malformed'],
  ['', '400 authority-malformed'],
  ['10.244.1.5:0', '400 authority-malformed'],
  ['10.244.1.5:65536', '400 authority-malformed'],
  ['fd00::20:80', '400 authority-malformed'],
  // A host name always passes the address check; the endpoint's own mapping comes first.
  ['cart.shop.svc.cluster.local:80', '10.244.1.5:8080'],
  ['cart.shop.svc.cluster.local:81', '10.244.1.5:8181'],
  ['cart.shop.svc.cluster.local:82', '503 port-unknown'],
  ['cart.shop.svc.cluster.local:99', '503 port-unknown'],
  ['other.shop.svc.cluster.local:80', '503 service-unknown'],
  ['10.244.1.5:15008', '503 illegal-port'],
  ['10.244.1.5:15001', '503 illegal-port'],
  ['cart.shop.svc.cluster.local:83', '503 illegal-port'],
];
for (const [authority, expected] of CASES)
  test(`authority ${JSON.stringify(authority)} → ${expected}`, () =>
    assert.equal(targetOf(judge(authority)), expected));

test('membership of the service is not required for a host-name authority', () => {
  const stranger = { ...local, services: new Map() };
  assert.equal(targetOf(judge('cart.shop.svc.cluster.local:80', stranger)), '10.244.1.5:8080');
});

test('an application tunnel takes any address, on its own port if it has one', () => {
  const tunnelled: Workload = { ...local, applicationTunnel: { protocol: 'NONE', port: 15_088 } };
  assert.equal(targetOf(judge('192.0.2.7:443', tunnelled)), '10.244.1.5:15088');
  const portless: Workload = { ...local, applicationTunnel: { protocol: 'NONE', port: undefined } };
  assert.equal(targetOf(judge('192.0.2.7:443', portless)), '10.244.1.5:443');
});

test('a PROXY tunnel is told the address that was asked for, or a VIP of the service', () => {
  const proxied: Workload = { ...local, applicationTunnel: { protocol: 'PROXY', port: 15_088 } };
  const proxyDestination = (authority: string, view?: Store) => {
    const decision = judge(authority, proxied, view);
    return decision.kind === 'target' ? decision.proxyDestination : decision.reason;
  };
  assert.deepEqual(proxyDestination('192.0.2.7:443'), { ip: '192.0.2.7', port: 443 });
  // Own network before others, then IPv4.
  assert.deepEqual(proxyDestination('cart.shop.svc.cluster.local:80'), { ip: VIP, port: 80 });
  const headless = createStore({ localNode: 'n1' });
  headless.apply({ addresses: [{ kind: 'service', service: { ...cart, vips: [] } }] });
  assert.equal(proxyDestination('cart.shop.svc.cluster.local:80', headless), 'no-vip');
});

test('a waypoint takes what is meant for those behind it, and for nobody else', () => {
  const waypointService = serviceOf({
    name: 'wp',
    namespace: 'shop',
    vips: [{ network: '', ip: ip('10.96.0.9') }],
  });
  const WP = 'shop/wp.shop.svc.cluster.local' as ServiceKey;
  const waypoint: Workload = { ...local, services: new Map([[WP, new Map()]]) };
  const references: readonly GatewayRef[] = [
    {
      destination: { kind: 'hostname', namespace: 'shop', hostname: waypointService.hostname },
      hbonePort: 15_008,
    },
    { destination: { kind: 'address', address: { network: '', ip: ip('10.96.0.9') } }, hbonePort: 15_008 },
    { destination: { kind: 'address', address: { network: '', ip: POD } }, hbonePort: 15_008 },
  ];
  for (const reference of references) {
    const behind = workloadOf({ name: 'behind', ips: [BEHIND], waypoint: reference });
    const view = createStore({ localNode: 'n1' });
    view.apply({
      addresses: [
        { kind: 'service', service: { ...cart, waypoint: reference } },
        { kind: 'service', service: waypointService },
        { kind: 'workload', workload: waypoint },
        { kind: 'workload', workload: behind },
      ],
    });
    assert.equal(targetOf(judge('10.244.1.6:8080', waypoint, view)), '10.244.1.5:8080');
    assert.equal(targetOf(judge('10.96.0.20:80', waypoint, view)), '10.244.1.5:80');
    assert.equal(targetOf(judge('192.0.2.1:80', waypoint, view)), '400 ip-mismatch');
    // The same request at a pod that is not the waypoint.
    const other = workloadOf({ name: 'other', ips: [ip('10.244.1.50')] });
    const elsewhere = validateInbound({
      view,
      network: '',
      local: other,
      connectionIp: ip('10.244.1.50'),
      authority: '10.244.1.6:8080',
      illegalPorts: ILLEGAL,
    });
    assert.equal(targetOf(elsewhere), '400 ip-mismatch');
  }
});

test('one of several waypoints that share a service by weight takes its connections (§14.2 item 10)', () => {
  const reference = (hostname: string): GatewayRef => ({
    destination: { kind: 'hostname', namespace: 'shop', hostname },
    hbonePort: 15_008,
  });
  const canary = serviceOf({ name: 'canary', namespace: 'shop' });
  const us: Workload = {
    ...local,
    services: new Map([['shop/canary.shop.svc.cluster.local' as ServiceKey, new Map()]]),
  };
  const judged = (weightedWaypoints: Service['weightedWaypoints']): string => {
    const view = createStore({ localNode: 'n1' });
    const service = { ...cart, waypoint: reference('wp.shop.svc.cluster.local'), weightedWaypoints };
    view.apply({
      addresses: [
        { kind: 'service', service },
        { kind: 'service', service: canary },
        { kind: 'workload', workload: us },
      ],
    });
    return targetOf(judge('10.96.0.20:80', us, view));
  };
  assert.equal(judged([]), '400 ip-mismatch');
  assert.equal(judged([{ destination: reference(canary.hostname), weight: 1 }]), '10.244.1.5:80');
});

test('the target is always the connection’s own address', () => {
  const authority = fc.oneof(
    fc.string(),
    fc.tuple(fc.ipV4(), fc.nat(70_000)).map(([address, port]) => `${address}:${port}`),
    fc.tuple(fc.domain(), fc.nat(70_000)).map(([name, port]) => `${name}:${port}`),
    fc.constantFrom('10.244.1.5:80', 'cart.shop.svc.cluster.local:80'),
  );
  const view = storeOf();
  fc.assert(
    fc.property(authority, (text) => {
      const decision = judge(text, local, view);
      if (decision.kind === 'target') {
        assert.equal(decision.target.ip, POD);
        assert.ok(!ILLEGAL.has(decision.target.port));
      } else assert.ok(decision.explain.length > 0);
    }),
  );
});

test('the service that was meant: the forwarded one if the pod is in it, else by target port', () => {
  const store = storeOf();
  const other = serviceOf({ name: 'other', namespace: 'shop', ports: new Map([[90, 9090]]) });
  const OTHER = 'shop/other.shop.svc.cluster.local' as ServiceKey;
  store.apply({ addresses: [{ kind: 'service', service: other }] });
  const member: Workload = {
    ...local,
    services: new Map([
      [CART, new Map([[81, 8181]])],
      [OTHER, new Map()],
    ]),
  };
  const guess = (port: number, host?: string): string | undefined =>
    guessService(store, member, port, host)?.key;
  assert.equal(guess(8181), CART);
  assert.equal(guess(8080), CART);
  assert.equal(guess(9090), OTHER);
  assert.equal(guess(1), undefined);
  assert.equal(guess(8181, other.hostname), OTHER);
  assert.equal(guess(8181, 'stranger.shop.svc.cluster.local'), CART);
});
