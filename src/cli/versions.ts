// The versions that run in a cluster: every istiod and every ztunnel is asked on its monitoring port.

import { MeshError, reasonOf } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import { podFetcher } from '#k8s/pod-http.ts';
import { openCluster } from './cluster.ts';
import type { ClusterFlags } from './cluster-options.ts';
import type { CliContext } from './command.ts';
import { listIstiods, listZtunnels, ztunnelVersion } from './mesh-pods.ts';

const MONITORING_PORT = 15_014;

export interface ComponentVersion {
  readonly component: string;
  readonly node: string | undefined;
  readonly version: string;
}

export interface Versions {
  readonly client: string;
  readonly control: readonly ComponentVersion[];
  readonly proxies: readonly ComponentVersion[];
  /** Why not everything could be asked. */
  readonly problem: string | undefined;
}

export async function readVersions(context: CliContext, flags: ClusterFlags): Promise<Versions> {
  const client = context.version;
  let cluster: ReturnType<typeof openCluster>;
  try {
    cluster = openCluster(context, flags);
  } catch (error) {
    // Without any cluster the question was about this command.
    const isAsked =
      flags.context !== undefined || flags.kubeconfig !== undefined || context.env.KUBECONFIG !== undefined;
    return { client, control: [], proxies: [], problem: isAsked ? reasonOf(error) : undefined };
  }
  const fetchFromPod = podFetcher(cluster.endpoint);
  const problems: string[] = [];
  const ask = async (pods: Promise<Pod[]>, versionOf: (pod: Pod) => Promise<string>) => {
    try {
      return await Promise.all(
        (await pods).map(async (pod) => ({
          component: `${pod.metadata.name}.${pod.metadata.namespace}`,
          node: pod.spec.nodeName,
          version: await versionOf(pod),
        })),
      );
    } catch (error) {
      problems.push(reasonOf(error));
      return [];
    }
  };
  try {
    const [control, proxies] = await Promise.all([
      ask(listIstiods(cluster.client).then(notNone), async ({ metadata: { name, namespace = '' } }) =>
        (await fetchFromPod({ namespace, pod: name, port: MONITORING_PORT, path: '/version' })).trim(),
      ),
      ask(listZtunnels(cluster.client), (pod) => ztunnelVersion(fetchFromPod, pod)),
    ]);
    return { client, control, proxies, problem: problems[0] };
  } finally {
    cluster.client.close();
  }
}

function notNone(pods: Pod[]): Pod[] {
  if (pods.length === 0)
    throw new MeshError(
      'CONFIG_INVALID',
      'no control plane runs in this cluster; to install the mesh: culvert install',
    );
  return pods;
}

export function renderVersions(
  { client, control, proxies }: Versions,
  { short = false, remote }: { readonly short?: boolean; readonly remote: boolean },
): string {
  if (short && !remote) return `${client}\n`;
  const line = (title: string, components: readonly ComponentVersion[], noun: string): string => {
    if (components.length === 0) return '';
    const counts = new Map<string, number>();
    for (const { version } of components) counts.set(version, (counts.get(version) ?? 0) + 1);
    const parts = [...counts].map(([version, count]) =>
      short ? version : `${version} (${count} ${noun}${count === 1 ? '' : 's'})`,
    );
    return `${title} version: ${parts.join(', ')}\n`;
  };
  return `client version: ${client}\n${line('control plane', control, 'pod')}${line('data plane', proxies, 'proxie').replace('1 proxie)', '1 proxy)')}`;
}
