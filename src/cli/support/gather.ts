// What a support bundle holds. Everything is tried; what could not be had is named with the reason, never fatal.

import { reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { knownResource } from '#k8s/discovery.ts';
import {
  AUTHORIZATION_POLICIES,
  DAEMON_SETS,
  DEPLOYMENTS,
  ENDPOINT_SLICES,
  EVENTS,
  NAMESPACES,
  NODES,
  PEER_AUTHENTICATIONS,
  PODS,
  type Pod,
  REPLICA_SETS,
  type Resource,
  SERVICE_ACCOUNTS,
  SERVICES,
} from '#k8s/objects.ts';
import type { FetchFromPod } from '#k8s/pod-http.ts';
import { SYSTEM_NAMESPACE } from '../cluster-options.ts';
import { redactObject, redactText } from './redact.ts';
import type { TarFile } from './tar.ts';

const rbac = (kind: string): Resource => knownResource('rbac.authorization.k8s.io/v1', kind) as Resource;

/** No Secrets, and no ConfigMaps: people keep secrets in those, too. */
const KINDS: readonly Resource[] = [
  NAMESPACES,
  NODES,
  PODS,
  SERVICES,
  SERVICE_ACCOUNTS,
  ENDPOINT_SLICES,
  DEPLOYMENTS,
  REPLICA_SETS,
  DAEMON_SETS,
  EVENTS,
  AUTHORIZATION_POLICIES,
  PEER_AUTHENTICATIONS,
  rbac('ClusterRole'),
  rbac('ClusterRoleBinding'),
];
const LOG_LINES = 20_000;
const ISTIOD_PAGES = ['syncz', 'ambientz', 'authorizationz', 'configz', 'mesh', 'settings'];

export interface GatherDeps {
  readonly client: KubeClient;
  readonly fetchFromPod: FetchFromPod;
  /** Redirection rules of nodes and pods; only where this machine holds them. */
  readonly readRules?: ((node: string, podUid: string | undefined) => Promise<string>) | undefined;
  readonly onGathered: (what: string) => void;
}

export interface Gathered {
  readonly files: readonly TarFile[];
  /** What could not be had, each with the reason. */
  readonly missing: readonly string[];
}

export async function gather(deps: GatherDeps): Promise<Gathered> {
  const files: TarFile[] = [];
  const missing: string[] = [];
  const add = async (path: string, read: () => Promise<string>): Promise<void> => {
    try {
      files.push({ path, text: redactText(await read()) });
    } catch (error) {
      missing.push(`${path}: ${redactText(reasonOf(error))}`);
    }
  };
  const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;
  const { client } = deps;

  await add('cluster/version.json', async () => json(await client.request('GET', '/version')));
  await Promise.all(
    KINDS.map((kind) =>
      add(`objects/${kind.plural}.json`, async () => json((await client.list(kind)).items.map(redactObject))),
    ),
  );
  deps.onGathered('objects');

  const pods = await meshPods(client, missing);
  await Promise.all(pods.map((pod) => addLogs(client, pod, add)));
  deps.onGathered('logs');
  await Promise.all(pods.map((pod) => addState(deps, pod, add)));
  deps.onGathered('state of the programs');

  if (deps.readRules !== undefined) {
    await addRules(client, deps.readRules, add);
    deps.onGathered('redirection rules');
  } else {
    missing.push('rules/: the nodes are not on this machine');
  }
  return { files: files.sort((a, b) => (a.path < b.path ? -1 : 1)), missing };
}

type Add = (path: string, read: () => Promise<string>) => Promise<void>;

async function meshPods(client: KubeClient, missing: string[]): Promise<readonly Pod[]> {
  try {
    return (await client.list(PODS, { namespace: SYSTEM_NAMESPACE })).items;
  } catch (error) {
    missing.push(`the mesh's pods: ${reasonOf(error)}`);
    return [];
  }
}

async function addLogs(client: KubeClient, { metadata, spec, status }: Pod, add: Add): Promise<void> {
  for (const { name } of spec.containers) {
    const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/log?container=${name}&tailLines=${LOG_LINES}&timestamps=true`;
    const read = (query: string) => async (): Promise<string> => {
      let text = '';
      for await (const piece of client.stream(`${path}${query}`)) text += piece;
      return text;
    };
    await add(`logs/${metadata.name}/${name}.log`, read(''));
    const restarts = status?.containerStatuses?.find((one) => one.name === name)?.restartCount ?? 0;
    if (restarts > 0) await add(`logs/${metadata.name}/${name}.previous.log`, read('&previous=true'));
  }
}

async function addState({ fetchFromPod }: GatherDeps, { metadata }: Pod, add: Add): Promise<void> {
  const { name: pod, namespace = '' } = metadata;
  const ask = (port: number, path: string) => (): Promise<string> =>
    fetchFromPod({ namespace, pod, port, path });
  const app = metadata.labels?.app;
  if (app === 'ztunnel') {
    await add(`ztunnel/${pod}/config_dump.json`, ask(15_000, '/config_dump'));
    await add(`ztunnel/${pod}/metrics.txt`, ask(15_020, '/metrics'));
  } else if (app === 'istiod') {
    await add(`istiod/${pod}/metrics.txt`, ask(15_014, '/metrics'));
    for (const page of ISTIOD_PAGES) await add(`istiod/${pod}/${page}.json`, ask(8080, `/debug/${page}`));
  }
}

async function addRules(
  client: KubeClient,
  readRules: NonNullable<GatherDeps['readRules']>,
  add: Add,
): Promise<void> {
  const { items: nodes } = await client.list(NODES);
  for (const { metadata } of nodes)
    await add(`rules/${metadata.name}.nft`, () => readRules(metadata.name, undefined));
  const { items: pods } = await client.list(PODS);
  for (const { metadata, spec, status } of pods)
    if (spec.hostNetwork !== true && spec.nodeName !== undefined && status?.phase === 'Running')
      await add(`rules/${metadata.namespace}/${metadata.name}.nft`, () =>
        readRules(spec.nodeName as string, metadata.uid),
      );
}
