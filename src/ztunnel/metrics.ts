// Every metric family of ztunnel, with the field's names and help (ztunnel.md §11.1), and their exposition.
// What is counted when is the callers' matter.

import { readdirSync, readFileSync } from 'node:fs';
import type { DnsCounters, QueryLabels } from '#dns/observe.ts';
import { formatSpiffeId } from '#model/identity.ts';
import type { Workload } from '#model/workload.ts';
import { sourceLabels } from '#telemetry/connection-labels.ts';
import {
  createRegistry,
  type Labels,
  type MetricsSnapshot,
  metricsContentType,
  type Registry,
} from '#telemetry/metrics.ts';
import type { XdsClientDeps } from '#xds/client.ts';
import type { HttpAnswer, HttpRequest } from './http.ts';
import type { TrafficFamilies } from './series.ts';

/** What every thread that serves connections counts for itself. */
export interface ConnectionMetrics {
  readonly traffic: TrafficFamilies;
  readonly socket: (reporter: 'source' | 'destination', change: 1 | -1) => void;
  /** A connection needed the addresses of a host name. */
  readonly lookup: (source: Workload, hostname: string) => void;
  /** A connection was not taken, for want of descriptors. */
  readonly refused: () => void;
}

export interface ZtunnelMetrics extends ConnectionMetrics {
  readonly xds: NonNullable<XdsClientDeps['observe']>;
  readonly proxy: (change: 'started' | 'stopped') => void;
  readonly pending: (count: number) => void;
  readonly dns: DnsCounters;
  /** `others`: what other threads have counted. */
  readonly exposition: (
    request: Pick<HttpRequest, 'accept'>,
    others?: readonly MetricsSnapshot[],
  ) => HttpAnswer & { readonly body: string };
}

export function createConnectionMetrics(registry: Registry): ConnectionMetrics {
  const traffic: TrafficFamilies = {
    opened: registry.counter('istio_tcp_connections_opened', 'The total number of TCP connections opened.'),
    closed: registry.counter('istio_tcp_connections_closed', 'The total number of TCP connections closed.'),
    received: registry.counter(
      'istio_tcp_received_bytes',
      'The size of total bytes received during request in case of a TCP connection.',
    ),
    sent: registry.counter(
      'istio_tcp_sent_bytes',
      'The size of total bytes sent during response in case of a TCP connection.',
    ),
    failed: registry.counter(
      'istio_tcp_connections_failed',
      'The total number of TCP connections that failed to establish (unstable).',
    ),
  };
  const sockets = registry.gauge(
    'istio_tcp_sockets_open',
    'The current number of open TCP sockets (unstable).',
  );
  const lookups = registry.counter(
    'istio_on_demand_dns',
    'The total number of requests that used on-demand DNS (unstable).',
  );
  const refused = registry
    .counter(
      'culvert_connections_refused',
      'The total number of connections that were not taken because descriptors were used up.',
    )
    .cell();
  return {
    traffic,
    socket: (reporter, change) => sockets.add({ reporter }, change),
    refused: () => {
      refused.value += 1;
    },
    lookup: (source, hostname) => lookups.add({ ...sourceLabels(source, formatSpiffeId(source)), hostname }),
  };
}

export function createZtunnelMetrics(options: { readonly istioVersion: string }): ZtunnelMetrics {
  const registry = createRegistry();
  registry
    .gauge('istio_build', 'Istio component build info.')
    .add({ component: 'ztunnel', tag: options.istioVersion });
  const connections = createConnectionMetrics(registry);
  const terminations = registry.counter(
    'istio_xds_connection_terminations',
    'The total number of completed connections to xds server (unstable).',
  );
  const messages = registry.counter('istio_xds_message', 'Total number of messages received (unstable).');
  const messageBytes = registry.counter(
    'istio_xds_message_bytes',
    'Total number of bytes received (unstable).',
  );
  const active = registry
    .gauge(
      'workload_manager_active_proxy_count',
      'The total number current workloads with active proxies (unstable).',
    )
    .cell();
  const pending = registry
    .gauge(
      'workload_manager_pending_proxy_count',
      'The total number current workloads with pending proxies (unstable).',
    )
    .cell();
  const started = registry
    .counter('workload_manager_proxies_started', 'The total number of proxies that were started (unstable).')
    .cell();
  const stopped = registry
    .counter('workload_manager_proxies_stopped', 'The total number of proxies that were stopped (unstable).')
    .cell();
  const dns = dnsCounters(registry);
  registry.computed('process_open_fds', 'Number of open file descriptors', openFds);
  registry.computed('process_max_fds', 'Maximum number of file descriptors', maxFds);
  return {
    ...connections,
    xds: {
      terminated: (reason) => terminations.add({ reason }),
      message: (url, bytes) => {
        messages.add({ url });
        messageBytes.add({ url }, bytes);
      },
    },
    proxy: (change) => {
      active.value += change === 'started' ? 1 : -1;
      (change === 'started' ? started : stopped).value += 1;
    },
    pending: (count) => {
      pending.value = count;
    },
    dns,
    exposition: ({ accept }, others) => ({
      contentType: metricsContentType(accept),
      body: registry.expose(others),
      compressible: true,
    }),
  };
}

/** The last bucket is the time after which most askers have given up. */
const DNS_BUCKETS_S = [0.0005, 0.001, 0.01, 0.1, 1, 5];

function dnsCounters(registry: Registry): DnsCounters {
  const requests = registry.counter('istio_dns_requests', 'Total number of DNS requests (unstable).');
  const forwarded = registry.counter(
    'istio_dns_upstream_requests',
    'Total number of DNS requests forwarded to upstream (unstable).',
  );
  const failures = registry.counter(
    'istio_dns_upstream_failures',
    'Total number of DNS requests that failed to forward upstream (unstable).',
  );
  const durations = registry.histogram(
    'istio_dns_upstream_request_duration_seconds',
    'Total time in seconds Istio takes to get DNS response from upstream (unstable).',
    DNS_BUCKETS_S,
  );
  return {
    requested: (labels) => requests.add(dnsLabels(labels)),
    forwarded: (labels) => forwarded.add(dnsLabels(labels)),
    forwardEnded: (labels, durationMs, isFailed) => {
      durations.observe(dnsLabels(labels), durationMs / 1000);
      if (isFailed) failures.add(dnsLabels(labels));
    },
  };
}

function dnsLabels({ type, protocol, client }: QueryLabels): Labels {
  return {
    request_query_type: type,
    request_protocol: protocol,
    source_canonical_service: client?.canonicalName || 'unknown',
    source_canonical_revision: client?.canonicalRevision || 'unknown',
  };
}

/** Undefined where there is no /proc. */
function openFds(): number | undefined {
  try {
    // The directory itself is open while it is read.
    return readdirSync('/proc/self/fd').length - 1;
  } catch {
    return undefined;
  }
}

function maxFds(): number | undefined {
  try {
    const found = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return found === null ? undefined : Number(found[1]);
  } catch {
    return undefined;
  }
}
