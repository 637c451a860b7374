import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { workloadOf } from '#model/samples.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import {
  connectionIdOf,
  formatBaggage,
  formatForwarded,
  forwardedHost,
  parseBaggage,
  Traceparents,
} from './headers.ts';

const cart = workloadOf({
  ...{ name: 'cart-1', namespace: 'shop', ips: [ip('10.244.1.5')], serviceAccount: 'cart', node: 'n1' },
  ...{ workloadName: 'cart', canonicalName: 'cart', canonicalRevision: 'v2' },
  locality: { region: 'eu', zone: '', subzone: '' },
});

test('baggage: order of the field, empty values left out', () => {
  assert.equal(
    formatBaggage(cart),
    'k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=cart,service.name=cart,service.version=v2,cloud.region=eu',
  );
});

test('baggage: what is written is read back', () => {
  assert.deepEqual(parseBaggage(formatBaggage(cart)), {
    clusterId: 'Kubernetes',
    namespace: 'shop',
    workloadType: 'deployment',
    workloadName: 'cart',
    serviceName: 'cart',
    serviceVersion: 'v2',
    region: 'eu',
  });
});

test('baggage: the parser is as lenient as the peer', () => {
  assert.deepEqual(parseBaggage(undefined), {});
  assert.deepEqual(parseBaggage(''), {});
  assert.deepEqual(parseBaggage('nonsense,=,k8s.pod.name='), {});
  assert.deepEqual(parseBaggage('service.name=a,service.name=b'), { serviceName: 'b' });
  assert.deepEqual(parseBaggage('service.name=a=c'), { serviceName: 'a' });
  // Spaces are not trimmed: the key is then unknown.
  assert.deepEqual(parseBaggage('service.name=a, service.version=b'), { serviceName: 'a' });
  assert.deepEqual(parseBaggage('service.name=ä'), {});
});

test('baggage: never throws', () => {
  fc.assert(fc.property(fc.string(), (text) => typeof parseBaggage(text) === 'object'));
});

test('forwarded: bare host, bracketed IPv6', () => {
  const port = 41822 as Port;
  assert.equal(
    formatForwarded({ ip: ip('10.244.1.5'), port }, 'stock.shop.svc.cluster.local'),
    'for="10.244.1.5:41822";host=stock.shop.svc.cluster.local',
  );
  assert.equal(formatForwarded({ ip: ip('::1'), port: 80 as Port }, undefined), 'for="[::1]:80"');
});

test('forwarded: the host is found, quotes removed', () => {
  assert.equal(forwardedHost('for="1.2.3.4:5";host=a.b'), 'a.b');
  assert.equal(forwardedHost('for="1.2.3.4:5";host="a.b"'), 'a.b');
  assert.equal(forwardedHost('host=x;host=y'), 'x');
  assert.equal(forwardedHost('for=a'), undefined);
  assert.equal(forwardedHost('host='), undefined);
  assert.equal(forwardedHost('host=ü'), undefined);
  assert.equal(forwardedHost(undefined), undefined);
});

test('traceparent: version 00, not sampled, fresh each time', () => {
  const source = new Traceparents();
  const made = new Set<string>();
  for (let count = 0; count < 100; count++) made.add(source.next());
  assert.equal(made.size, 100);
  for (const one of made) assert.match(one, /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  assert.equal(new Set([...made].map((one) => one.slice(3, 35))).size, 100);
  assert.equal(new Set([...made].map((one) => one.slice(36, 52))).size, 100);
});

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
for (const [says, header, expected] of [
  ['version 00', `00-${TRACE}-00f067aa0ba902b7-01`, TRACE],
  ['a later version with more fields', `cc-${TRACE}-00f067aa0ba902b7-01-what-comes`, TRACE],
  ['the forbidden version', `ff-${TRACE}-00f067aa0ba902b7-01`, undefined],
  ['no trace', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`, undefined],
  ['upper case', `00-${TRACE.toUpperCase()}-00f067aa0ba902b7-01`, undefined],
  ['a short one', '00-4bf92f35-00f067aa0ba902b7-01', undefined],
  ['nothing', undefined, undefined],
] as const)
  test(`connection id of a traceparent: ${says}`, () => assert.equal(connectionIdOf(header), expected));
