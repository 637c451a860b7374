// Outbound sessions of one pod, shared by the streams to one destination (ztunnel.md §5.5): which session takes the next
// stream, when a new one is opened, when an unused one goes.
//
// Two differences from the peer, neither visible on the wire: a session that was full takes streams again when it has
// room, and callers who waited for a session that could not be opened fail with it instead of trying one after another.

import type net from 'node:net';
import type { Clock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { SpiffeId } from '#model/identity.ts';
import { formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Revocations } from '#tls/revocation.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { type ClientSession, openClientSession } from './client.ts';
import type { HbonePool, PoolKey } from './hbone.ts';
import type { SessionShared } from './http2/session.ts';
import { createSessionShared } from './session-life.ts';
import { SESSION_LIMITS, type SessionLimits } from './settings.ts';

export interface HbonePoolDeps {
  /** A connected socket; its failures pass through when they are MeshErrors. */
  readonly dial: (destination: SocketAddress) => Promise<net.Socket>;
  readonly secret: (id: SpiffeId) => Promise<WorkloadSecret>;
  readonly log: Logger;
  readonly scope: Scope;
  readonly clock: Clock;
  readonly revocations?: Revocations | undefined;
  /** Another implementation of a session, for tests. */
  readonly openSession?: typeof openClientSession;
  /** Of the data plane; a pool alone makes its own. */
  readonly shared?: SessionShared;
}

export interface HbonePoolLimits extends Partial<SessionLimits> {
  /** Streams per session; the peer's own limit counts if it is lower. */
  readonly maxStreams?: number;
  /** A session is dropped so long after the last stream was given to it. */
  readonly idleMs?: number;
}

/** All sessions of one key. */
interface Lane {
  readonly pooled: Set<PooledSession>;
  /** One connection at a time is opened per key. */
  opening: Promise<PooledSession> | undefined;
}

interface PooledSession {
  readonly client: ClientSession;
  /** Streams given out by `checkout` that are not requested yet. */
  promised: number;
  lastUsedMs: number;
}

export function createHbonePool(deps: HbonePoolDeps, limits: HbonePoolLimits = {}): HbonePool {
  const { clock } = deps;
  const { maxStreams = 100, idleMs = 300_000 } = limits;
  const { shared = createSessionShared(clock), openSession = openClientSession } = deps;
  const sessionLimits: SessionLimits = { ...SESSION_LIMITS, ...limits };
  const scope = deps.scope.child('hbone pool');
  const lanes = new Map<string, Lane>();
  /** Pooled or on its way out with streams still open. */
  const live = new Set<ClientSession>();

  const sweep = setInterval(
    () => {
      const unusedSinceMs = clock.monotonicMs() - idleMs;
      for (const [name, lane] of lanes) {
        for (const session of lane.pooled) if (session.lastUsedMs <= unusedSinceMs) drop(name, lane, session);
      }
    },
    Math.max(10, idleMs / 10),
  ).unref();
  scope.onClose(() => {
    clearInterval(sweep);
    for (const client of [...live]) client.cut('this end shut down');
  });

  const forgetIfEmpty = (name: string, lane: Lane): void => {
    // A late session of an earlier lane must not take the present one with it.
    const isPresent = lanes.get(name) === lane;
    if (isPresent && lane.pooled.size === 0 && lane.opening === undefined) lanes.delete(name);
  };

  const drop = (name: string, lane: Lane, session: PooledSession): void => {
    lane.pooled.delete(session);
    forgetIfEmpty(name, lane);
    if (session.client.openStreams + session.promised === 0) session.client.closeGracefully();
  };

  const open = async (name: string, lane: Lane, key: PoolKey): Promise<PooledSession> => {
    try {
      const client = await openSession(
        { ...deps, shared, revocations: deps.revocations },
        key,
        sessionLimits,
      );
      if (scope.closed) {
        client.cut('this end shut down');
        throw shutDown();
      }
      const session: PooledSession = { client, promised: 1, lastUsedMs: clock.monotonicMs() };
      live.add(client);
      lane.pooled.add(session);
      client.onStreamClosed(() => {
        if (!lane.pooled.has(session) && client.openStreams === 0) client.closeGracefully();
      });
      client.onClosed(() => {
        live.delete(client);
        drop(name, lane, session);
      });
      return session;
    } finally {
      lane.opening = undefined;
      forgetIfEmpty(name, lane);
    }
  };

  /** A session with room, and the promise of a place on it. */
  const checkout = async (key: PoolKey): Promise<PooledSession> => {
    const name = nameOf(key);
    for (;;) {
      if (scope.closed) throw shutDown();
      let lane = lanes.get(name);
      if (lane === undefined) {
        lane = { pooled: new Set(), opening: undefined };
        lanes.set(name, lane);
      }
      const unsettled: Promise<void>[] = [];
      for (const session of lane.pooled) {
        const { client } = session;
        if (!client.usable) drop(name, lane, session);
        else if (client.peerMaxStreams === undefined) unsettled.push(client.settled);
        else if (client.openStreams + session.promised < Math.min(maxStreams, client.peerMaxStreams)) {
          session.promised += 1;
          return session;
        }
      }
      if (lane.opening !== undefined) await lane.opening;
      // Until the peer's limit is known, a session takes the stream it was opened for and no other.
      else if (unsettled.length > 0) await Promise.race(unsettled);
      else {
        lanes.set(name, lane);
        lane.opening = open(name, lane, key);
        return lane.opening;
      }
    }
  };

  return {
    async connect(key, authority, headers) {
      for (let isRetry = false; ; isRetry = true) {
        const session = await checkout(key);
        session.lastUsedMs = clock.monotonicMs();
        // The request counts from here on.
        session.promised -= 1;
        try {
          return await session.client.connect(authority, headers);
        } catch (error) {
          // The peer proved that it did nothing with the request, so it may be repeated, once.
          if (isRetry || !(error instanceof MeshError) || error.details.unprocessed !== true) throw error;
          const lane = lanes.get(nameOf(key));
          if (lane?.pooled.has(session)) drop(nameOf(key), lane, session);
        }
      }
    },
    get sessionCount() {
      return live.size;
    },
    close() {
      scope.close();
    },
  };
}

function nameOf(key: PoolKey): string {
  return [key.source, key.expected.join(','), formatSocketAddress(key.destination), key.downstreamIp].join(
    ' ',
  );
}

function shutDown(): MeshError {
  return new MeshError('HBONE_DRAINING', 'the pod of this connection is going away');
}
