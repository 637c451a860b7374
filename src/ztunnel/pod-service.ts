// Everything that serves one pod: its certificate, its pool of tunnels, its HBONE server, and the way each captured
// connection takes. All of it ends with the pod's scope.

import type { Clock, Random } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { PendingBudget } from '#dns/budget.ts';
import type { DnsCounters } from '#dns/observe.ts';
import type { ResolverSettings } from '#dns/resolv-conf.ts';
import type { ResolveOptions as DnsResolveOptions } from '#dns/resolve.ts';
import { serveDns } from '#dns/server.ts';
import type { HbonePool, HboneServer } from '#hbone/hbone.ts';
import type { SessionShared } from '#hbone/http2/session.ts';
import { openNestedTunnel } from '#hbone/nested.ts';
import { createHbonePool } from '#hbone/pool.ts';
import { createHboneServer } from '#hbone/server.ts';
import type { Store } from '#model/store.ts';
import type { Port } from '#net/host-port.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Revocations } from '#tls/revocation.ts';
import type { SecretManager, WorkloadSecret } from '#tls/secret.ts';
import {
  type CapturedConnection,
  INBOUND_HBONE_PORT,
  INBOUND_PLAINTEXT_PORT,
  OUTBOUND_PORT,
  SOCKS5_PORT,
} from './capture/capture.ts';
import type { ZtunnelConfig } from './config.ts';
import type { Connections } from './connections.ts';
import { dialTunnel } from './dial.ts';
import type { Traceparents } from './headers.ts';
import { type InboundDeps, type InboundOptions, serveInbound } from './inbound.ts';
import { serveInboundPlain } from './inbound-plain.ts';
import { createLocalWorkload, type LocalWorkload } from './local-workload.ts';
import type { OpenNested } from './open-route.ts';
import { type OutboundDeps, serveOutbound } from './outbound.ts';
import { identityOf, type Pod, type PodService } from './pods.ts';
import type { Telemetry } from './record.ts';
import type { ResolveHostname } from './resolve.ts';
import { TcpEnd, type TcpIo } from './tcp.ts';

/** Ports of the proxy itself: reaching them through the proxy would be a loop (ztunnel.md §2). */
const ILLEGAL_PORTS: ReadonlySet<number> = new Set([
  OUTBOUND_PORT,
  INBOUND_PLAINTEXT_PORT,
  INBOUND_HBONE_PORT,
]);
const ILLEGAL_PORTS_WITH_SOCKS5: ReadonlySet<number> = new Set([...ILLEGAL_PORTS, SOCKS5_PORT]);

export interface PodServiceDeps {
  readonly store: Store;
  readonly secrets: Pick<SecretManager, 'get'>;
  readonly io: TcpIo;
  readonly sessions: SessionShared;
  /** Absent: no revocation lists are configured. */
  readonly revocations: Revocations | undefined;
  readonly connections: Connections;
  readonly telemetry: Telemetry;
  readonly traceparents: Traceparents;
  readonly log: Logger;
  readonly policyInfoLogging: boolean;
  readonly random: Random;
  readonly prepare: OutboundDeps['prepare'];
  readonly prepareInbound: InboundDeps['prepareInbound'];
  readonly clock: Clock;
  readonly resolve: ResolveHostname;
  readonly onLookup: OutboundDeps['onLookup'];
  /** What the DNS proxies of all pods share; undefined where this thread serves none. */
  readonly dns:
    | {
        readonly resolvers: ResolverSettings;
        readonly budget: PendingBudget;
        readonly counters: DnsCounters;
        readonly log: Logger;
      }
    | undefined;
  /** Open accepted sockets, for the gauge. */
  readonly onSocket: (reporter: 'source' | 'destination', change: 1 | -1) => void;
}

export function createPodService(deps: PodServiceDeps, config: ZtunnelConfig, pod: Pod): PodService {
  const local = createLocalWorkload({ store: deps.store, scope: pod.scope }, pod.info);
  startDns(deps, config, pod, local);
  const pool = createPool(deps, config, pod);
  const { log, revocations } = deps;
  const nested = { secret: deps.secrets.get.bind(deps.secrets), log, shared: deps.sessions, revocations };
  const openNested: OpenNested = (...request) => openNestedTunnel(nested, ...request);
  const outboundDeps: OutboundDeps = { ...deps, pod, local, pool, openNested };
  const outboundOptions = {
    network: config.network,
    illegalPorts: config.socks5 ? ILLEGAL_PORTS_WITH_SOCKS5 : ILLEGAL_PORTS,
  };
  const inboundDeps: InboundDeps = { ...deps, pod, local };
  const inboundOptions: InboundOptions = {
    ...outboundOptions,
    responseBaggage: config.responseBaggage,
    localhostTunnel: config.localhostTunnel,
  };
  const tunnels = new TunnelServers((connectionIp) =>
    createServer(deps, inboundDeps, inboundOptions, connectionIp),
  );
  const crashed = (error: unknown): void =>
    deps.log.error('a connection ended by an unexpected failure', { error: reasonOf(error) });
  const socks5 = async (opener: TcpEnd, connection: CapturedConnection): Promise<void> => {
    // Loaded with the first one: hardly anybody uses it.
    const { serveSocks5 } = await import('./serve-socks5.ts');
    await serveSocks5(outboundDeps, { ...outboundOptions, dns: dnsOptions(config) }, opener, connection.peer);
  };
  let openingCount = 0;
  const opened = (): void => {
    openingCount--;
  };
  return {
    onConnection: (connection) => {
      const { direction, handle, originalDst } = connection;
      const isOutbound = direction === 'outbound' || direction === 'socks5';
      const reporter = isOutbound ? 'source' : 'destination';
      deps.onSocket(reporter, 1);
      const whenClosed = (): void => deps.onSocket(reporter, -1);
      if (direction === 'inbound-hbone') {
        const socket = handle.toSocket();
        socket.once('close', whenClosed);
        return tunnels.at(originalDst.ip).accept(socket);
      }
      const opener = new TcpEnd(deps.io, handle);
      opener.whenClosed = whenClosed;
      if (isOutbound) deps.sessions.outboxes.expectMore();
      const served =
        direction === 'socks5'
          ? socks5(opener, connection)
          : isOutbound
            ? serveOutbound(outboundDeps, outboundOptions, opener, connection)
            : serveInboundPlain(inboundDeps, inboundOptions, opener, connection);
      openingCount++;
      served.then(opened, (error: unknown) => {
        opened();
        crashed(error);
      });
    },
    startDrain: () => tunnels.drain(),
    get liveCount() {
      return openingCount + tunnels.liveCount;
    },
  };
}

/** Until the pod goes: what is still being drained may need names, too. */
function startDns(deps: PodServiceDeps, config: ZtunnelConfig, pod: Pod, client: LocalWorkload): void {
  const sockets = pod.capture.dns;
  const { store: view, clock, random, dns } = deps;
  if (sockets === undefined || dns === undefined) return;
  const server = serveDns({ view, client, sockets, clock, random, ...dns }, dnsOptions(config));
  pod.scope.onClose(() => server.close());
}

function dnsOptions(config: ZtunnelConfig): DnsResolveOptions {
  return {
    clusterDomain: config.clusterDomain,
    preferredNamespace: config.preferredServiceNamespace,
    ipv6: config.ipv6,
  };
}

function createPool(deps: PodServiceDeps, config: ZtunnelConfig, pod: Pod): HbonePool {
  const pool = createHbonePool(
    {
      dial: (destination) => dialTunnel(pod.capture, destination),
      secret: (identity) => deps.secrets.get(identity),
      log: deps.log,
      scope: pod.scope,
      clock: deps.clock,
      shared: deps.sessions,
      revocations: deps.revocations,
    },
    {
      maxStreams: config.poolMaxStreams,
      idleMs: config.poolUnusedMs,
    },
  );
  pod.scope.onClose(() => pool.close());
  return pool;
}

/**
 * One server per address of the pod, nearly always one: the address a tunnel came to is the target of its requests,
 * and a request does not carry it.
 */
class TunnelServers {
  readonly #create: (connectionIp: IpAddress) => HboneServer;
  readonly #byIp = new Map<IpAddress, HboneServer>();

  constructor(create: (connectionIp: IpAddress) => HboneServer) {
    this.#create = create;
  }

  at(connectionIp: IpAddress): HboneServer {
    const known = this.#byIp.get(connectionIp);
    if (known !== undefined) return known;
    const server = this.#create(connectionIp);
    this.#byIp.set(connectionIp, server);
    return server;
  }

  get liveCount(): number {
    let count = 0;
    for (const server of this.#byIp.values()) count += server.liveCount;
    return count;
  }

  drain(): void {
    for (const server of this.#byIp.values()) server.drain();
  }
}

function createServer(
  deps: PodServiceDeps,
  inbound: InboundDeps,
  options: InboundOptions,
  connectionIp: IpAddress,
): HboneServer {
  const { pod, local } = inbound;
  const server = createHboneServer(
    {
      secret: () => ownSecret(deps.secrets, pod, local),
      onRequest: (request) => {
        serveInbound(inbound, options, request, connectionIp).catch((error) =>
          deps.log.error('a request ended by an unexpected failure', { error: reasonOf(error) }),
        );
      },
      onRefusedPeer: (error, address) =>
        deps.telemetry.refused({
          direction: 'inbound',
          src: address,
          dst: { ip: connectionIp, port: INBOUND_HBONE_PORT as Port },
          error,
        }),
      log: deps.log,
      scope: pod.scope,
      shared: deps.sessions,
      revocations: deps.revocations,
    },
    {},
  );
  pod.scope.onClose(() => server.close());
  return server;
}

async function ownSecret(
  secrets: PodServiceDeps['secrets'],
  pod: Pod,
  local: LocalWorkload,
): Promise<WorkloadSecret> {
  return secrets.get(identityOf(pod, await local.get()));
}
