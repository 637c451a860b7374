// The data plane: creates and owns everything that serves a node's pods, in the order of ztunnel.md §1.3. Everything is
// reached from what this function makes, so several data planes can live in one process, each in any thread.

import { readFileSync } from 'node:fs';
import type { Clock, Random } from '#base/clock.ts';
import { errnoOf, MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { createPendingBudget } from '#dns/budget.ts';
import { parseResolvConf, type ResolverSettings } from '#dns/resolv-conf.ts';
import { createSessionShared } from '#hbone/session-life.ts';
import { createStore, type Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { followCrlFile } from '#tls/crl-file.ts';
import { Revocations } from '#tls/revocation.ts';
import type { CertificateAuthorityClient, SecretManager } from '#tls/secret.ts';
import { createSecretManager } from '#tls/secrets.ts';
import { startXdsClient, type XdsClient, ztunnelNode } from '#xds/client.ts';
import type { DemandOutcome } from '#xds/demands.ts';
import type { OpenXdsStream } from '#xds/transport.ts';
import { adminRoutes, type LogControl } from './admin.ts';
import type { OpenCapture, PodNetns } from './capture/capture.ts';
import type { ZtunnelConfig } from './config.ts';
import { Connections } from './connections.ts';
import { type DrainResult, drain } from './drain.ts';
import { Traceparents } from './headers.ts';
import { serveHttp } from './http.ts';
import { createJudge } from './judge.ts';
import { createZtunnelMetrics } from './metrics.ts';
import { prepareInbound, prepareOutbound } from './on-demand.ts';
import { createPodService } from './pod-service.ts';
import { type Pod, Pods } from './pods.ts';
import { followLocalIdentities } from './prefetch.ts';
import { createReadiness, type Readiness, readinessAnswer } from './readiness.ts';
import { createTelemetry } from './record.ts';
import { createResolver, type QueryDns, systemDns } from './resolve.ts';
import { type SelfProxy, startSelfProxy } from './self-proxy.ts';
import { TcpIo } from './tcp.ts';
import { type PacketConnection, startZdsClient, type ZdsClient } from './zds.ts';

const STATE_TASK = 'state manager';
const PROXY_TASK = 'proxy';

export interface DataPlaneDeps {
  readonly log: Logger;
  readonly logControl: LogControl;
  readonly clock: Clock;
  readonly random: Random;
  readonly openCapture: OpenCapture;
  /** Text of the resolv.conf whose servers are asked for what the mesh does not know; absent: nobody is asked. */
  readonly resolvConf?: string;
  readonly ca: CertificateAuthorityClient;
  /** Absent: no control plane; the state is what `store.apply` is given. */
  readonly openXds?: OpenXdsStream;
  /** Absent: no CNI agent; pods are added through `pods`. */
  readonly zds?: {
    readonly connect: (path: string) => Promise<PacketConnection>;
    readonly netns: (fd: number) => PodNetns;
    readonly discard: (fd: number) => void;
    /** Every pod of this node has been named. */
    readonly onSnapshot?: () => void;
  };
  /** Absent: the servers of /etc/resolv.conf. */
  readonly queryDns?: QueryDns;
  /** Puts the static state into the store, and keeps it there, before anything is served. */
  readonly loadState?: (deps: {
    readonly store: Store;
    readonly log: Logger;
    readonly scope: Scope;
  }) => Promise<void>;
  /** The namespace of dedicated mode: this process's own. Owned by the data plane. */
  readonly ownNetns?: PodNetns;
  /** Asked for over the admin port. */
  readonly shutdown: () => void;
  /** The node's pods can no longer be known: the process is to end with status 1. */
  readonly onFatal: (error: MeshError) => void;
}

export interface DataPlane {
  readonly store: Store;
  readonly secrets: SecretManager;
  readonly connections: Connections;
  readonly pods: Pods;
  readonly readiness: Readiness;
  /** Bound ports, for those configured as 0. */
  readonly ports: {
    readonly admin: number;
    readonly stats: number;
    readonly readiness: number;
    /** Of the HBONE listener for ztunnel's own workload, once the state is there. */
    readonly self: number | undefined;
  };
  /** Listeners close at once; live connections get the configured time; then everything is closed. */
  drain(): Promise<DrainResult>;
  /** Closes everything at once. */
  close(): void;
}

/** Resolves when the servers are bound; pods are served once the state is there. @throws MeshError PORT_IN_USE */
export async function createDataPlane(deps: DataPlaneDeps, config: ZtunnelConfig): Promise<DataPlane> {
  const scope = new Scope('data plane');
  try {
    return await build(deps, config, scope);
  } catch (error) {
    scope.close();
    throw error;
  }
}

async function build(deps: DataPlaneDeps, config: ZtunnelConfig, scope: Scope): Promise<DataPlane> {
  const { log, clock, random } = deps;
  // The probes must be answered while everything else starts, and until everything else has ended.
  const serverScope = scope.child('servers');
  const readiness = createReadiness([STATE_TASK, PROXY_TASK]);
  const serve = serverOf(log, serverScope);
  const readinessPort = await serve('readiness', undefined, config.readinessPort, {
    '/healthz/ready': ({ method }) =>
      method === 'GET' ? readinessAnswer(readiness) : { status: 405, body: 'only GET is allowed\n' },
  });

  const metrics = createZtunnelMetrics({ istioVersion: config.istioVersion });
  const secrets = createSecretManager(
    { ca: deps.ca, clock, log: log.scoped('identity'), random, scope },
    { ttlSeconds: config.secretTtlSeconds, tls: config.tls },
  );
  scope.onClose(() => secrets.close());
  const revocations = await revocationsOf(deps, config, scope);
  const store = createStore({ localNode: config.nodeName });
  // One workload asks for its certificate when it needs it; nothing is fetched ahead (ztunnel.md §1.8).
  if (config.nodeName !== undefined && config.mode === 'shared')
    scope.onClose(followLocalIdentities(store, secrets, config.nodeName));

  // Policy and pods need each other: the judge looks pods up when it is called, never before.
  let self: SelfProxy | undefined;
  const podWorkload = (uid: string): Workload | undefined => {
    const info = uid === self?.pod.uid ? self.pod.info : pods.get(uid)?.info;
    return info === undefined
      ? undefined
      : store.localWorkload(info.name, info.namespace, info.serviceAccount);
  };
  const connections = new Connections(
    createJudge({ store, log: log.scoped('rbac'), policyInfoLogging: config.policyInfoLogging }, podWorkload),
    () => store.configVersion,
  );
  const telemetry = createTelemetry({ log, clock, traffic: metrics.traffic });
  const io = new TcpIo();
  const proxyLog = log.scoped('proxy');
  // Asked for when connections come, long after the client has been made.
  const demand = (name: string): Promise<DemandOutcome> => xds?.demand(name) ?? Promise.resolve('answered');
  const serviceDeps = {
    store,
    secrets,
    io,
    sessions: createSessionShared(clock),
    revocations,
    connections,
    telemetry,
    traceparents: new Traceparents(),
    log: proxyLog,
    policyInfoLogging: config.policyInfoLogging,
    random,
    clock,
    resolve: createResolver({ query: deps.queryDns ?? systemDns(), clock }, { ipv6: config.ipv6 }),
    onLookup: metrics.lookup,
    dns: {
      resolvers: resolversOf(deps, config),
      budget: createPendingBudget(),
      counters: metrics.dns,
      log: log.scoped('dns'),
    },
    prepare: config.xdsOnDemand
      ? (source: Workload, destination: IpAddress) =>
          prepareOutbound({ view: store, demand, network: config.network }, source, destination)
      : undefined,
    prepareInbound: config.xdsOnDemand
      ? (local: Workload, authority: string) =>
          prepareInbound({ view: store, demand, clusterDomain: config.clusterDomain }, local, authority)
      : undefined,
    onSocket: metrics.socket,
  };
  const pods: Pods = new Pods({
    openCapture: (netns, onConnection) => deps.openCapture(netns, onConnection, metrics.refused),
    serve: (pod: Pod) => createPodService(serviceDeps, config, pod),
    connections,
    scope,
    log: log.scoped('inpod'),
    onCount: metrics.proxy,
  });
  const served = (): Pod[] => [...pods.entries().values(), ...(self === undefined ? [] : [self.pod])];
  followChanges(scope, store, served, connections, config.nodeName);
  if (config.workload === undefined) readiness.complete(PROXY_TASK);
  await deps.loadState?.({ store, log: log.scoped('state'), scope });

  const startZds = (): ZdsClient | undefined =>
    deps.zds &&
    startZdsClient(
      {
        ...deps.zds,
        pods,
        readiness,
        log: log.scoped('inpod'),
        scope,
        random,
        onFatal: deps.onFatal,
        onPending: metrics.pending,
      },
      { path: config.zdsPath },
    );
  const startSelf = (): SelfProxy | undefined => {
    const { podName: name, podNamespace: namespace, serviceAccount } = config;
    if (name === '' || namespace === '' || serviceAccount === '') return undefined;
    const serveSelf = (pod: Pod) => createPodService(serviceDeps, config, pod);
    return startSelfProxy(
      { serve: serveSelf, log: proxyLog, scope },
      { name, namespace, serviceAccount },
      { ...config, port: config.selfPort },
    );
  };
  let zds: ZdsClient | undefined;
  const xds = startXds(deps, config, scope, store, metrics);
  const onState = (): void => {
    if (scope.closed) return;
    try {
      self = startSelf();
    } catch (error) {
      deps.onFatal(MeshError.from(error, 'SYSCALL_FAILED', 'listening for our own workload'));
      return;
    }
    readiness.complete(STATE_TASK);
    serveOwnWorkload(deps, config, pods);
    readiness.complete(PROXY_TASK);
    zds = startZds();
  };
  if (xds === undefined) onState();
  else
    xds
      .whenReady()
      .then(onState)
      .catch((error) => deps.onFatal(MeshError.from(error, 'SYSCALL_FAILED', 'serving cannot begin')));

  const admin = adminRoutes({
    store,
    secrets,
    connections,
    pods,
    pending: () => zds?.pending() ?? new Map(),
    config,
    logControl: deps.logControl,
    shutdown: deps.shutdown,
  });
  const adminPort = await serve('admin', '127.0.0.1', config.adminPort, admin);
  if (config.ipv6 && hasLoopbackV6()) await serve('admin', '::1', adminPort, admin);
  const exposition = metrics.exposition;
  const statsPort = await serve('metrics', undefined, config.statsPort, {
    '/metrics': exposition,
    '/stats/prometheus': exposition,
  });

  return {
    store,
    secrets,
    connections,
    pods,
    readiness,
    ports: {
      admin: adminPort,
      stats: statsPort,
      readiness: readinessPort,
      get self() {
        return self?.port;
      },
    },
    drain: async () => {
      readiness.block('draining');
      const result = await drain(
        {
          startDrain: () => {
            zds?.stop();
            pods.startDrain();
            self?.startDrain();
          },
          get liveCount() {
            return connections.size + pods.liveCount + (self?.liveCount ?? 0);
          },
          cut: () => connections.closeAll(),
        },
        config.drainMs,
        scope,
      );
      scope.close();
      return result;
    },
    close: () => {
      connections.closeAll();
      scope.close();
    },
  };
}

function resolversOf({ resolvConf, log }: DataPlaneDeps, config: ZtunnelConfig): ResolverSettings {
  const settings = parseResolvConf(resolvConf ?? '');
  if (config.dnsProxy !== undefined && settings.servers.length === 0)
    log.warn('resolv.conf names no server: captured pods find the names of the mesh only', {
      fix: 'give ztunnel a DNS policy with a server, or switch its DNS proxy off (ISTIO_META_DNS_CAPTURE=false)',
    });
  return settings;
}

/** Dedicated mode: the one workload is served where this process runs, once the state is there to decide by. */
function serveOwnWorkload({ ownNetns }: DataPlaneDeps, { workload }: ZtunnelConfig, pods: Pods): void {
  if (workload !== undefined && ownNetns !== undefined)
    pods.add(`${workload.namespace}/${workload.name}`, workload, ownNetns);
}

/** Undefined: none are configured, and nothing is asked or kept for them. */
async function revocationsOf(
  { log, random }: DataPlaneDeps,
  { crlPath }: ZtunnelConfig,
  scope: Scope,
): Promise<Revocations | undefined> {
  if (crlPath === undefined) return undefined;
  const revocations = new Revocations();
  await followCrlFile({ revocations, log: log.scoped('identity'), scope, random }, { path: crlPath });
  return revocations;
}

/** Unreadable counts as yes, as in the field (ztunnel.md §1.9), except where the kernel has no IPv6 at all. */
function hasLoopbackV6(): boolean {
  try {
    return readFileSync('/proc/sys/net/ipv6/conf/lo/disable_ipv6', 'utf8').trim() !== '1';
  } catch (error) {
    return errnoOf(error) !== 'ENOENT';
  }
}

function serverOf(log: Logger, scope: Scope) {
  return (
    name: string,
    host: string | undefined,
    port: number,
    routes: Parameters<typeof serveHttp>[2],
  ): Promise<number> => serveHttp({ log: log.scoped(name), scope }, { name, host, port }, routes);
}

/** A change of policy concerns every connection; a change of a workload those of its pod. */
function followChanges(
  scope: Scope,
  store: Store,
  served: () => readonly Pod[],
  connections: Connections,
  nodeName: string | undefined,
): void {
  scope.onClose(store.onPolicyChange(() => void connections.rejudge()));
  scope.onClose(
    store.onWorkloadChange((changes) => {
      for (const { after } of changes) {
        if (after === undefined || (nodeName !== undefined && after.node !== nodeName)) continue;
        for (const { uid, info } of served())
          if (info.name === after.name && info.namespace === after.namespace) connections.rejudge(uid);
      }
    }),
  );
}

function startXds(
  { openXds, log }: DataPlaneDeps,
  config: ZtunnelConfig,
  scope: Scope,
  store: Store,
  metrics: ReturnType<typeof createZtunnelMetrics>,
): XdsClient | undefined {
  if (openXds === undefined) return undefined;
  const node = ztunnelNode({
    ...config,
    nodeName: config.nodeName ?? '',
    metadata: config.nodeMetadata,
  });
  return startXdsClient(
    { open: openXds, store, log: log.scoped('xds'), scope, observe: metrics.xds },
    { node, onDemand: config.xdsOnDemand },
  );
}
