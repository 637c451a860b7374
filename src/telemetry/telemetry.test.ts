// Metrics text, access-log lines and traffic labels, letter by letter from ztunnel.md §11.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { SpiffeId } from '#model/identity.ts';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { type AccessRecord, createAccessLog } from './access-log.ts';
import { connectionLabels } from './connection-labels.ts';
import { createLogger } from './log.ts';
import { createRegistry, metricsContentType } from './metrics.ts';

test('counters end in _total, families without series are left out, the end is marked', () => {
  const registry = createRegistry();
  const opened = registry.counter('istio_tcp_connections_opened', 'Connections opened.');
  registry.counter('istio_unused', 'Never counted.');
  registry.gauge('istio_build', 'Build information.').cell({ component: 'ztunnel', tag: '0.1.0' }).value = 1;
  registry.computed('process_open_fds', 'Open file descriptors.', () => 12);
  registry.computed('process_max_fds', 'Not known here.', () => undefined);
  const cell = opened.cell({ reporter: 'source' });
  cell.value++;
  opened.add({ reporter: 'source' }, 2);
  opened.add({ reporter: 'destination' });
  assert.equal(
    registry.expose(),
    `# HELP istio_tcp_connections_opened Connections opened.
# TYPE istio_tcp_connections_opened counter
istio_tcp_connections_opened_total{reporter="source"} 3
istio_tcp_connections_opened_total{reporter="destination"} 1
# HELP istio_build Build information.
# TYPE istio_build gauge
istio_build{component="ztunnel",tag="0.1.0"} 1
# HELP process_open_fds Open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 12
# EOF
`,
  );
});

test('a histogram: sum, count, buckets that include the ones below', () => {
  const registry = createRegistry();
  const name = 'istio_dns_upstream_request_duration_seconds';
  const durations = registry.histogram(name, 'Time.', [0.0005, 0.1, 1]);
  assert.equal(registry.expose(), '# EOF\n');
  for (const seconds of [0.0005, 0.05, 0.25, 2]) durations.observe({ request_protocol: 'udp' }, seconds);
  assert.equal(
    registry.expose(),
    `# HELP ${name} Time.
# TYPE ${name} histogram
# UNIT ${name} seconds
${name}_sum{request_protocol="udp"} 2.3005
${name}_count{request_protocol="udp"} 4
${name}_bucket{le="0.0005",request_protocol="udp"} 1
${name}_bucket{le="0.1",request_protocol="udp"} 2
${name}_bucket{le="1.0",request_protocol="udp"} 3
${name}_bucket{le="+Inf",request_protocol="udp"} 4
# EOF
`,
  );
});

test('label values are escaped, a name is registered once', () => {
  const registry = createRegistry();
  registry.counter('a', 'Help.').add({ l: 'q"b\\n\n' });
  assert.match(registry.expose(), /^a_total\{l="q\\"b\\\\n\\n"\} 1$/m);
  assert.throws(() => registry.gauge('a', 'Again.'), /twice/);
  const family = registry.gauge('b', 'Help.');
  family.cell({ x: '1' }).value = 5;
  family.remove({ x: '1' });
  assert.doesNotMatch(registry.expose(), /^# TYPE b/m);
});

test('no label value can break the exposition', () => {
  fc.assert(
    fc.property(fc.string(), (value) => {
      const registry = createRegistry();
      registry.counter('a', 'Help.').add({ l: value });
      const lines = registry.expose().split('\n');
      assert.equal(lines.length, 5);
      assert.match(lines[2]!, /^a_total\{l="([^"\\]|\\.)*"\} 1$/su);
    }),
  );
});

test('what several registries count adds up to what one would have counted', () => {
  const names = ['c', 'g'] as const;
  const event = fc.record({
    registry: fc.nat(3),
    family: fc.constantFrom(...names),
    label: fc.constantFrom('a', 'b', 'q"'),
    amount: fc.nat(1000),
  });
  const open = () => {
    const registry = createRegistry();
    return { registry, c: registry.counter('c', 'Help.'), g: registry.gauge('g', 'Help.') };
  };
  fc.assert(
    fc.property(fc.array(event), (events) => {
      const [alone, first, ...others] = [open(), open(), open(), open(), open()];
      for (const { registry, family, label, amount } of events) {
        alone[family].add({ label }, amount);
        [first, ...others][registry]![family].add({ label }, amount);
      }
      const together = first.registry.expose(others.map(({ registry }) => registry.snapshot()));
      assert.deepEqual(together.split('\n').toSorted(), alone.registry.expose().split('\n').toSorted());
      assert.ok(together.endsWith('# EOF\n'));
    }),
  );
});

test('the content type follows the Accept header', () => {
  const openMetrics = 'application/openmetrics-text;charset=utf-8;version=1.0.0';
  assert.equal(
    metricsContentType('text/plain, application/openmetrics-text;version=1.0.0;q=0.5'),
    openMetrics,
  );
  assert.equal(metricsContentType('text/plain'), 'text/plain; charset=utf-8');
  assert.equal(metricsContentType(undefined), 'text/plain; charset=utf-8');
});

const at = (address: string, port: number) => ({ ip: ip(address), port: port as Port });
const outbound: AccessRecord = {
  direction: 'outbound',
  source: {
    address: at('10.20.1.7', 41_822),
    workload: { name: 'cart-5f7c-x2x', canonicalName: 'cart', namespace: 'shop', clusterId: 'Kubernetes' },
    identity: 'spiffe://cluster.local/ns/shop/sa/cart' as SpiffeId,
  },
  destination: {
    address: at('10.20.3.9', 15_008),
    workload: { name: 'stock-0', canonicalName: 'stock', namespace: 'shop', clusterId: 'Kubernetes' },
    identity: 'spiffe://cluster.local/ns/shop/sa/stock' as SpiffeId,
  },
  hboneAuthority: '10.20.3.9:8080',
  service: 'stock.shop.svc.cluster.local',
};

function lines(format: 'plain' | 'json', use: (log: ReturnType<typeof createAccessLog>) => void): string[] {
  const written: string[] = [];
  const logger = createLogger('proxy', {
    format,
    level: 'debug',
    write: (line) => written.push(line),
    now: () => new Date('2026-09-01T08:15:30.004Z'),
  });
  use(createAccessLog(logger));
  return written;
}

test('a completed outbound connection', () => {
  const outcome = { clientToServerBytes: 112, serverToClientBytes: 2048, durationMs: 7.9 };
  // The example of ztunnel.md §11.2 (milliseconds are all a Date has).
  const expected =
    '2026-09-01T08:15:30.004000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.20.1.7:41822 src.workload="cart-5f7c-x2x" src.namespace="shop" src.identity="spiffe://cluster.local/ns/shop/sa/cart" src.cluster="Kubernetes" dst.addr=10.20.3.9:15008 dst.hbone_addr=10.20.3.9:8080 dst.service="stock.shop.svc.cluster.local" dst.workload="stock-0" dst.namespace="shop" dst.identity="spiffe://cluster.local/ns/shop/sa/stock" dst.cluster="Kubernetes" direction="outbound" bytes_sent=112 bytes_recv=2048 duration="7ms"\n';
  assert.deepEqual(
    lines('plain', (log) => log.complete(outbound, outcome)),
    [expected],
  );
});

test('a refused inbound connection: bytes the other way round, then our reason and policy', () => {
  const inbound: AccessRecord = {
    direction: 'inbound',
    source: { address: at('fd00::1', 1), workload: undefined, identity: undefined },
    destination: {
      address: at('10.20.3.9', 80),
      workload: { name: '', canonicalName: 'stock', namespace: 'shop', clusterId: '' },
      identity: undefined,
    },
    hboneAuthority: undefined,
    service: undefined,
  };
  const outcome = {
    clientToServerBytes: 5,
    serverToClientBytes: 0,
    durationMs: 0,
    failure: { error: 'explicitly denied by: shop/p', reason: 'POLICY_DENIED', policy: 'shop/p' } as const,
  };
  const expected =
    '2026-09-01T08:15:30.004000Z\terror\taccess\tconnection complete\tsrc.addr=[fd00::1]:1 dst.addr=10.20.3.9:80 dst.workload="stock" dst.namespace="shop" direction="inbound" bytes_sent=0 bytes_recv=5 duration="0ms" error="explicitly denied by: shop/p" reason="POLICY_DENIED" policy="shop/p"\n';
  assert.deepEqual(
    lines('plain', (log) => log.complete(inbound, outcome)),
    [expected],
  );
});

test('opened, and refused early', () => {
  const written = lines('plain', (log) => {
    log.opened({ ...outbound, service: undefined, hboneAuthority: undefined });
    log.failed({
      direction: 'outbound',
      source: at('10.0.0.1', 4000),
      destination: at('10.0.0.2', 80),
      error: 'no workload',
      reason: 'WORKLOAD_UNKNOWN',
    });
  });
  assert.match(written[0]!, /\tdebug\taccess\tconnection opened\tsrc\.addr=.* direction="outbound"\n$/);
  assert.equal(
    written[1],
    '2026-09-01T08:15:30.004000Z\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.1:4000 dst.addr=10.0.0.2:80 direction="outbound" error="no workload" reason="WORKLOAD_UNKNOWN"\n',
  );
});

test('JSON has the same keys in the same order', () => {
  const outcome = { clientToServerBytes: 1, serverToClientBytes: 2, durationMs: 13 };
  const [line] = lines('json', (log) => log.complete({ ...outbound, service: undefined }, outcome));
  assert.equal(
    line,
    '{"level":"info","time":"2026-09-01T08:15:30.004000Z","scope":"access","message":"connection complete","src.addr":"10.20.1.7:41822","src.workload":"cart-5f7c-x2x","src.namespace":"shop","src.identity":"spiffe://cluster.local/ns/shop/sa/cart","src.cluster":"Kubernetes","dst.addr":"10.20.3.9:15008","dst.hbone_addr":"10.20.3.9:8080","dst.workload":"stock-0","dst.namespace":"shop","dst.identity":"spiffe://cluster.local/ns/shop/sa/stock","dst.cluster":"Kubernetes","direction":"outbound","bytes_sent":1,"bytes_recv":2,"duration":"13ms"}\n',
  );
});

test('the traffic labels of a connection, in order', () => {
  const identity = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;
  const labels = connectionLabels(
    {
      reporter: 'source',
      source: workloadOf({
        name: 'web-1',
        workloadName: 'web',
        namespace: 'shop',
        canonicalName: 'web',
        canonicalRevision: 'v1',
      }),
      sourceIdentity: identity,
      destination: undefined,
      destinationIdentity: undefined,
      service: serviceOf({ name: 'cart', namespace: 'shop' }),
      mutualTls: true,
    },
    'DENY',
  );
  assert.deepEqual(Object.entries(labels), [
    ['reporter', 'source'],
    ['source_workload', 'web'],
    ['source_canonical_service', 'web'],
    ['source_canonical_revision', 'v1'],
    ['source_workload_namespace', 'shop'],
    ['source_principal', 'spiffe://cluster.local/ns/shop/sa/web'],
    ['source_app', 'web'],
    ['source_version', 'v1'],
    ['source_cluster', 'Kubernetes'],
    ['destination_service', 'cart.shop.svc.cluster.local'],
    ['destination_service_namespace', 'shop'],
    ['destination_service_name', 'cart'],
    ['destination_workload', 'unknown'],
    ['destination_canonical_service', 'unknown'],
    ['destination_canonical_revision', 'unknown'],
    ['destination_workload_namespace', 'unknown'],
    ['destination_principal', 'unknown'],
    ['destination_app', 'unknown'],
    ['destination_version', 'unknown'],
    ['destination_cluster', 'unknown'],
    ['request_protocol', 'tcp'],
    ['response_flags', 'DENY'],
    ['connection_security_policy', 'mutual_tls'],
  ]);
});

test('localities appear together once any is known; baggage may name the app apart', () => {
  const labels = connectionLabels({
    reporter: 'destination',
    source: { ...workloadOf({ canonicalName: 'svc' }), app: 'deployment-name' },
    sourceIdentity: undefined,
    destination: workloadOf({ locality: { region: '', zone: 'z1', subzone: '' } }),
    destinationIdentity: undefined,
    service: undefined,
    mutualTls: false,
  });
  assert.equal(labels.source_app, 'deployment-name');
  assert.equal(labels.source_canonical_service, 'svc');
  assert.equal(labels.connection_security_policy, 'unknown');
  assert.equal(labels.response_flags, '-');
  assert.deepEqual(Object.entries(labels).slice(-4), [
    ['source_region', 'unknown'],
    ['source_zone', 'unknown'],
    ['destination_region', 'unknown'],
    ['destination_zone', 'z1'],
  ]);
});

test('whatever the fields hold, a plain line is one line and comes apart again', () => {
  const key = fc.stringMatching(/^[a-z][a-z_.]{0,12}$/);
  const value = fc.oneof(fc.string({ unit: 'binary' }), fc.integer());
  fc.assert(
    fc.property(fc.dictionary(key, value), (fields) => {
      let line = '';
      const log = createLogger('access', { format: 'plain', level: 'info', write: (text) => (line += text) });
      log.info('connection complete', fields);
      assert.equal(line.indexOf('\n'), line.length - 1);
      const [time, level, scope, message, rest, ...more] = line.slice(0, -1).split('\t');
      assert.match(time!, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
      assert.deepEqual([level, scope, message, more], ['info', 'access', 'connection complete', []]);
      const parsed = [...rest!.matchAll(/([a-z_.]+)=("(?:[^"\\]|\\.)*"|-?\d+)(?: |$)/g)];
      assert.equal(parsed.map(([text]) => text).join(''), rest);
      assert.deepEqual(
        parsed.map(([, name, text]) => [name, JSON.parse(text!)]),
        Object.entries(fields),
      );
    }),
  );
});

test('a line without fields ends with a tab, as in the field', () => {
  let line = '';
  createLogger('app', {
    format: 'plain',
    level: 'info',
    write: (text) => (line += text),
    now: () => new Date('2026-09-01T08:15:30.004Z'),
  }).info('proxy mode enabled');
  assert.equal(line, '2026-09-01T08:15:30.004000Z\tinfo\tapp\tproxy mode enabled\t\n');
});
