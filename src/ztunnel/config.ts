// ztunnel's settings: the environment variables of the field, parsed from a plain object into values with units.
// No I/O here: whether a value is a path or the text itself is decided by credentials.ts when it reads it.

import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { VERSION } from '#base/version.ts';
import { parseHostPort, parsePort } from '#net/host-port.ts';
import { type IpAddress, ip } from '#net/ip.ts';
import type { JsonValue } from '#proto/discovery.ts';
import { type LogFilter, parseLogFilter } from '#telemetry/log-filter.ts';
import type { TlsPolicy } from '#tls/options.ts';
import { type Endpoint, type Environment, invalid, Reader } from './environment.ts';
import type { PodInfo } from './pods.ts';
import { NO_PROXY_CONFIG, type ProxyConfig } from './proxy-config.ts';
import { readThreads } from './threads.ts';

export interface ZtunnelConfig {
  /** Dedicated: one workload, in this process's own network namespace, without a CNI agent. */
  readonly mode: 'shared' | 'dedicated';
  /** The workload of dedicated mode. */
  readonly workload: PodInfo | undefined;
  /** Undefined in dedicated mode only: every workload may then be the local one. */
  readonly nodeName: string | undefined;
  readonly network: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  /** Where the DNS proxy listens in every pod; undefined: there is none. */
  readonly dnsProxy: { readonly ips: readonly IpAddress[]; readonly port: number } | undefined;
  /** Whose service answers for a host name that several namespaces have. */
  readonly preferredServiceNamespace: string | undefined;
  /** Undefined: no xDS (an empty XDS_ADDRESS). */
  readonly xds: Endpoint | undefined;
  /** Addresses are asked for when a connection needs them, not subscribed to as a whole. */
  readonly xdsOnDemand: boolean;
  /** Sent with the xDS stream, and with requests to the authority. Names in lower case. */
  readonly xdsHeaders: Readonly<Record<string, string>>;
  readonly caHeaders: Readonly<Record<string, string>>;
  /** What the control plane is told of this proxy beside its name and node. */
  readonly nodeMetadata: Readonly<Record<string, JsonValue>>;
  /** Workloads, services and policies from a file, or from the text itself. */
  readonly localXds: { readonly path: string } | { readonly text: string } | undefined;
  /** Certificates are made here; with files, by a root that others may have, too. */
  readonly fakeCa: FakeCaConfig | undefined;
  readonly xdsRootCa: string;
  readonly altXdsHostname: string | undefined;
  readonly ca: Endpoint | undefined;
  readonly caRootCa: string;
  readonly altCaHostname: string | undefined;
  readonly authToken: string | undefined;
  readonly secretTtlSeconds: number;
  readonly tls: TlsPolicy;
  /** File of revocation lists; undefined: none are asked. */
  readonly crlPath: string | undefined;
  readonly podName: string;
  readonly podNamespace: string;
  /** With the two above: ztunnel's own workload. */
  readonly serviceAccount: string;
  readonly instanceIp: IpAddress;
  readonly istioVersion: string;
  readonly poolMaxStreams: number;
  readonly poolUnusedMs: number;
  readonly drainMs: number;
  readonly originalSource: 'required' | 'best-effort' | 'never';
  /** Undefined in dedicated mode only, where nothing has to tell our sockets from others. */
  readonly packetMark: number | undefined;
  /** Undefined: no TCP keepalive. */
  readonly keepalive: KeepaliveConfig | undefined;
  /** A SOCKS5 listener on the loopback of every pod. */
  readonly socks5: boolean;
  readonly zdsPath: string;
  /** Where a successor asks for the listeners; undefined: nowhere. */
  readonly handOverPath: string | undefined;
  readonly reusePort: boolean;
  readonly ipv6: boolean;
  readonly responseBaggage: boolean;
  readonly localhostTunnel: boolean;
  /** Threads that serve connections, the owner's own included. */
  readonly threads: number;
  readonly logFilter: LogFilter;
  readonly logFormat: 'plain' | 'json';
  /** ztunnel's own HBONE listener. */
  readonly selfPort: number;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
  /** Policy verdicts are logged at info. */
  readonly policyInfoLogging: boolean;
  /** Settings that are understood and change nothing here; said once at the start. */
  readonly notices: readonly string[];
}

export interface KeepaliveConfig {
  /** Quiet time before the first probe. */
  readonly idleMs: number;
  readonly intervalMs: number;
  readonly probes: number;
  /** TCP_USER_TIMEOUT; undefined leaves it to the kernel. */
  readonly userTimeoutMs: number | undefined;
}

export interface FakeCaConfig {
  /** Both or none. */
  readonly certPath: string | undefined;
  readonly keyPath: string | undefined;
}

export const SERVICE_ACCOUNT_TOKEN_PATH = './var/run/secrets/tokens/istio-token';
const DEFAULT_ZDS_PATH = '/var/run/ztunnel/ztunnel.sock';
const ROOT_CERT_PATH = './var/run/secrets/istio/root-cert.pem';

/** Relative paths are relative to the container's root, whatever the working directory is. */
export function containerPath(path: string): string {
  return resolve('/', path);
}

/**
 * `proxy` stands behind the environment: what the mesh config file and PROXY_CONFIG say (proxy-config.ts).
 * @throws MeshError CONFIG_INVALID naming the variable, its value and the expected form.
 */
export function parseConfig(
  environment: Environment,
  proxy: ProxyConfig = NO_PROXY_CONFIG,
  cores = availableParallelism(),
): ZtunnelConfig {
  const env = withMetadata(environment, proxy);
  const read = new Reader(env);
  refuseWhatIsNotBuilt(read);
  const mode = read.oneOf('PROXY_MODE', ['shared', 'dedicated'] as const, 'shared');
  const defaultControl =
    env.KUBERNETES_SERVICE_HOST === undefined
      ? 'https://localhost:15012'
      : 'https://istiod.istio-system.svc:15012';
  return {
    mode,
    workload: mode === 'dedicated' ? dedicatedWorkload(read) : undefined,
    nodeName:
      mode === 'dedicated'
        ? read.nonEmpty('NODE_NAME')
        : read.required('NODE_NAME', 'the name of the Kubernetes node (fieldRef spec.nodeName)'),
    network: env.NETWORK ?? '',
    clusterId: env.ISTIO_META_CLUSTER_ID ?? env.CLUSTER_ID ?? 'Kubernetes',
    clusterDomain: env.CLUSTER_DOMAIN ?? 'cluster.local',
    dnsProxy: dnsProxy(read),
    // Spelt as in the field.
    preferredServiceNamespace: env.PREFERED_SERVICE_NAMESPACE,
    xds: read.endpoint('XDS_ADDRESS', proxy.discoveryAddress ?? defaultControl),
    xdsOnDemand: xdsOnDemand(read),
    xdsHeaders: headers(read, 'XDS_HEADER_'),
    caHeaders: headers(read, 'CA_HEADER_'),
    nodeMetadata: nodeMetadata(read),
    localXds: localXds(read),
    xdsRootCa: env.XDS_ROOT_CA ?? ROOT_CERT_PATH,
    altXdsHostname: env.ALT_XDS_HOSTNAME,
    fakeCa: fakeCa(read),
    ca: read.endpoint('CA_ADDRESS', defaultControl),
    caRootCa: env.CA_ROOT_CA ?? ROOT_CERT_PATH,
    altCaHostname: env.ALT_CA_HOSTNAME,
    authToken: env.AUTH_TOKEN,
    secretTtlSeconds: Math.round(read.durationMs('SECRET_TTL', 86_400_000) / 1000),
    tls: {
      allowsTls12: read.boolean('TLS12_ENABLED', false),
      requiresPostQuantum: read.oneOf('COMPLIANCE_POLICY', ['', 'pqc'] as const, '') === 'pqc',
    },
    crlPath: env.CRL_PATH ? containerPath(env.CRL_PATH) : undefined,
    podName: env.POD_NAME ?? '',
    podNamespace: env.POD_NAMESPACE ?? '',
    serviceAccount: env.SERVICE_ACCOUNT ?? '',
    instanceIp: read.ip('INSTANCE_IP', '1.1.1.1'),
    istioVersion: env.ISTIO_META_ISTIO_VERSION ?? VERSION,
    poolMaxStreams: read.integer('POOL_MAX_STREAMS_PER_CONNECTION', 100, 1, 65_535),
    poolUnusedMs: read.durationMs('POOL_UNUSED_RELEASE_TIMEOUT', 300_000),
    drainMs: drainMs(read),
    originalSource: originalSource(read),
    packetMark: packetMark(read, mode),
    keepalive: keepalive(read),
    socks5: read.boolean('UNSTABLE_ENABLE_SOCKS5', false),
    zdsPath: env.INPOD_UDS ?? DEFAULT_ZDS_PATH,
    handOverPath: handOverPath(env),
    reusePort: read.boolean('INPOD_PORT_REUSE', true),
    ipv6: read.boolean('IPV6_ENABLED', true),
    responseBaggage: read.boolean('ENABLE_RESPONSE_BAGGAGE', true),
    localhostTunnel: read.boolean('LOCALHOST_APP_TUNNEL', true),
    threads: readThreads(read, proxy.concurrency, cores),
    logFilter: logFilter(read),
    logFormat: read.oneOf('LOG_FORMAT', ['plain', 'json'] as const, 'plain'),
    selfPort: 15_008,
    policyInfoLogging: read.text('AUTHZ_POLICY_INFO_LOGGING') === 'true',
    adminPort: proxy.proxyAdminPort ?? 15_000,
    statsPort: proxy.statsPort ?? 15_020,
    readinessPort: 15_021,
    notices: windows(read),
  };
}

/** Metadata is spoken of by the name it has as a variable, wherever it was written; the environment wins. */
function withMetadata(env: Environment, { proxyMetadata }: ProxyConfig): Environment {
  const names = Object.entries(proxyMetadata).map(([key, value]) => [`ISTIO_META_${key}`, value]);
  return names.length === 0 ? env : { ...Object.fromEntries(names), ...env };
}

function refuseWhatIsNotBuilt(read: Reader): void {
  read.only('ENABLE_PROXY', 'true', 'a ztunnel that only answers DNS is not built');
}

function dedicatedWorkload(read: Reader): PodInfo {
  const name = 'PROXY_WORKLOAD_INFO';
  const form =
    '"NAMESPACE/NAME/SERVICE-ACCOUNT" of the workload this proxy stands for (PROXY_MODE=dedicated)';
  const value = read.required(name, form);
  const parts = value.split('/');
  const [namespace, workload, serviceAccount] = parts;
  if (parts.length !== 3 || !namespace || !workload || !serviceAccount) throw invalid(name, value, form);
  return { namespace, name: workload, serviceAccount };
}

/** A name that DNS asks for would have to be known before it is asked for (ztunnel.md §1.4). */
function xdsOnDemand(read: Reader): boolean {
  const isDnsOn = (read.text('ISTIO_META_DNS_CAPTURE') ?? 'true').toLowerCase() === 'true';
  if (!read.boolean('XDS_ON_DEMAND', false)) return false;
  if (isDnsOn)
    throw invalid('XDS_ON_DEMAND', 'true', '"false" while the DNS proxy is on (ISTIO_META_DNS_CAPTURE)');
  return true;
}

/** RFC 9110 §5.1, §5.5; gRPC's own names are not for others to set. */
function headers(read: Reader, prefix: string): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [key, value] of read.withPrefix(prefix)) {
    const name = key.toLowerCase();
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name) || /^(grpc-.*|te|content-type|authorization)$/.test(name))
      throw invalid(`${prefix}${key}`, value, 'a name that a gRPC request may carry behind the prefix');
    if (!/^[\x20-\x7e]*$/.test(value)) throw invalid(`${prefix}${key}`, value, 'visible ASCII characters');
    found[name] = value;
  }
  return found;
}

/** ztunnel.md §3.2. The field skips JSON it cannot read; here it stops the start like any other wrong value. */
function nodeMetadata(read: Reader): ZtunnelConfig['nodeMetadata'] {
  const metadata: Record<string, JsonValue> = Object.fromEntries(read.withPrefix('ISTIO_META_'));
  for (const [key, text] of read.withPrefix('ISTIO_METAJSON_')) {
    try {
      metadata[key] = JSON.parse(text) as JsonValue;
    } catch {
      throw invalid(`ISTIO_METAJSON_${key}`, text, 'JSON');
    }
  }
  return metadata;
}

function localXds(read: Reader): ZtunnelConfig['localXds'] {
  const path = read.nonEmpty('LOCAL_XDS_PATH');
  const text = read.nonEmpty('LOCAL_XDS');
  if (path !== undefined && text !== undefined)
    throw invalid('LOCAL_XDS_PATH', path, 'it alone, or LOCAL_XDS alone');
  if (path !== undefined) return { path };
  return text === undefined ? undefined : { text };
}

function fakeCa(read: Reader): FakeCaConfig | undefined {
  const certPath = read.nonEmpty('FAKE_CA_CERT');
  const keyPath = read.nonEmpty('FAKE_CA_KEY');
  if ((certPath === undefined) !== (keyPath === undefined)) {
    const [name, missing] =
      certPath === undefined ? ['FAKE_CA_KEY', 'FAKE_CA_CERT'] : ['FAKE_CA_CERT', 'FAKE_CA_KEY'];
    throw invalid(
      name,
      certPath ?? keyPath ?? '',
      `${missing} beside it: a root is a certificate and its key`,
    );
  }
  if (read.boolean('FAKE_CA', false)) return { certPath, keyPath };
  if (certPath !== undefined) throw invalid('FAKE_CA_CERT', certPath, 'FAKE_CA=true beside it');
  return undefined;
}

function packetMark(read: Reader, mode: ZtunnelConfig['mode']): number | undefined {
  if (mode === 'dedicated' && read.text('PACKET_MARK') === undefined) return undefined;
  return read.integer('PACKET_MARK', 1337, 1, 0xffff_ffff);
}

function keepalive(read: Reader): KeepaliveConfig | undefined {
  const isOn = read.boolean('KEEPALIVE_ENABLED', true);
  const idleMs = read.durationMs('KEEPALIVE_TIME', 180_000);
  const intervalMs = read.durationMs('KEEPALIVE_INTERVAL', 180_000);
  const probes = read.integer('KEEPALIVE_RETRIES', 9, 1, 127);
  const userTimeoutMs = read.boolean('USER_TIMEOUT_ENABLED', false)
    ? idleMs + probes * intervalMs
    : undefined;
  return isOn ? { idleMs, intervalMs, probes, userTimeoutMs } : undefined;
}

/** Windows follow the memory budget (hbone/http2/receive-budget.ts), so these are read and change nothing. */
function windows(read: Reader): string[] {
  const most = 0x7fff_ffff;
  const sizes = [
    ['HTTP2_STREAM_WINDOW_SIZE', 4_194_304, 1, most],
    ['HTTP2_CONNECTION_WINDOW_SIZE', 16_777_216, 1, most],
    ['HTTP2_FRAME_SIZE', 1_048_576, 16_384, 16_777_215],
  ] as const;
  return sizes.flatMap(([name, usual, least, greatest]) =>
    read.integer(name, usual, least, greatest) === usual
      ? []
      : [`${name} has no effect: windows and frames follow the memory that is free`],
  );
}

/** Leaves the pod some of its own grace period to end (ztunnel.md §1.4, CONNECTION_TERMINATION_DEADLINE). */
function drainMs(read: Reader): number {
  const explicit = read.optionalDurationMs('CONNECTION_TERMINATION_DEADLINE');
  if (explicit !== undefined) return explicit;
  const grace = read.text('TERMINATION_GRACE_PERIOD_SECONDS');
  if (grace === undefined) return 5_000;
  const seconds = read.durationMs('TERMINATION_GRACE_PERIOD_SECONDS', 0) / 1000;
  return Math.max(1, seconds > 10 ? seconds - 5 : seconds - 1) * 1000;
}

/** On unless it is switched off (ztunnel.md §1.5); the address is read in either case, so a wrong one never hides. */
function dnsProxy(read: Reader): ZtunnelConfig['dnsProxy'] {
  const name = 'ISTIO_META_DNS_PROXY_ADDR';
  const address = read.text(name) ?? 'localhost:15053';
  const localPort = /^localhost:(.*)$/.exec(address)?.[1];
  const port = localPort === undefined ? undefined : parsePort(localPort);
  const listen = localPort === undefined ? parseHostPort(address) : undefined;
  const v6 = read.boolean('IPV6_ENABLED', true) ? [ip('::1')] : [];
  if (port === undefined && listen?.kind !== 'ip')
    throw invalid(name, address, '"localhost:PORT" or "ADDRESS:PORT"');
  if ((read.text('ISTIO_META_DNS_CAPTURE') ?? 'true').toLowerCase() !== 'true') return undefined;
  return listen?.kind === 'ip'
    ? { ips: [listen.ip], port: listen.port }
    : { ips: [ip('127.0.0.1'), ...v6], port: port ?? 0 };
}

/** Beside the agent's socket: a directory that an old and a new ztunnel of one node have in common. Empty: none. */
function handOverPath(env: Environment): string | undefined {
  // A dedicated proxy has no pods to hand on, and must not take those of its node.
  if (env.PROXY_MODE === 'dedicated') return undefined;
  const path =
    env.CULVERT_HAND_OVER_UDS ?? join(dirname(env.INPOD_UDS ?? DEFAULT_ZDS_PATH), 'culvert-hand-over.sock');
  return path === '' ? undefined : path;
}

function originalSource(read: Reader): ZtunnelConfig['originalSource'] {
  const wanted = read.optionalBoolean('ENABLE_ORIG_SRC');
  return wanted === undefined ? 'best-effort' : wanted ? 'required' : 'never';
}

const DEFAULT_LOG: LogFilter = { level: 'info', scopes: new Map() };

function logFilter(read: Reader): LogFilter {
  const value = read.text('RUST_LOG');
  if (value === undefined || value === '') return DEFAULT_LOG;
  const filter = parseLogFilter(value, DEFAULT_LOG);
  if (filter !== undefined) return filter;
  throw invalid('RUST_LOG', value, 'levels such as "debug", "info" or "off", or "access=debug,info"');
}
