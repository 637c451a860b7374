// ztunnel's settings: the environment variables of the field, parsed from a plain object into values with units.
// No I/O here: whether a value is a path or the text itself is decided by credentials.ts when it reads it.

import { resolve } from 'node:path';
import { parseDurationMs } from '#base/duration.ts';
import { MeshError } from '#base/errors.ts';
import { VERSION } from '#base/version.ts';
import { parseHostPort, parsePort } from '#net/host-port.ts';
import { type IpAddress, ip, parseIp } from '#net/ip.ts';
import type { LogLevel } from '#telemetry/log.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a control-plane service is found; always over TLS. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface ZtunnelConfig {
  readonly nodeName: string;
  readonly network: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  /** Where the DNS proxy listens in every pod; undefined: there is none. */
  readonly dnsProxy: { readonly ips: readonly IpAddress[]; readonly port: number } | undefined;
  /** Whose service answers for a host name that several namespaces have. */
  readonly preferredServiceNamespace: string | undefined;
  /** Undefined: no xDS (an empty XDS_ADDRESS). */
  readonly xds: Endpoint | undefined;
  readonly xdsRootCa: string;
  readonly altXdsHostname: string | undefined;
  readonly ca: Endpoint | undefined;
  readonly caRootCa: string;
  readonly altCaHostname: string | undefined;
  readonly authToken: string | undefined;
  readonly secretTtlSeconds: number;
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
  readonly packetMark: number;
  readonly keepaliveMs: number | undefined;
  readonly zdsPath: string;
  readonly reusePort: boolean;
  readonly ipv6: boolean;
  readonly responseBaggage: boolean;
  readonly localhostTunnel: boolean;
  readonly logLevel: LogLevel;
  readonly logFormat: 'plain' | 'json';
  /** ztunnel's own HBONE listener. */
  readonly selfPort: number;
  readonly adminPort: number;
  readonly statsPort: number;
  readonly readinessPort: number;
}

export const SERVICE_ACCOUNT_TOKEN_PATH = './var/run/secrets/tokens/istio-token';
const ROOT_CERT_PATH = './var/run/secrets/istio/root-cert.pem';

/** Relative paths are relative to the container's root, whatever the working directory is. */
export function containerPath(path: string): string {
  return resolve('/', path);
}

/** @throws MeshError CONFIG_INVALID naming the variable, its value and the expected form. */
export function parseConfig(env: Environment): ZtunnelConfig {
  const read = new Reader(env);
  read.oneOf('PROXY_MODE', ['shared'] as const, 'shared');
  const defaultControl =
    env.KUBERNETES_SERVICE_HOST === undefined
      ? 'https://localhost:15012'
      : 'https://istiod.istio-system.svc:15012';
  return {
    nodeName: read.required('NODE_NAME', 'the name of the Kubernetes node (fieldRef spec.nodeName)'),
    network: env.NETWORK ?? '',
    clusterId: env.ISTIO_META_CLUSTER_ID ?? env.CLUSTER_ID ?? 'Kubernetes',
    clusterDomain: env.CLUSTER_DOMAIN ?? 'cluster.local',
    dnsProxy: dnsProxy(read),
    // Spelt as in the field.
    preferredServiceNamespace: env.PREFERED_SERVICE_NAMESPACE,
    xds: read.endpoint('XDS_ADDRESS', defaultControl),
    xdsRootCa: env.XDS_ROOT_CA ?? ROOT_CERT_PATH,
    altXdsHostname: env.ALT_XDS_HOSTNAME,
    ca: read.endpoint('CA_ADDRESS', defaultControl),
    caRootCa: env.CA_ROOT_CA ?? ROOT_CERT_PATH,
    altCaHostname: env.ALT_CA_HOSTNAME,
    authToken: env.AUTH_TOKEN,
    secretTtlSeconds: Math.round(read.durationMs('SECRET_TTL', 86_400_000) / 1000),
    podName: env.POD_NAME ?? '',
    podNamespace: env.POD_NAMESPACE ?? '',
    serviceAccount: env.SERVICE_ACCOUNT ?? '',
    instanceIp: read.ip('INSTANCE_IP', '1.1.1.1'),
    istioVersion: env.ISTIO_META_ISTIO_VERSION ?? VERSION,
    poolMaxStreams: read.integer('POOL_MAX_STREAMS_PER_CONNECTION', 100, 1, 65_535),
    poolUnusedMs: read.durationMs('POOL_UNUSED_RELEASE_TIMEOUT', 300_000),
    drainMs: drainMs(read),
    originalSource: originalSource(read),
    packetMark: read.integer('PACKET_MARK', 1337, 1, 0xffff_ffff),
    keepaliveMs: read.boolean('KEEPALIVE_ENABLED', true)
      ? read.durationMs('KEEPALIVE_TIME', 180_000)
      : undefined,
    zdsPath: env.INPOD_UDS ?? '/var/run/ztunnel/ztunnel.sock',
    reusePort: read.boolean('INPOD_PORT_REUSE', true),
    ipv6: read.boolean('IPV6_ENABLED', true),
    responseBaggage: read.boolean('ENABLE_RESPONSE_BAGGAGE', true),
    localhostTunnel: read.boolean('LOCALHOST_APP_TUNNEL', true),
    logLevel: logLevel(read),
    logFormat: read.oneOf('LOG_FORMAT', ['plain', 'json'] as const, 'plain'),
    selfPort: 15_008,
    adminPort: 15_000,
    statsPort: 15_020,
    readinessPort: 15_021,
  };
}

class Reader {
  readonly #env: Environment;
  constructor(env: Environment) {
    this.#env = env;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.#env[name];
    if (value === undefined) return fallback;
    if (value === 'true') return true;
    if (value === 'false') return false;
    throw invalid(name, value, 'exactly "true" or "false"');
  }

  optionalBoolean(name: string): boolean | undefined {
    return this.#env[name] === undefined ? undefined : this.boolean(name, false);
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.#env[name];
    if (value === undefined) return fallback;
    const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    throw invalid(name, value, `a whole number from ${least} to ${most}`);
  }

  durationMs(name: string, fallbackMs: number): number {
    const value = this.#env[name];
    if (value === undefined) return fallbackMs;
    const parsed = parseDurationMs(value);
    if (parsed !== undefined) return parsed;
    throw invalid(name, value, 'a duration such as "5s", "1m30s" or "500ms"');
  }

  optionalDurationMs(name: string): number | undefined {
    return this.#env[name] === undefined ? undefined : this.durationMs(name, 0);
  }

  oneOf<const T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.#env[name];
    if (value === undefined) return fallback;
    const known = allowed.find((one) => one === value);
    if (known !== undefined) return known;
    throw invalid(name, value, allowed.map((one) => `"${one}"`).join(' or '));
  }

  ip(name: string, fallback: string): IpAddress {
    // A pod's address may be empty in the downward API when its status is not written yet.
    const value = this.#env[name] || fallback;
    const parsed = parseIp(value);
    if (parsed !== undefined) return parsed;
    throw invalid(name, value, 'an IP address');
  }

  required(name: string, what: string): string {
    const value = this.#env[name];
    if (value !== undefined && value !== '') return value;
    throw new MeshError('CONFIG_INVALID', `${name} is not set: expected ${what}`, {
      details: { variable: name },
    });
  }

  text(name: string): string | undefined {
    return this.#env[name];
  }

  /** An empty value switches the service off; a value without a scheme is https, the only one supported. */
  endpoint(name: string, fallback: string): Endpoint | undefined {
    const value = this.#env[name] ?? fallback;
    if (value === '') return undefined;
    const expected = 'a URL such as "https://istiod.istio-system.svc:15012"';
    const url = URL.parse(value.includes('://') ? value : `https://${value}`);
    if (url === null || url.protocol !== 'https:' || url.hostname === '')
      throw invalid(name, value, expected);
    const port = url.port === '' ? 443 : Number(url.port);
    return { host: url.hostname.replace(/^\[|\]$/g, ''), port };
  }
}

function invalid(name: string, value: string, expected: string): MeshError {
  return new MeshError(
    'CONFIG_INVALID',
    `${name}=${JSON.stringify(value)} is not valid: expected ${expected}`,
    {
      details: { variable: name },
    },
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

function originalSource(read: Reader): ZtunnelConfig['originalSource'] {
  const wanted = read.optionalBoolean('ENABLE_ORIG_SRC');
  return wanted === undefined ? 'best-effort' : wanted ? 'required' : 'never';
}

/** The level of `RUST_LOG`'s first directive without a scope; per-scope directives are not supported yet. */
function logLevel(read: Reader): LogLevel {
  const value = read.text('RUST_LOG');
  if (value === undefined || value === '') return 'info';
  const level = parseLogLevel(value);
  if (level === undefined) throw invalid('RUST_LOG', value, '"debug", "info", "warn" or "error"');
  return level;
}

/** `trace` counts as debug; `off` is not offered: refusals are always said. */
export function parseLogLevel(text: string): LogLevel | undefined {
  const first = text
    .split(',')
    .map((directive) => directive.trim())
    .find((directive) => !directive.includes('='));
  switch (first) {
    case 'trace':
    case 'debug':
      return 'debug';
    case 'info':
    case 'warn':
    case 'error':
      return first;
    default:
      return undefined;
  }
}
