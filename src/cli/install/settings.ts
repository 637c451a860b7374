// What `--set` may say. Every key is known by name: a misspelt one is refused with a suggestion, one that Istio has and
// Culvert has not is refused with the reason, because a setting that is taken and does nothing is worse than none.

import { MeshError } from '#base/errors.ts';
import { didYouMean } from '../suggest.ts';

export type Program = 'istiod' | 'istio-cni' | 'ztunnel';

export interface InstallSettings {
  readonly profile: Profile;
  /** A container image that holds Culvert; undefined: programs of this machine (`local/NAME`, the embedded cluster). */
  readonly image: string | undefined;
  readonly env: Readonly<Record<Program, ReadonlyMap<string, string>>>;
  readonly drainSeconds: number | undefined;
  readonly cniBinDir: string | undefined;
  readonly cniConfDir: string | undefined;
}

export const PROFILES = ['ambient', 'minimal'] as const;
export type Profile = (typeof PROFILES)[number];

interface Draft {
  profile: Profile;
  hub?: string;
  tag?: string;
  env: Record<Program, Map<string, string>>;
  drainSeconds?: number;
  cniBinDir?: string;
  cniConfDir?: string;
}

/** Environment variables that may be given by `values.COMPONENT.env.NAME` (docs/CONFIG.md, docs/CNI.md). */
export const SETTABLE_ENV: Readonly<Record<'pilot' | 'cni' | 'ztunnel', readonly string[]>> = {
  pilot: [
    'DEFAULT_WORKLOAD_CERT_TTL',
    'MAX_WORKLOAD_CERT_TTL',
    'CITADEL_SELF_SIGNED_CA_CERT_TTL',
    'PILOT_DEBOUNCE_AFTER',
    'PILOT_DEBOUNCE_MAX',
    'PILOT_ENABLE_XDS_IDENTITY_CHECK',
    'AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY',
    'PILOT_AUTO_ALLOW_WAYPOINT_POLICY',
    'AMBIENT_ENABLE_STATUS',
    'ENABLE_LEADER_ELECTION',
    'PILOT_ENABLE_IP_AUTOALLOCATE',
    'PILOT_IP_AUTOALLOCATE_IPV4_PREFIX',
    'PILOT_IP_AUTOALLOCATE_IPV6_PREFIX',
    'ISTIOD_CUSTOM_HOST',
    'LOG_LEVEL',
    'LOG_FORMAT',
  ],
  cni: ['AMBIENT_IPV6', 'AMBIENT_DNS_CAPTURE', 'EXCLUDE_NAMESPACES', 'LOG_LEVEL', 'LOG_FORMAT'],
  ztunnel: [
    'SECRET_TTL',
    'ENABLE_ORIG_SRC',
    'KEEPALIVE_ENABLED',
    'KEEPALIVE_TIME',
    'POOL_MAX_STREAMS_PER_CONNECTION',
    'POOL_UNUSED_RELEASE_TIMEOUT',
    'CONNECTION_TERMINATION_DEADLINE',
    'IPV6_ENABLED',
    'CLUSTER_DOMAIN',
    'ISTIO_META_DNS_CAPTURE',
    'PREFERED_SERVICE_NAMESPACE',
    'RUST_LOG',
    'LOG_FORMAT',
  ],
};
const PROGRAM_OF = { pilot: 'istiod', cni: 'istio-cni', ztunnel: 'ztunnel' } as const;

type Setter = (draft: Draft, value: string, key: string) => void;

const LEVELS = ['debug', 'info', 'warn', 'error'];
const setEnv =
  (targets: readonly (readonly [Program, string])[], check: (value: string) => string | undefined): Setter =>
  (draft, value, key) => {
    const problem = check(value);
    if (problem !== undefined) throw invalid(`--set ${key}=${value}: ${problem}`);
    for (const [program, name] of targets) draft.env[program].set(name, value);
  };
const oneOf =
  (...allowed: readonly string[]) =>
  (value: string): string | undefined =>
    allowed.includes(value) ? undefined : `expected ${allowed.join(', ')}`;
const aName = (value: string): string | undefined =>
  /^[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$/.test(value) ? undefined : 'this is no valid name';
const absolute = (value: string, key: string): string => {
  if (!value.startsWith('/')) throw invalid(`--set ${key}=${value}: expected an absolute path`);
  return value;
};

const profile: Setter = (draft, value) => {
  const known = PROFILES.find((name) => name === value);
  if (known === undefined)
    throw invalid(
      `profile ${JSON.stringify(value)} is not available: ambient (control plane, CNI agent, node proxies) or minimal (control plane only)${didYouMean(value, PROFILES)}`,
    );
  draft.profile = known;
};
const level: Setter = setEnv(
  [
    ['istiod', 'LOG_LEVEL'],
    ['istio-cni', 'LOG_LEVEL'],
    ['ztunnel', 'RUST_LOG'],
  ],
  oneOf(...LEVELS),
);

/** By the short key; `values.` before it is accepted for all but `profile`. */
const KEYS: Readonly<Record<string, { readonly help: string; readonly set: Setter }>> = {
  profile: { help: 'ambient (default) or minimal', set: profile },
  hub: {
    help: 'registry of the image HUB/culvert:TAG (not in the embedded cluster)',
    set: (d, v) => {
      d.hub = v;
    },
  },
  tag: {
    help: 'its tag',
    set: (d, v) => {
      d.tag = v;
    },
  },
  'meshConfig.trustDomain': {
    help: 'trust domain of every identity (cluster.local)',
    set: setEnv([['istiod', 'TRUST_DOMAIN']], aName),
  },
  'global.multiCluster.clusterName': {
    help: 'name of the cluster (Kubernetes)',
    set: setEnv(
      [
        ['istiod', 'CLUSTER_ID'],
        ['ztunnel', 'CLUSTER_ID'],
      ],
      aName,
    ),
  },
  'global.logging.level': { help: `log level of every program: ${LEVELS.join(', ')}`, set: level },
  'global.logAsJson': {
    help: 'logs as JSON: true or false',
    set: (draft, value, key) => {
      const problem = oneOf('true', 'false')(value);
      if (problem !== undefined) throw invalid(`--set ${key}=${value}: ${problem}`);
      for (const program of ['istiod', 'istio-cni', 'ztunnel'] as const)
        draft.env[program].set('LOG_FORMAT', value === 'true' ? 'json' : 'plain');
    },
  },
  'ztunnel.logLevel': {
    help: 'log level of the node proxies',
    set: setEnv([['ztunnel', 'RUST_LOG']], oneOf(...LEVELS)),
  },
  'cni.logging.level': {
    help: 'log level of the CNI agents',
    set: setEnv([['istio-cni', 'LOG_LEVEL']], oneOf(...LEVELS)),
  },
  'ztunnel.terminationGracePeriodSeconds': {
    help: 'how long a node proxy may take to end (30)',
    set: (draft, value, key) => {
      if (!/^\d{1,6}$/.test(value) || Number(value) === 0)
        throw invalid(`--set ${key}=${value}: expected seconds, a whole number`);
      draft.drainSeconds = Number(value);
    },
  },
  'cni.cniBinDir': {
    help: 'where the nodes keep CNI plugins (/opt/cni/bin)',
    set: (d, v, k) => {
      d.cniBinDir = absolute(v, k);
    },
  },
  'cni.cniConfDir': {
    help: 'where the nodes keep CNI configuration (/etc/cni/net.d)',
    set: (d, v, k) => {
      d.cniConfDir = absolute(v, k);
    },
  },
  'cni.ambient.dnsCapture': {
    help: "node proxies answer captured pods' DNS: true (default) or false",
    set: setEnv([['istio-cni', 'AMBIENT_DNS_CAPTURE']], oneOf('true', 'false')),
  },
  'cni.excludeNamespaces': {
    help: 'namespaces never enrolled, {a,b} (kube-system)',
    set: (draft, value) =>
      void draft.env['istio-cni'].set('EXCLUDE_NAMESPACES', value.replace(/^\{(.*)\}$/, '$1')),
  },
};
for (const [component, names] of Object.entries(SETTABLE_ENV) as [keyof typeof SETTABLE_ENV, string[]][])
  for (const name of names)
    Object.assign(KEYS, {
      [`${component}.env.${name}`]: {
        help: `environment of ${PROGRAM_OF[component]}`,
        set: setEnv([[PROGRAM_OF[component], name]], () => undefined),
      },
    });

/** Keys that people know from Istio and that are refused, by prefix, with the reason. */
const ABSENT: readonly (readonly [prefix: string, reason: string])[] = [
  ['revision', 'one control plane per cluster; revisions are not supported'],
  ['components', 'choose a profile instead'],
  ['gateways', 'gateways are not supported yet'],
  ['global.istioNamespace', 'the mesh always lives in istio-system'],
  ['global.network', 'several networks are not supported yet'],
  ['global.meshID', 'several meshes are not supported yet'],
  ['pilot.replicaCount', 'one replica of the control plane is supported'],
  [
    'meshConfig',
    'of meshConfig, only trustDomain is set here; others are read from ConfigMap istio (docs/CONTROL-PLANE.md)',
  ],
];

export interface SettingHelp {
  readonly key: string;
  readonly help: string;
}

export const listSettings = (): SettingHelp[] =>
  Object.entries(KEYS).map(([key, { help }]) => ({ key, help }));

/** Reads the pairs in order; a later one wins. @throws MeshError CONFIG_INVALID naming the pair and what is possible */
export function parseSettings(pairs: readonly string[], image?: string): InstallSettings {
  const draft: Draft = {
    profile: 'ambient',
    env: { istiod: new Map(), 'istio-cni': new Map(), ztunnel: new Map() },
  };
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    if (equals <= 0) throw invalid(`--set ${pair}: expected KEY=VALUE, such as profile=ambient`);
    const given = pair.slice(0, equals);
    const value = pair.slice(equals + 1);
    const key = shortKey(given);
    const known = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
    if (known === undefined) throw unknownKey(given, key);
    if (value === '') throw invalid(`--set ${pair}: the value is empty`);
    known.set(draft, value, given);
  }
  return {
    profile: draft.profile,
    image: imageOf(draft, image),
    env: draft.env,
    drainSeconds: draft.drainSeconds,
    cniBinDir: draft.cniBinDir,
    cniConfDir: draft.cniConfDir,
  };
}

const shortKey = (given: string): string => {
  const key = given.replace(/^values\./, '');
  return key === 'global.hub' || key === 'global.tag' ? key.slice('global.'.length) : key;
};

function imageOf({ hub, tag }: Draft, image: string | undefined): string | undefined {
  if (image !== undefined) {
    if (hub !== undefined || tag !== undefined)
      throw invalid('--image names the whole image: leave hub and tag out');
    return image;
  }
  if (hub === undefined && tag === undefined) return undefined;
  if (hub === undefined || tag === undefined)
    throw invalid('hub and tag belong together: --set hub=REGISTRY --set tag=VERSION, or --image=IMAGE');
  return `${hub}/culvert:${tag}`;
}

function unknownKey(given: string, key: string): MeshError {
  const absent = ABSENT.find(([prefix]) => key === prefix || key.startsWith(`${prefix}.`));
  if (absent !== undefined) return invalid(`--set ${given}: ${absent[1]}`);
  return invalid(
    `--set ${given}: there is no such setting${didYouMean(key, Object.keys(KEYS))} (culvert install --help lists them)`,
  );
}

const invalid = (message: string): MeshError => new MeshError('CONFIG_INVALID', message);
