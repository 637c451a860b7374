// The data plane: creates and owns everything that serves a node's pods, in the order of ztunnel.md §1.3: control plane,
// authority, CNI agent, admin port, and a data path (data-path.ts); where several threads serve, each of the others has a data
// path of its own and is told what it needs (workers/). Everything is reached from what this function makes, so several data
// planes can live in one process.

import { readFileSync } from 'node:fs';
import type { Clock, Random } from '#base/clock.ts';
import { errnoOf, MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { createPendingBudget } from '#dns/budget.ts';
import { parseResolvConf, type ResolverSettings } from '#dns/resolv-conf.ts';
import { createStore, type Store } from '#model/store.ts';
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
import type { DescriptorGuard } from './capture/descriptor-guard.ts';
import type { ZtunnelConfig } from './config.ts';
import type { Connections } from './connections.ts';
import { createDataPath, type DataPathDeps } from './data-path.ts';
import { type DrainResult, drain } from './drain.ts';
import { type HttpRoutes, serveHttp } from './http.ts';
import { createZtunnelMetrics } from './metrics.ts';
import type { Pods } from './pods.ts';
import { followLocalIdentities } from './prefetch.ts';
import { createReadiness, type Readiness, readinessAnswer } from './readiness.ts';
import type { QueryDns } from './resolve.ts';
import type { StartWorkers, Workers } from './workers/group.ts';
import { type PacketConnection, startZdsClient, type ZdsClient } from './zds.ts';

const STATE_TASK = 'state manager';
const PROXY_TASK = 'proxy';
/** Less than a probe waits by default, so that it hears the reason. */
const THREAD_ANSWER_MS = 900;

export interface DataPlaneDeps {
  readonly log: Logger;
  readonly logControl: LogControl;
  readonly clock: Clock;
  readonly random: Random;
  readonly openCapture: OpenCapture;
  /** Absent: this thread serves alone. */
  readonly startWorkers?: StartWorkers;
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
  readonly spareMemory?: DataPathDeps['spareMemory'];
  /** Absent: every connection to admin, metrics and readiness is taken. */
  readonly descriptors?: DescriptorGuard;
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
  /** Of this thread; further ones have their own. */
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
  const serve = serverOf(deps, serverScope);
  let silent: Workers['silent'] | undefined;
  const readinessPort = await serve('readiness', undefined, config.readinessPort, {
    '/healthz/ready': async ({ method }) => {
      if (method !== 'GET') return { status: 405, body: 'only GET is allowed\n' };
      // A thread that answers nothing serves nothing: the probe must see that as it sees it of a single one.
      return readinessAnswer(readiness, await silent?.(THREAD_ANSWER_MS));
    },
  });

  const metrics = createZtunnelMetrics({ istioVersion: config.istioVersion });
  // Their questions come with the pods, when all that is asked is there.
  const workers = await deps.startWorkers?.(config, {
    secret: (identity) => secrets.get(identity),
    demand: (name) => demand(name),
  });
  if (workers !== undefined) scope.onClose(() => workers.close());
  silent = workers?.silent;
  const secrets = createSecretManager(
    { ca: deps.ca, clock, log: log.scoped('identity'), random, scope, onChange: workers?.secret },
    { ttlSeconds: config.secretTtlSeconds, tls: config.tls },
  );
  scope.onClose(() => secrets.close());
  const revocations = await revocationsOf(deps, config, scope, workers);
  const store = createStore({ localNode: config.nodeName, onApply: workers?.apply });
  // One workload asks for its certificate when it needs it; nothing is fetched ahead (ztunnel.md §1.8).
  if (config.nodeName !== undefined && config.mode === 'shared')
    scope.onClose(followLocalIdentities(store, secrets, config.nodeName));
  // Asked for when connections come, long after the client has been made.
  const demand = (name: string): Promise<DemandOutcome> => xds?.demand(name) ?? Promise.resolve('answered');
  const path = createDataPath(
    {
      log,
      podsLog: log.scoped('inpod'),
      clock,
      random,
      scope,
      openCapture: deps.openCapture,
      queryDns: deps.queryDns,
      store,
      secrets,
      revocations,
      demand,
      metrics,
      dns: {
        resolvers: resolversOf(deps, config),
        budget: createPendingBudget(),
        counters: metrics.dns,
        log: log.scoped('dns'),
      },
      unread: workers?.unread,
      spareMemory: deps.spareMemory,
      onPodCount: metrics.proxy,
      others: workers,
    },
    config,
  );
  const { connections, pods } = path;
  if (config.workload === undefined) readiness.complete(PROXY_TASK);
  await deps.loadState?.({ store, log: log.scoped('state'), scope });
  const startZds = (): ZdsClient | undefined =>
    deps.zds &&
    startZdsClient(
      {
        ...deps.zds,
        pods,
        settle: workers?.settle,
        readiness,
        log: log.scoped('inpod'),
        scope,
        random,
        onFatal: deps.onFatal,
        onPending: metrics.pending,
      },
      { path: config.zdsPath },
    );
  let zds: ZdsClient | undefined;
  const xds = startXds(deps, config, scope, store, metrics, workers);
  const onState = (): void => {
    if (scope.closed) return;
    try {
      path.startSelf();
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
    workers,
  });
  const adminPort = await serve('admin', '127.0.0.1', config.adminPort, admin);
  if (config.ipv6 && hasLoopbackV6()) await serve('admin', '::1', adminPort, admin);
  const exposition: HttpRoutes[string] =
    workers === undefined
      ? metrics.exposition
      : async (request) => metrics.exposition(request, await workers.metrics());
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
        return path.self?.port;
      },
    },
    drain: async () => {
      readiness.block('draining');
      const elsewhere = workers?.drain();
      const own = drain(
        {
          startDrain: () => {
            zds?.stop();
            path.startDrain();
          },
          get liveCount() {
            return path.liveCount;
          },
          cut: () => connections.closeAll(),
        },
        config.drainMs,
        scope,
      );
      const [result, others = []] = await Promise.all([own, elsewhere]);
      scope.close();
      return together([result, ...others]);
    },
    close: () => {
      connections.closeAll();
      scope.close();
    },
  };
}

/** Of several threads: finished when all have. */
function together(results: readonly DrainResult[]): DrainResult {
  const cuts = results.flatMap((result) => (result.kind === 'deadline' ? [result.cut] : []));
  if (cuts.length === 0) return { kind: 'finished' };
  return { kind: 'deadline', cut: cuts.reduce((sum, cut) => sum + cut, 0) };
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
  workers: Workers | undefined,
): Promise<Revocations | undefined> {
  if (crlPath === undefined) return undefined;
  const revocations = new Revocations();
  const elsewhere = workers === undefined ? {} : { elsewhere: workers.revocations };
  await followCrlFile(
    { revocations, log: log.scoped('identity'), scope, random, ...elsewhere },
    { path: crlPath },
  );
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

function serverOf({ log, descriptors }: DataPlaneDeps, scope: Scope) {
  return (
    name: string,
    host: string | undefined,
    port: number,
    routes: Parameters<typeof serveHttp>[2],
  ): Promise<number> =>
    serveHttp({ log: log.scoped(name), scope, descriptors }, { name, host, port }, routes);
}

function startXds(
  { openXds, log }: DataPlaneDeps,
  config: ZtunnelConfig,
  scope: Scope,
  store: Store,
  metrics: ReturnType<typeof createZtunnelMetrics>,
  workers: Workers | undefined,
): XdsClient | undefined {
  if (openXds === undefined) return undefined;
  const node = ztunnelNode({
    ...config,
    nodeName: config.nodeName ?? '',
    metadata: config.nodeMetadata,
  });
  return startXdsClient(
    { open: openXds, store, log: log.scoped('xds'), scope, observe: metrics.xds, settle: workers?.settle },
    { node, onDemand: config.xdsOnDemand },
  );
}
