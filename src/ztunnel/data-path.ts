// What one thread needs to serve pods: its connections, its pools of tunnels, its sockets. The owner has one, and where
// several threads serve (workers/), each of the others. All it knows of the mesh it is given.

import type { Clock, Random } from '#base/clock.ts';
import type { Scope } from '#base/scope.ts';
import type { SharedCount } from '#hbone/http2/receive-budget.ts';
import { createSessionShared } from '#hbone/session-life.ts';
import type { Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Revocations } from '#tls/revocation.ts';
import type { SecretManager } from '#tls/secret.ts';
import type { DemandOutcome } from '#xds/demands.ts';
import type { OpenCapture } from './capture/capture.ts';
import type { ZtunnelConfig } from './config.ts';
import { Connections } from './connections.ts';
import { Traceparents } from './headers.ts';
import { createJudge } from './judge.ts';
import type { ConnectionMetrics } from './metrics.ts';
import { prepareInbound, prepareOutbound } from './on-demand.ts';
import { createPodService, type PodServiceDeps } from './pod-service.ts';
import { type Pod, Pods, type PodsDeps } from './pods.ts';
import { createTelemetry } from './record.ts';
import { createResolver, type QueryDns, systemDns } from './resolve.ts';
import { type SelfProxy, startSelfProxy } from './self-proxy.ts';
import { giveBackSpareMemory, type SpareMemoryDeps } from './spare-memory.ts';
import { TcpIo } from './tcp.ts';

export interface DataPathDeps {
  readonly log: Logger;
  /** Of pods that come and go: said by the owner alone. */
  readonly podsLog: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly scope: Scope;
  readonly openCapture: OpenCapture;
  /** Absent: the servers of /etc/resolv.conf. */
  readonly queryDns?: QueryDns | undefined;
  readonly store: Store;
  readonly secrets: Pick<SecretManager, 'get'>;
  readonly revocations: Revocations | undefined;
  /** Asked for when connections come, on demand only. */
  readonly demand: (name: string) => Promise<DemandOutcome>;
  readonly metrics: ConnectionMetrics;
  /** Absent where this thread serves no DNS. */
  readonly dns?: PodServiceDeps['dns'];
  /** Unread bytes of all threads; absent: this one is alone. */
  readonly unread?: SharedCount | undefined;
  /** Absent: what bulk leaves behind stays, as where several data planes share a process. */
  readonly spareMemory?: Pick<SpareMemoryDeps, 'busyShare' | 'release'> | undefined;
  readonly onPodCount: PodsDeps['onCount'];
  readonly others?: PodsDeps['others'];
}

export interface DataPath {
  readonly connections: Connections;
  readonly pods: Pods;
  /** Serves ztunnel's own workload, if it is known who that is. @throws MeshError PORT_IN_USE */
  startSelf(): void;
  readonly self: SelfProxy | undefined;
  /** No new work; what is under way goes on. */
  startDrain(): void;
  /** Connections, tunnels, and whatever may yet become one. */
  readonly liveCount: number;
}

export function createDataPath(deps: DataPathDeps, config: ZtunnelConfig): DataPath {
  const { log, clock, random, scope, store, metrics } = deps;
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
  const proxyLog = log.scoped('proxy');
  const sessions = createSessionShared(clock, deps.unread);
  const io = new TcpIo(sessions.outboxes);
  if (deps.spareMemory !== undefined)
    giveBackSpareMemory({ clock, scope, ...deps.spareMemory }, [
      io.slabs,
      sessions.outboxes,
      sessions.blocks,
    ]);
  const serviceDeps: PodServiceDeps = {
    store,
    secrets: deps.secrets,
    io,
    sessions,
    revocations: deps.revocations,
    connections,
    telemetry: createTelemetry({ log, clock, traffic: metrics.traffic }),
    traceparents: new Traceparents(),
    log: proxyLog,
    policyInfoLogging: config.policyInfoLogging,
    random,
    clock,
    resolve: createResolver({ query: deps.queryDns ?? systemDns(), clock }, { ipv6: config.ipv6 }),
    onLookup: metrics.lookup,
    dns: deps.dns,
    prepare: config.xdsOnDemand
      ? (source: Workload, destination: IpAddress) =>
          prepareOutbound({ view: store, demand: deps.demand, network: config.network }, source, destination)
      : undefined,
    prepareInbound: config.xdsOnDemand
      ? (local: Workload, authority: string) =>
          prepareInbound(
            { view: store, demand: deps.demand, clusterDomain: config.clusterDomain },
            local,
            authority,
          )
      : undefined,
    onSocket: metrics.socket,
  };
  const pods: Pods = new Pods({
    openCapture: deps.openCapture,
    serve: (pod: Pod) => createPodService(serviceDeps, config, pod),
    connections,
    scope,
    log: deps.podsLog,
    onCount: deps.onPodCount,
    onRefused: metrics.refused,
    others: deps.others,
  });
  const served = (): Pod[] => [...pods.entries().values(), ...(self === undefined ? [] : [self.pod])];
  followChanges(scope, store, served, connections, config.nodeName);
  return {
    connections,
    pods,
    startSelf: () => {
      const { podName: name, podNamespace: namespace, serviceAccount } = config;
      if (name === '' || namespace === '' || serviceAccount === '') return;
      self = startSelfProxy(
        { serve: (pod) => createPodService(serviceDeps, config, pod), log: proxyLog, scope },
        { name, namespace, serviceAccount },
        { ...config, port: config.selfPort },
      );
    },
    get self() {
      return self;
    },
    startDrain: () => {
      pods.startDrain();
      self?.startDrain();
    },
    get liveCount() {
      return connections.size + pods.liveCount + (self?.liveCount ?? 0);
    },
  };
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
