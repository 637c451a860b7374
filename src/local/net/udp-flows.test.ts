import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServiceTarget } from './service-targets.ts';
import { staleUdpFlow } from './udp-flows.ts';

const target = (over: Partial<ServiceTarget> = {}): ServiceTarget => ({
  name: 'a/dns',
  address: '10.96.1.1',
  protocol: 'udp',
  port: 53,
  endpoints: [
    { ip: '10.244.1.2', port: 53 },
    { ip: '10.244.1.3', port: 53 },
  ],
  ...over,
});
const flow = (to: string, answeredBy: string) => ({
  to: { ip: to, port: 53 },
  answeredBy: { ip: answeredBy, port: 53 },
});

test('only flows to the endpoint that is gone are stale', () => {
  const stale = staleUdpFlow([target()], [target({ endpoints: [{ ip: '10.244.1.3', port: 53 }] })]);
  assert.ok(stale !== undefined);
  assert.equal(stale(flow('10.96.1.1', '10.244.1.2')), true);
  assert.equal(stale(flow('10.96.1.1', '10.244.1.3')), false);
  assert.equal(stale(flow('10.96.1.2', '10.244.1.2')), false, 'another service');
});

test('a service that is gone leaves no flow; a new endpoint, and TCP, are no reason to look', () => {
  assert.equal(staleUdpFlow([target()], [])?.(flow('10.96.1.1', '10.244.1.3')), true);
  assert.equal(staleUdpFlow([target({ endpoints: [] })], [target()]), undefined);
  assert.equal(staleUdpFlow([target({ protocol: 'tcp' })], []), undefined);
});

test('node ports are looked at, too', () => {
  const external = { addresses: [{ ip: '172.31.0.11', port: 30_053 }], endpoints: target().endpoints };
  const stale = staleUdpFlow([target({ external })], [target({ endpoints: [] })]);
  assert.equal(
    stale?.({ to: { ip: '172.31.0.11', port: 30_053 }, answeredBy: { ip: '10.244.1.2', port: 53 } }),
    true,
  );
});

test('without a former state every flow to an endpoint that a service does not have is stale', () => {
  const stale = staleUdpFlow(undefined, [target()]);
  assert.equal(stale?.(flow('10.96.1.1', '10.244.1.9')), true);
  assert.equal(stale?.(flow('10.96.1.1', '10.244.1.3')), false);
});
