// Settings of the control plane from its environment (control-plane.md §9.2). A value that cannot be read stops the
// program with a sentence that names the variable, the value and what is expected.

import { parseDurationMs } from '#base/duration.ts';
import { MeshError } from '#base/errors.ts';
import { DEFAULT_TRUST_DOMAIN } from '#model/identity.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';
import { familyOf, type IpFamily } from '#net/ip.ts';
import { DEFAULT_NEW_STREAMS_PER_SECOND } from '#xds/admission.ts';
import type { Pools } from './vips/plan.ts';

export interface ControlPlaneOptions {
  /** Where the control plane itself runs. */
  readonly systemNamespace: string;
  /** Of this replica; empty: one is made up. */
  readonly podName: string;
  /** Policies in it hold for the whole mesh. */
  readonly rootNamespace: string;
  readonly clusterId: string;
  readonly revision: string;
  readonly trustDomain: string;
  /** Of service host names: `NAME.NS.svc.SUFFIX`. */
  readonly domainSuffix: string;
  readonly tokenAudiences: readonly string[];
  readonly trustedNodeAccounts: ReadonlySet<string>;
  readonly defaultWorkloadTtlSeconds: number;
  readonly maxWorkloadTtlSeconds: number;
  readonly rootValidDays: number;
  readonly rootCheckMs: number;
  /** Where a plugged-in authority is mounted. */
  readonly pluggedInDir: string;
  /** The root is renewed when less than this share of its life is left. */
  readonly rootRenewBelowShare: number;
  readonly debounceAfterMs: number;
  readonly debounceMaxMs: number;
  readonly xdsIdentityCheck: boolean;
  /** New xDS streams a second. */
  readonly newStreamsPerSecond: number;
  /** Over how long xDS clients are sent elsewhere when the program stops, at most. */
  readonly farewellMs: number;
  /** What tools call this instance: the name of its pod. */
  readonly instance: string;
  readonly dryRunPolicies: boolean;
  readonly onlyByWaypoint: boolean;
  /** Whether ServiceEntries without addresses are given some. */
  readonly allocatedVips: boolean;
  readonly vipPools: Pools;
  /** Whether replicas take turns at writing; without it each writes. */
  readonly leaderElection: boolean;
  /** Whether conditions are written into the statuses of objects. */
  readonly statuses: boolean;
  /** The taint that nodes lose when their CNI agent is ready; undefined: nodes are left alone. */
  readonly untaint: string | undefined;
  /** Debug pages over HTTP at all; CPU and heap profiles among them; pages that change something. */
  readonly debugOverHttp: boolean;
  readonly profiling: boolean;
  readonly unsafeAdminPages: boolean;
  /** Whether debug pages are for the system namespace and these besides; else for whoever has a token. */
  readonly debugByNamespace: boolean;
  readonly debugNamespaces: readonly string[];
  /** Further names in the serving certificate. */
  readonly customHosts: readonly string[];
  readonly listen: {
    readonly host: string;
    readonly xdsPort: number;
    readonly httpPort: number;
    readonly monitoringPort: number;
  };
}

export type Environment = Readonly<Record<string, string | undefined>>;

const DAY_S = 86_400;

export function readOptions(env: Environment): ControlPlaneOptions {
  const systemNamespace = text(env, 'POD_NAMESPACE', 'istio-system');
  const defaultWorkloadTtlSeconds = duration(env, 'DEFAULT_WORKLOAD_CERT_TTL', DAY_S * 1000) / 1000;
  const maxWorkloadTtlSeconds = duration(env, 'MAX_WORKLOAD_CERT_TTL', 90 * DAY_S * 1000) / 1000;
  if (defaultWorkloadTtlSeconds > maxWorkloadTtlSeconds)
    throw new MeshError(
      'CONFIG_INVALID',
      `DEFAULT_WORKLOAD_CERT_TTL (${defaultWorkloadTtlSeconds} s) is longer than MAX_WORKLOAD_CERT_TTL (${maxWorkloadTtlSeconds} s); lower the first or raise the second`,
    );
  return {
    systemNamespace,
    podName: text(env, 'POD_NAME', ''),
    rootNamespace: text(env, 'ROOT_NAMESPACE', systemNamespace),
    clusterId: text(env, 'CLUSTER_ID', 'Kubernetes'),
    revision: text(env, 'REVISION', 'default'),
    trustDomain: text(env, 'TRUST_DOMAIN', DEFAULT_TRUST_DOMAIN),
    domainSuffix: text(env, 'DOMAIN_SUFFIX', 'cluster.local'),
    tokenAudiences: list(env, 'TOKEN_AUDIENCES', ['istio-ca']),
    trustedNodeAccounts: new Set(accounts(env, 'CA_TRUSTED_NODE_ACCOUNTS', [`${systemNamespace}/ztunnel`])),
    defaultWorkloadTtlSeconds,
    maxWorkloadTtlSeconds,
    rootValidDays: Math.ceil(
      duration(env, 'CITADEL_SELF_SIGNED_CA_CERT_TTL', 3650 * DAY_S * 1000) / (DAY_S * 1000),
    ),
    rootCheckMs: duration(env, 'CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL', 3_600_000),
    pluggedInDir: text(env, 'ROOT_CA_DIR', '/etc/cacerts'),
    rootRenewBelowShare: percent(env, 'CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE', 20) / 100,
    debounceAfterMs: duration(env, 'PILOT_DEBOUNCE_AFTER', 100),
    debounceMaxMs: duration(env, 'PILOT_DEBOUNCE_MAX', 10_000),
    xdsIdentityCheck: flag(env, 'PILOT_ENABLE_XDS_IDENTITY_CHECK', true),
    newStreamsPerSecond: count(env, 'PILOT_MAX_REQUESTS_PER_SECOND', DEFAULT_NEW_STREAMS_PER_SECOND),
    farewellMs: duration(env, 'XDS_FAREWELL', 5000),
    instance: text(env, 'POD_NAME', 'istiod'),
    dryRunPolicies: flag(env, 'AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY', false),
    onlyByWaypoint: flag(env, 'PILOT_AUTO_ALLOW_WAYPOINT_POLICY', false),
    allocatedVips: flag(env, 'PILOT_ENABLE_IP_AUTOALLOCATE', true),
    vipPools: {
      v4: pool(env, 'PILOT_IP_AUTOALLOCATE_IPV4_PREFIX', '240.240.0.0/16', 4),
      v6: pool(env, 'PILOT_IP_AUTOALLOCATE_IPV6_PREFIX', '2001:2::/48', 6),
    },
    leaderElection: flag(env, 'ENABLE_LEADER_ELECTION', true),
    statuses: flag(env, 'AMBIENT_ENABLE_STATUS', true),
    untaint: flag(env, 'PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS', false)
      ? text(env, 'PILOT_NODE_UNTAINT_CONTROLLERS_TAINT_NAME', 'cni.istio.io/not-ready')
      : undefined,
    debugOverHttp: flag(env, 'ENABLE_DEBUG_ON_HTTP', true),
    profiling: flag(env, 'ENABLE_PROFILING', true),
    unsafeAdminPages: flag(env, 'UNSAFE_ENABLE_ADMIN_ENDPOINTS', false),
    debugByNamespace: flag(env, 'ENABLE_DEBUG_ENDPOINT_AUTH', true),
    debugNamespaces: list(env, 'DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES', []),
    customHosts: list(env, 'ISTIOD_CUSTOM_HOST', []),
    listen: { host: '::', xdsPort: 15012, httpPort: 8080, monitoringPort: 15014 },
  };
}

function text(env: Environment, name: string, otherwise: string): string {
  const value = env[name]?.trim();
  return value === undefined || value === '' ? otherwise : value;
}

function list(env: Environment, name: string, otherwise: readonly string[]): readonly string[] {
  const values = text(env, name, '')
    .split(',')
    .map((value) => value.trim())
    .filter((value) => value !== '');
  return values.length > 0 ? values : otherwise;
}

function accounts(env: Environment, name: string, otherwise: readonly string[]): readonly string[] {
  const values = list(env, name, otherwise);
  for (const value of values)
    if (!/^[^/\s]+\/[^/\s]+$/.test(value))
      throw invalid(name, value, 'a list of namespace/account, such as istio-system/ztunnel');
  return values;
}

function duration(env: Environment, name: string, otherwiseMs: number): number {
  const value = text(env, name, '');
  if (value === '') return otherwiseMs;
  const parsed = parseDurationMs(value);
  if (parsed === undefined || parsed <= 0) throw invalid(name, value, 'a duration such as 100ms, 24h or 90d');
  return parsed;
}

function count(env: Environment, name: string, otherwise: number): number {
  const value = text(env, name, String(otherwise));
  if (!/^[1-9]\d{0,6}$/.test(value)) throw invalid(name, value, 'a whole number above 0');
  return Number(value);
}

function percent(env: Environment, name: string, otherwise: number): number {
  const value = text(env, name, String(otherwise));
  if (!/^\d{1,3}$/.test(value) || Number(value) > 100) throw invalid(name, value, 'a number from 0 to 100');
  return Number(value);
}

function pool(env: Environment, name: string, otherwise: string, family: IpFamily): Cidr {
  const value = text(env, name, otherwise);
  const cidr = parseCidr(value);
  const width = family === 4 ? 32 : 128;
  if (cidr === undefined || familyOf(cidr.address) !== family || cidr.prefixLength > width - 2)
    throw invalid(name, value, `a range of IPv${family} addresses such as ${otherwise}`);
  return cidr;
}

function flag(env: Environment, name: string, otherwise: boolean): boolean {
  const value = text(env, name, String(otherwise)).toLowerCase();
  if (['true', 't', '1'].includes(value)) return true;
  if (['false', 'f', '0'].includes(value)) return false;
  throw invalid(name, value, 'true or false');
}

const invalid = (name: string, value: string, expected: string): MeshError =>
  new MeshError('CONFIG_INVALID', `${name}=${JSON.stringify(value)} cannot be used; expected ${expected}`);
