import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorCode } from '#base/error-codes.ts';
import { MeshError } from '#base/errors.ts';
import type { SpiffeId } from '#model/identity.ts';
import { workloadOf } from '#model/samples.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { createRegistry, type Labels, type LabelText } from '#telemetry/metrics.ts';
import { type ConnectionFacts, createTelemetry, flagOf, type Telemetry } from './record.ts';

const facts: ConnectionFacts = {
  direction: 'inbound',
  src: { ip: ip('10.20.1.7'), port: 41822 as Port },
  dst: { ip: ip('10.20.3.9'), port: 15008 as Port },
  hboneAuthority: '10.20.3.9:8080',
  source: undefined,
  sourceBaggage: {
    workloadName: 'cart',
    workloadType: 'deployment',
    serviceName: 'cart-svc',
    namespace: 'shop',
  },
  sourceIdentity: 'spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId,
  destination: undefined,
  destinationIdentity: undefined,
  service: undefined,
  isSecured: true,
};

function labelsIn(text: LabelText): Labels {
  return Object.fromEntries([...text.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name!, value!]));
}

function telemetry(): { lines: string[]; counted: [string, Labels][]; telemetry: Telemetry } {
  const lines: string[] = [];
  const counted: [string, Labels][] = [];
  let nowMs = 0;
  const family = (name: string) => ({
    cell: (labels: Labels | LabelText = {}) => ({
      get value() {
        return 0;
      },
      set value(_next: number) {
        counted.push([name, typeof labels === 'string' ? labelsIn(labels) : labels]);
      },
    }),
    add: () => assert.fail('connections are counted in cells'),
    remove: () => {},
  });
  return {
    lines,
    counted,
    telemetry: createTelemetry({
      log: createLogger('app', {
        format: 'plain',
        level: 'info',
        write: (line) => lines.push(line),
        now: () => new Date('2026-09-01T08:15:30.004Z'),
      }),
      clock: {
        now: () => 0,
        monotonicMs: () => {
          nowMs += 7.9;
          return nowMs;
        },
      },
      traffic: {
        opened: family('opened'),
        closed: family('closed'),
        failed: family('failed'),
        received: family('received'),
        sent: family('sent'),
      },
    }),
  };
}

test('an unknown source is described by its baggage; the line is the field’s with ours behind it', () => {
  const { lines, counted, telemetry: say } = telemetry();
  const record = say.opened(facts);
  const error = new MeshError('POLICY_CHANGED', 'connection closed due to policy change', {
    details: { policy: 'shop/no-cart' },
  });
  record.close({ forwardBytes: 112, backwardBytes: 2048, error });
  record.close({ forwardBytes: 0, backwardBytes: 0, error: undefined });
  assert.deepEqual(lines, [
    '2026-09-01T08:15:30.004000Z\terror\taccess\tconnection complete\tsrc.addr=10.20.1.7:41822 src.workload="cart-svc" src.namespace="shop" src.identity="spiffe://cluster.local/ns/shop/sa/cart" dst.addr=10.20.3.9:15008 dst.hbone_addr=10.20.3.9:8080 direction="inbound" bytes_sent=2048 bytes_recv=112 duration="7ms" error="connection closed due to policy change" reason="POLICY_CHANGED" policy="shop/no-cart"\n',
  ]);
  assert.deepEqual(
    counted.map(([name, labels]) => [name, labels.response_flags]),
    [
      ['opened', '-'],
      ['closed', 'DENY'],
      ['failed', 'DENY'],
    ],
  );
  const labels = counted[0]![1];
  assert.deepEqual(
    [labels.source_workload, labels.source_canonical_service, labels.source_app, labels.source_principal],
    ['cart', 'cart-svc', 'cart', 'spiffe://cluster.local/ns/shop/sa/cart'],
  );
});

const outbound: ConnectionFacts = {
  ...facts,
  direction: 'outbound',
  source: workloadOf({ name: 'web', namespace: 'shop' }),
  sourceIdentity: 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId,
  destination: workloadOf({ name: 'one', namespace: 'shop' }),
  destinationIdentity: 'spiffe://cluster.local/ns/shop/sa/one' as SpiffeId,
};
const names = (counted: [string, Labels][]): string[] =>
  counted.map(([name, labels]) => `${name} ${labels.destination_workload} ${labels.response_flags}`);

test('a second attempt: the first one counts as opened and failed, the line is the last one’s', () => {
  const { lines, counted, telemetry: say } = telemetry();
  const record = say.opened(outbound);
  const { forward } = record;
  const next = { ...outbound, destination: workloadOf({ name: 'two', namespace: 'shop' }) };
  record.retry(next, new MeshError('CONNECT_FAILED', 'connecting to 10.20.3.9:15008 failed: ECONNREFUSED'));
  assert.notEqual(record.forward, forward);
  record.close({ forwardBytes: 1, backwardBytes: 2, error: undefined });
  assert.deepEqual(names(counted), [
    'opened one -',
    'closed one CONNECT',
    'failed one CONNECT',
    'opened two -',
    'closed two -',
  ]);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /\tinfo\taccess\tconnection complete\t.*dst\.workload="two"/);
});

test('a far end that must be awaited: nothing is counted before it is known, then its own words (§5.8)', () => {
  const { lines, counted, telemetry: say } = telemetry();
  const record = say.opened({ ...outbound, isFarEndAwaited: true });
  assert.deepEqual(names(counted), []);
  record.learn(
    { workloadName: 'stock', serviceName: 'stock-svc', namespace: 'far', clusterId: 'west', zone: 'z9' },
    'spiffe://west.local/ns/far/sa/stock' as SpiffeId,
  );
  record.close({ forwardBytes: 0, backwardBytes: 0, error: undefined });
  assert.deepEqual(names(counted), ['opened stock -', 'closed stock -']);
  const labels = counted[0]![1];
  assert.deepEqual(
    [labels.destination_canonical_service, labels.destination_app, labels.destination_principal],
    ['stock-svc', 'stock', 'spiffe://west.local/ns/far/sa/stock'],
  );
  assert.equal(labels.destination_zone, 'z9');
  assert.match(
    lines[0]!,
    /dst\.workload="stock" dst\.namespace="far" dst\.identity="spiffe:\/\/west\.local\/ns\/far\/sa\/stock" dst\.cluster="west"/,
  );
});

test('a far end that never told: the failure is counted for whom we dialled', () => {
  const { counted, telemetry: say } = telemetry();
  const record = say.opened({ ...outbound, isFarEndAwaited: true });
  record.close({ forwardBytes: 0, backwardBytes: 0, error: new MeshError('CONNECT_FAILED', 'x') });
  assert.deepEqual(names(counted), ['opened one -', 'closed one CONNECT', 'failed one CONNECT']);
});

test('connections of the same parties share their series; a record that was replaced has its own', () => {
  const registry = createRegistry();
  const family = (name: string) => registry.counter(name, name);
  const traffic = {
    opened: family('opened'),
    closed: family('closed'),
    failed: family('failed'),
    received: family('received'),
    sent: family('sent'),
  };
  const clock = { now: () => 0, monotonicMs: () => 0 };
  const say = createTelemetry({ log: silentLogger, clock, traffic });
  const one = say.opened(outbound);
  const same = say.opened({ ...outbound, src: { ip: ip('10.20.1.8'), port: 1 as Port } });
  assert.equal(one.forward, same.forward);
  const others: Partial<ConnectionFacts>[] = [
    { destination: workloadOf({ name: 'one', namespace: 'shop', canonicalRevision: 'v2' }) },
    { source: workloadOf({ name: 'web', namespace: 'shop', canonicalRevision: 'v2' }) },
    { isSecured: false },
    { destinationIdentity: undefined },
    { sourceIdentity: undefined },
    { direction: 'inbound' },
  ];
  for (const other of others) assert.notEqual(say.opened({ ...outbound, ...other }).forward, one.forward);
  // What only baggage tells is never anybody else's.
  say.opened({ ...facts, destination: outbound.destination });
  say.opened({ ...facts, destination: outbound.destination, sourceBaggage: { workloadName: 'eve' } });
  const opened = registry.expose().match(/^opened_total\{.*\} \d+$/gm) ?? [];
  assert.deepEqual(
    opened.map((line) => Number(line.slice(line.lastIndexOf(' ')))).sort(),
    [1, 1, 1, 1, 1, 1, 1, 1, 2],
  );
  assert.equal(opened.filter((line) => line.includes('source_workload="eve"')).length, 1);
});

test('an early refusal has addresses, direction and reason, and counts nothing', () => {
  const { lines, counted, telemetry: say } = telemetry();
  say.refused({
    direction: 'outbound',
    src: facts.src,
    dst: facts.dst,
    error: new MeshError('NO_ROUTE', 'no healthy upstream: 10.20.3.9:80'),
  });
  assert.deepEqual(lines, [
    '2026-09-01T08:15:30.004000Z\twarn\taccess\tconnection failed\tsrc.addr=10.20.1.7:41822 dst.addr=10.20.3.9:15008 direction="outbound" error="no healthy upstream: 10.20.3.9:80" reason="NO_ROUTE"\n',
  ]);
  assert.deepEqual(names(counted), []);
});

const flags: readonly [ErrorCode, Record<string, boolean>, string][] = [
  ['POLICY_DENIED', {}, 'DENY'],
  ['POLICY_CHANGED', {}, 'DENY'],
  ['CONNECT_FAILED', {}, 'CONNECT'],
  ['CONNECT_TIMEOUT', {}, 'CONNECT'],
  ['CONNECT_TIMEOUT', { tunnel: true }, 'NETWORK_POLICY'],
  ['IDENTITY_UNAVAILABLE', {}, 'IDENTITY_ERROR'],
  ['TLS_HANDSHAKE_FAILED', {}, 'CONNECT'],
  ['PEER_IDENTITY_MISMATCH', {}, 'CONNECT'],
  ['CERTIFICATE_INVALID', {}, 'TLS_FAILURE'],
  ['CERTIFICATE_REVOKED', {}, 'CERT_REVOKED'],
  ['HBONE_PROTOCOL', {}, 'H2_HANDSHAKE_FAILURE'],
  ['HBONE_REFUSED', {}, 'CONNECT'],
  ['DRAINED', {}, 'CONNECT'],
];
for (const [code, details, flag] of flags)
  test(`${code} ${JSON.stringify(details)} counts as ${flag}`, () =>
    assert.equal(flagOf(new MeshError(code, 'x', { details })), flag));

test('no error is no flag; a broken stream is CONNECT', () => {
  assert.equal(flagOf(undefined), '-');
  assert.equal(flagOf('the session was lost'), 'CONNECT');
});
