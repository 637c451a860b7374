// The cluster that a command works on: the way from flags and kubeconfig to a client.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { KubeClient } from '#k8s/client.ts';
import type { PluginRun } from '#k8s/exec-plugin.ts';
import { chooseContext, kubeconfigPaths, loadKubeconfig } from '#k8s/kubeconfig.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import type { ApiEndpoint } from '#k8s/rest-transport.ts';
import type { ClusterFlags } from './cluster-options.ts';
import type { CliContext } from './command.ts';

const PLUGIN_LIMIT_MS = 60_000;

export interface Cluster {
  readonly client: KubeClient;
  readonly endpoint: ApiEndpoint;
  readonly contextName: string;
  /** The namespace that commands are about when none is named. */
  readonly namespace: string;
}

/** @throws MeshError CONFIG_INVALID saying what to set */
export function openCluster({ env, defaultStateDir, version }: CliContext, flags: ClusterFlags): Cluster {
  const local = join(defaultStateDir, 'kubeconfig');
  const hint = existsSync(local)
    ? `for the mesh on this machine: export KUBECONFIG=${local}`
    : 'name one by --kubeconfig, or start a mesh on this machine: culvert up';
  const readFile = (path: string): string => readFileSync(path, 'utf8');
  const paths = kubeconfigPaths(flags.kubeconfig, env.KUBECONFIG, env.HOME ?? homedir());
  const { endpoint, name, namespace } = chooseContext(loadKubeconfig(paths, readFile, hint), flags.context, {
    readFile,
    plugins: { run: (run) => runPlugin(run, env), now: Date.now },
  });
  const named = { ...endpoint, userAgent: `culvert/${version}` };
  return {
    client: createRestClient(named),
    endpoint: named,
    contextName: name,
    namespace: namespace ?? 'default',
  };
}

/** Opens the cluster for the time of the work. */
export async function withCluster<T>(
  context: CliContext,
  flags: ClusterFlags,
  work: (cluster: Cluster) => Promise<T>,
): Promise<T> {
  const cluster = openCluster(context, flags);
  try {
    return await work(cluster);
  } finally {
    cluster.client.close();
  }
}

/** The embedded cluster says so in its version; its "images" are programs of this machine. */
export async function isEmbedded(client: KubeClient): Promise<boolean> {
  const { gitVersion = '' } = await client.request<{ gitVersion?: string }>('GET', '/version');
  return gitVersion.includes('+culvert');
}

function runPlugin({ command, args, env }: PluginRun, own: CliContext['env']): string {
  const { status, signal, stdout, error } = spawnSync(command, args, {
    env: { ...own, ...env },
    encoding: 'utf8',
    // Its questions and complaints are for the person.
    stdio: ['inherit', 'pipe', 'inherit'],
    timeout: PLUGIN_LIMIT_MS,
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(signal === null ? `exit code ${status}` : `killed by ${signal}`);
  return stdout;
}
