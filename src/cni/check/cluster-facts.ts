// What the cluster says of its network, as far as we may read it: nothing here is needed, and what is missing is told.

import type { KubeClient } from '#k8s/client.ts';
import {
  CONFIG_MAPS,
  DAEMON_SETS,
  type KubeObject,
  NAMESPACES,
  NETWORK_POLICIES,
  type NetworkPolicy,
  PODS,
  type Pod,
  type Resource,
} from '#k8s/objects.ts';
import { DATAPLANE_MODE_LABEL } from '../constants.ts';
import type { NetworkSettings } from './other-networks.ts';

export interface ClusterFacts {
  readonly settings: NetworkSettings;
  /** Pods in the mesh, by their labels; undefined: not readable. */
  readonly meshPods: readonly Pod[] | undefined;
  readonly policies: readonly NetworkPolicy[] | undefined;
}

interface WithSpec extends KubeObject {
  readonly spec?: Readonly<Record<string, unknown>>;
}

const custom = (group: string, version: string, plural: string, kind: string): Resource<WithSpec> => ({
  group,
  version,
  plural,
  kind,
  namespaced: false,
});
const FELIX = custom('crd.projectcalico.org', 'v1', 'felixconfigurations', 'FelixConfiguration');
const OPENSHIFT = custom('operator.openshift.io', 'v1', 'networks', 'Network');

export async function readCluster(client: Pick<KubeClient, 'get' | 'list'>): Promise<ClusterFacts> {
  const [cilium, felix, openshift, awsNode] = await Promise.all([
    orNothing(client.get(CONFIG_MAPS, 'cilium-config', 'kube-system')),
    orNothing(client.get(FELIX, 'default')),
    orNothing(client.get(OPENSHIFT, 'cluster')),
    orNothing(client.get(DAEMON_SETS, 'aws-node', 'kube-system')),
  ]);
  const [pods, namespaces, policies] = await Promise.all([
    orNothing(client.list(PODS)),
    orNothing(client.list(NAMESPACES)),
    orNothing(client.list(NETWORK_POLICIES)),
  ]);
  const ambient = new Set(
    namespaces?.items
      .filter(({ metadata }) => metadata.labels?.[DATAPLANE_MODE_LABEL] === 'ambient')
      .map(({ metadata }) => metadata.name),
  );
  const inMesh = ({ metadata }: Pod): boolean => {
    const own = metadata.labels?.[DATAPLANE_MODE_LABEL];
    return own === 'ambient' || (own !== 'none' && ambient.has(metadata.namespace ?? 'default'));
  };
  return {
    settings: {
      ...(cilium?.data === undefined ? {} : { cilium: cilium.data }),
      ...(felix?.spec === undefined ? {} : { felix: felix.spec }),
      ...(openshift?.spec === undefined ? {} : { openshift: openshift.spec }),
      ...(awsNode === undefined ? {} : { awsNode: environmentOf(awsNode) }),
    },
    meshPods: namespaces === undefined ? undefined : pods?.items.filter(inMesh),
    policies: policies?.items,
  };
}

interface WithContainers {
  readonly spec?: {
    readonly template?: {
      readonly spec?: {
        readonly containers?: readonly Env[];
        readonly initContainers?: readonly Env[];
      };
    };
  };
}
interface Env {
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
}

function environmentOf(daemonSet: KubeObject): Record<string, string> {
  const spec = (daemonSet as WithContainers).spec?.template?.spec;
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])];
  return Object.fromEntries(
    containers.flatMap(({ env = [] }) => env.map(({ name, value = '' }) => [name, value])),
  );
}

/** Not there, forbidden, out of reach: all the same here. */
async function orNothing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch {
    return undefined;
  }
}
