import assert from 'node:assert/strict';
import { test } from 'node:test';
import { workloadOf } from '#model/samples.ts';
import { createZtunnelMetrics } from './metrics.ts';

test('queries are counted by type, protocol and the asking workload, letter by letter as in the field', () => {
  const { dns, exposition } = createZtunnelMetrics({ istioVersion: '1.30.0' });
  const client = workloadOf({ canonicalName: 'cart', canonicalRevision: 'v1' });
  dns.requested({ type: 'a', protocol: 'udp', client });
  dns.requested({ type: 'aaaa', protocol: 'tcp', client: undefined });
  dns.forwarded({ type: 'a', protocol: 'udp', client });
  dns.forwardEnded({ type: 'a', protocol: 'udp', client }, 0.75, true);
  dns.forwardEnded({ type: 'a', protocol: 'udp', client }, 250, false);
  const lines = exposition({ accept: '' })
    .body.split('\n')
    .filter((line) => line.startsWith('istio_dns'));
  const labels =
    'request_query_type="a",request_protocol="udp",source_canonical_service="cart",source_canonical_revision="v1"';
  const duration = 'istio_dns_upstream_request_duration_seconds';
  assert.deepEqual(lines, [
    `istio_dns_requests_total{${labels}} 1`,
    'istio_dns_requests_total{request_query_type="aaaa",request_protocol="tcp",source_canonical_service="unknown",source_canonical_revision="unknown"} 1',
    `istio_dns_upstream_requests_total{${labels}} 1`,
    `istio_dns_upstream_failures_total{${labels}} 1`,
    `${duration}_sum{${labels}} 0.25075`,
    `${duration}_count{${labels}} 2`,
    ...['0.0005', '0.001', '0.01', '0.1', '1.0', '5.0', '+Inf'].map(
      (bound, index) => `${duration}_bucket{le="${bound}",${labels}} ${[0, 1, 1, 1, 2, 2, 2][index]}`,
    ),
  ]);
});
