// What the peer's own manifests give its programs on top of ours, for `culvert up --ztunnel …` and its like (pure). Ours
// leave it out because the defaults say the same, or because our programs have no use for it.

import type { KubeObject } from '#k8s/objects.ts';
import { peerObjects } from './peer-objects.ts';

export type PeerProgram = 'ztunnel' | 'control' | 'cni';

/** Which programs are somebody else's, and the directory each lies in. */
export type Peers = ReadonlyMap<PeerProgram, string>;

interface Settings {
  readonly kind: string;
  readonly name: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Host path → where the program looks for it. */
  readonly hostPaths: Readonly<Record<string, string>>;
}

/** ztunnel.md §1.1, §1.4; cni.md B (mounts of `install-cni`); control-plane.md (arguments of `pilot-discovery`). */
const SETTINGS: Readonly<Record<PeerProgram, Settings>> = {
  ztunnel: {
    kind: 'DaemonSet',
    name: 'ztunnel',
    args: ['proxy', 'ztunnel'],
    env: {
      INPOD_ENABLED: 'true',
      ISTIO_META_CLUSTER_ID: 'Kubernetes',
      PROXY_MODE: 'shared',
      RUST_LOG: 'info',
      TRUST_DOMAIN: 'cluster.local',
    },
    hostPaths: {},
  },
  control: {
    kind: 'Deployment',
    name: 'istiod',
    args: ['discovery', '--monitoringAddr=:15014', '--domain', 'cluster.local'],
    env: {
      PILOT_CERT_PROVIDER: 'istiod',
      PILOT_ENABLE_AMBIENT: 'true',
      PILOT_ENABLE_ANALYSIS: 'false',
      REVISION: 'default',
      SERVICE_ACCOUNT: 'istiod',
    },
    hostPaths: {},
  },
  cni: {
    kind: 'DaemonSet',
    name: 'istio-cni-node',
    args: [],
    env: {
      AMBIENT_ENABLED: 'true',
      AMBIENT_ENABLEMENT_SELECTOR: JSON.stringify([
        { podSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } } },
        {
          podSelector: {
            matchExpressions: [{ key: 'istio.io/dataplane-mode', operator: 'NotIn', values: ['none'] }],
          },
          namespaceSelector: { matchLabels: { 'istio.io/dataplane-mode': 'ambient' } },
        },
      ]),
      AMBIENT_RECONCILE_POD_RULES_ON_STARTUP: 'true',
      CHAINED_CNI_PLUGIN: 'true',
      // This machine has nftables; iptables need not be there.
      NATIVE_NFTABLES: 'true',
      REPAIR_ENABLED: 'false',
      // Where ours, on the nodes that keep it, finds the node's directories (PLUGIN_SOURCE).
      CNI_BIN_DIR: '/host/opt/cni/bin',
      CNI_NET_DIR: '/host/etc/cni/net.d',
    },
    hostPaths: {
      '/opt/cni/bin': '/host/opt/cni/bin',
      '/etc/cni/net.d': '/host/etc/cni/net.d',
      // Where the kubelet shows pods in the form of a procfs with cgroups (local/kubelet/pod-proc.ts).
      '/run/culvert-proc': '/host/proc',
      '/var/run/netns': '/host/var/run/netns',
    },
  },
};

/** A peer's image has the plugin here, and the agent copies it to the node: the agent's own directory stands in for it. */
const PLUGIN_SOURCE = '/opt/cni/bin';

interface PodTemplateHolder extends KubeObject {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly (Record<string, unknown> & {
          readonly args?: readonly string[];
          readonly env?: readonly { readonly name: string }[];
          readonly volumeMounts?: readonly { readonly mountPath: string }[];
        })[];
        readonly volumes?: readonly unknown[];
      };
    };
  };
}

/** The objects of a component as the peers among its programs need them. What the manifest says already stays. */
export function withPeers(objects: readonly KubeObject[], peers: Peers): KubeObject[] {
  return objects.flatMap((object) => {
    const program = PROGRAMS.find((each) => runs(object, each) && peers.has(each));
    if (program === undefined) return [object];
    return [
      ...peerObjects(program),
      withSettings(object as PodTemplateHolder, program, peers.get(program) as string),
    ];
  });
}

const PROGRAMS = Object.keys(SETTINGS) as PeerProgram[];

const runs = (object: KubeObject, program: PeerProgram): boolean =>
  object.kind === SETTINGS[program].kind && object.metadata.name === SETTINGS[program].name;

function withSettings(holder: PodTemplateHolder, program: PeerProgram, directory: string): KubeObject {
  const { args, env, hostPaths } = SETTINGS[program];
  const { template } = holder.spec;
  const volumes = Object.entries({
    ...hostPaths,
    ...(program === 'cni' ? { [directory]: PLUGIN_SOURCE } : {}),
  }).map(([path, mountPath], index) => ({
    volume: { name: `peer-${index}`, hostPath: { path } },
    mount: { name: `peer-${index}`, mountPath },
  }));
  const taken = new Set(volumes.map(({ mount }) => mount.mountPath));
  const [first, ...others] = template.spec.containers;
  const known = new Set(first?.env?.map(({ name }) => name));
  const container = {
    ...first,
    args: first?.args ?? args,
    env: [
      ...(first?.env ?? []),
      ...Object.entries(env).flatMap(([name, value]) => (known.has(name) ? [] : [{ name, value }])),
    ],
    volumeMounts: [
      ...(first?.volumeMounts ?? []).filter(({ mountPath }) => !taken.has(mountPath)),
      ...volumes.map(({ mount }) => mount),
    ],
  };
  const spec = {
    ...template.spec,
    containers: [container, ...others],
    volumes: [...(template.spec.volumes ?? []), ...volumes.map(({ volume }) => volume)],
  };
  return { ...holder, spec: { ...holder.spec, template: { ...template, spec } } } as KubeObject;
}
