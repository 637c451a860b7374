// What the peer's own manifests give its programs on top of ours, for `culvert up --ztunnel …` and its like (pure). Ours
// leave it out because the defaults say the same, or because our programs have no use for it.

import type { KubeObject } from '#k8s/objects.ts';

export type PeerProgram = 'ztunnel' | 'control' | 'cni';

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
      REVISION: 'default',
      SERVICE_ACCOUNT: 'istiod',
    },
    hostPaths: {},
  },
  cni: {
    kind: 'DaemonSet',
    name: 'istio-cni-node',
    args: [],
    env: { AMBIENT_ENABLED: 'true', CHAINED_CNI_PLUGIN: 'true', REPAIR_ENABLED: 'false' },
    hostPaths: {
      '/opt/cni/bin': '/host/opt/cni/bin',
      '/etc/cni/net.d': '/host/etc/cni/net.d',
      '/proc': '/host/proc',
      '/var/run/netns': '/host/var/run/netns',
    },
  },
};

interface PodTemplateHolder extends KubeObject {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly (Record<string, unknown> & {
          readonly args?: readonly string[];
          readonly env?: readonly { readonly name: string }[];
          readonly volumeMounts?: readonly unknown[];
        })[];
        readonly volumes?: readonly unknown[];
      };
    };
  };
}

/** The object with the settings of whichever replaced program it runs. What the manifest says already stays. */
export function withPeerSettings(object: KubeObject, replaced: ReadonlySet<PeerProgram>): KubeObject {
  const found = Object.entries(SETTINGS).find(
    ([program, { kind, name }]) =>
      replaced.has(program as PeerProgram) && object.kind === kind && object.metadata.name === name,
  );
  if (found === undefined) return object;
  const [, { args, env, hostPaths }] = found;
  const holder = object as PodTemplateHolder;
  const { template } = holder.spec;
  const volumes = Object.entries(hostPaths).map(([path, mountPath], index) => ({
    volume: { name: `peer-${index}`, hostPath: { path } },
    mount: { name: `peer-${index}`, mountPath },
  }));
  const [first, ...others] = template.spec.containers;
  const known = new Set(first?.env?.map(({ name }) => name));
  const container = {
    ...first,
    args: first?.args ?? args,
    env: [
      ...(first?.env ?? []),
      ...Object.entries(env).flatMap(([name, value]) => (known.has(name) ? [] : [{ name, value }])),
    ],
    volumeMounts: [...(first?.volumeMounts ?? []), ...volumes.map(({ mount }) => mount)],
  };
  const spec = {
    ...template.spec,
    containers: [container, ...others],
    volumes: [...(template.spec.volumes ?? []), ...volumes.map(({ volume }) => volume)],
  };
  return { ...holder, spec: { ...holder.spec, template: { ...template, spec } } } as KubeObject;
}
