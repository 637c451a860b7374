// LOCAL: everything inside the machine that is not a pod, put together. API server, controllers and kubelets come in as
// dependencies and speak to one another through the Kubernetes API only.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { StartInformer } from '#k8s/informer.ts';
import { NODES, type Node, PODS, SERVICES, type Service } from '#k8s/objects.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { createEvents } from '#local/kubelet/events.ts';
import { watchImageTable } from '#local/kubelet/image-table.ts';
import { type Kubelet, startKubelet } from '#local/kubelet/kubelet.ts';
import { KubeletStreams } from '#local/kubelet/kubelet-streams.ts';
import { LogStore } from '#local/kubelet/logs.ts';
import { startObjectSource } from '#local/kubelet/object-source.ts';
import { type ClusterNetwork, startClusterNetwork } from '#local/net/cluster-network.ts';
import { formatHostPort } from '#net/host-port.ts';
import type { Logger } from '#telemetry/log.ts';
import { ensureNodeObjects, forgetFormerMachine } from './boot.ts';
import type { HostPorts } from './host-ports.ts';
import type { MachineConfig, MachineReady, Step } from './messages.ts';
import { type EmulatedNode, ensureMachineNetwork } from './node.ts';
import { keepPathsFor } from './node-root.ts';
import { type NodeManager, startNodeManager } from './nodes.ts';
import {
  ADDRESSES,
  API_PORT,
  CLUSTER_DOMAIN,
  type ClusterFamily,
  type Family,
  type FamilyAddresses,
  familiesOf,
} from './plan.ts';
import { replacementFor, replacementPaths } from './replacements.ts';
import { findTools } from './tools.ts';

/** What LOCAL needs of the API server; `apiserver/server.ts` has it. */
export interface ApiServerHandle {
  listen(
    target: { readonly fd: number } | { readonly host: string; readonly port: number },
  ): Promise<unknown>;
  readonly caPem: string;
  connect(user: string, groups?: readonly string[]): Duplex;
  kubeconfig(serverUrl: string): string;
  close(): Promise<void>;
}

export interface ApiServerWish {
  readonly stateDir: string;
  readonly dnsNames: readonly string[];
  readonly ips: readonly string[];
  readonly crds: readonly string[];
  readonly advertise: { readonly address: string; readonly port: number };
  /** Of services; the first is what a service has that asks for none. */
  readonly serviceFamilies: readonly Family[];
}

/** As whom a part of LOCAL speaks to the API server: each with the rights of its counterpart in a real cluster. */
export interface Identity {
  readonly user: string;
  readonly groups?: readonly string[];
}

const MACHINE: Identity = { user: 'culvert:machine' };
const CONTROLLER_MANAGER: Identity = { user: 'system:kube-controller-manager' };
const SCHEDULER: Identity = { user: 'system:kube-scheduler' };
const NODE_PROXY: Identity = { user: 'system:kube-proxy' };
const kubeletIdentity = (node: string): Identity => ({
  user: `system:node:${node}`,
  groups: ['system:nodes'],
});

export interface LocalDeps {
  readonly log: Logger;
  readonly createApiServer: (
    pods: { readonly podLogs: LogStore; readonly podStreams: KubeletStreams },
    wish: ApiServerWish,
  ) => Promise<ApiServerHandle>;
  readonly createClient: (server: ApiServerHandle, url: string, identity: Identity) => KubeClient;
  readonly startInformer: StartInformer;
  readonly startControllers: (
    clients: { readonly manager: KubeClient; readonly scheduler: KubeClient },
    server: ApiServerHandle,
  ) => Promise<{ close(): void | Promise<void> }>;
  readonly hostPorts: HostPorts;
  readonly onStep: (step: Step) => void;
}

export interface Local {
  readonly ready: MachineReady;
  /** Ends the containers, then everything else. */
  stop(): Promise<void>;
}

/** All of it together; FRONT waits longer. */
const STOP_GRACE_MS = 2500;

export async function startLocal(deps: LocalDeps, config: MachineConfig): Promise<Local> {
  const { log } = deps;
  const timed = async <T>(step: string, work: Promise<T>): Promise<T> => {
    const startedAt = performance.now();
    const result = await work;
    deps.onStep({ step, ms: Math.round(performance.now() - startedAt) });
    return result;
  };
  await warmThreadPool();
  const tools = findTools(config.path);
  const isNewMachine = await timed('network', ensureMachineNetwork(tools, config.ipFamily));

  const logs = new LogStore(join(config.runDir, 'logs'));
  const streams = new KubeletStreams(tools);
  mkdirSync(join(config.runDir, 'nodes'), { recursive: true, mode: 0o700 });
  const server = await timed('api server', startApi(deps, config, { podLogs: logs, podStreams: streams }));

  const addresses = primaryAddresses(config.ipFamily);
  const insideUrl = `https://${formatHostPort(addresses.machine, API_PORT)}`;
  const clientOf = (identity: Identity): KubeClient => deps.createClient(server, insideUrl, identity);
  const client = clientOf(MACHINE);
  const proxyClient = clientOf(NODE_PROXY);
  const manager = clientOf(CONTROLLER_MANAGER);
  const scheduler = clientOf(SCHEDULER);
  const existing = await client.list(PODS);
  logs.prune(new Set(existing.items.map(({ metadata }) => metadata.uid ?? '')));
  if (isNewMachine) await forgetFormerMachine(client, new Date(systemClock.now()).toISOString());
  await ensureNodeObjects(client, config.nodeCount);
  const images = watchImageTable(join(config.stateDir, 'images.yaml'), config.images ?? {});
  const nodeObjects = deps.startInformer<Node>({ client, log }, NODES);
  const source = startObjectSource({ client, log, startInformer: deps.startInformer });
  const [controllers, { network, nodes }] = await Promise.all([
    timed('controllers', deps.startControllers({ manager, scheduler }, server)),
    startNodes(),
    ensureDnsService(client, addresses.dnsService),
  ]);

  async function startNodes(): Promise<{ network: ClusterNetwork; nodes: NodeManager }> {
    const network = await timed(
      'cluster network',
      startClusterNetwork({
        client: proxyClient,
        startInformer: deps.startInformer,
        hostPorts: deps.hostPorts,
        ipFamily: config.ipFamily,
        log,
      }),
    );
    const nodes = startNodeManager(
      {
        tools,
        client,
        nodes: nodeObjects,
        network,
        startKubelet: (node) => kubeletOf(node, network),
        events: createEvents({ client, log, clock: systemClock }, { component: 'local-machine' }, NODES),
        log: log.scoped('nodes'),
      },
      config,
    );
    return { network, nodes: await timed('nodes', nodes) };
  }

  async function kubeletOf(node: EmulatedNode, network: ClusterNetwork): Promise<Kubelet> {
    const kubelet = await startKubelet(
      {
        node,
        client: clientOf(kubeletIdentity(node.plan.name)),
        startInformer: deps.startInformer,
        source,
        policies: network.policies,
        logs,
        nodeObject: () => nodeObjects.get(node.plan.name),
        log: log.scoped(`kubelet-${node.plan.name}`),
      },
      {
        images: {
          root: config.root,
          node: config.node,
          table: images,
          replacement: (name) => replacementFor(config.replacements, name, node.plan.name),
        },
        keepPaths: keepPathsFor(config.root, config.node, replacementPaths(config.replacements)),
      },
    );
    streams.addNode(node.plan.name, kubelet);
    return kubelet;
  }

  const kubeconfig = server.kubeconfig(`https://127.0.0.1:${config.apiPort}`);
  writeFileSync(join(config.stateDir, 'kubeconfig'), kubeconfig, { mode: 0o600 });
  return {
    ready: {
      kubeconfig,
      localPid: process.pid,
      adoptedContainers: nodes.adopted,
    },
    async stop() {
      await controllers.close(); // or they would start again what is stopped now
      await nodes.stop(STOP_GRACE_MS);
      source.close();
      nodeObjects.close();
      await network.close();
      await server.close();
    },
  };
}

/** Where LOCAL itself answers: over the family that counts where only one can. */
const primaryAddresses = (cluster: ClusterFamily): FamilyAddresses => ADDRESSES[familiesOf(cluster)[0]];

async function startApi(
  deps: LocalDeps,
  config: MachineConfig,
  pods: Parameters<LocalDeps['createApiServer']>[0],
): Promise<ApiServerHandle> {
  const { machine, apiService } = primaryAddresses(config.ipFamily);
  const server = await deps.createApiServer(pods, {
    stateDir: config.stateDir,
    dnsNames: [
      'localhost',
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      `kubernetes.default.svc.${CLUSTER_DOMAIN}`,
    ],
    ips: ['127.0.0.1', apiService, machine],
    crds: readCrds(join(config.root, 'deploy/crds')),
    advertise: { address: machine, port: API_PORT },
    serviceFamilies: familiesOf(config.ipFamily),
  });
  await Promise.all([server.listen({ fd: config.apiFd }), server.listen({ host: machine, port: API_PORT })]);
  return server;
}

function readCrds(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => /\.(ya?ml|json)$/.test(name))
      .sort()
      .map((name) => readFileSync(join(dir, name), 'utf8'));
  } catch (error) {
    throw MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot read the resource definitions in ${dir}`);
  }
}

/** Visible in `kubectl get svc`, and the place where programs look the address up; the rules do not depend on it. */
async function ensureDnsService(client: KubeClient, address: string): Promise<void> {
  const service: Service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kube-dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
    spec: {
      clusterIP: address,
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns-tcp', port: 53, protocol: 'TCP' },
      ],
    },
  };
  try {
    await client.create(SERVICES, service, 'kube-system');
  } catch (error) {
    if (!(error instanceof MeshError) || error.details.status !== 409) throw error;
  }
}
