// A tunnel inside a tunnel, to a destination on another network (ztunnel.md §5.8): the outer one ends at that network's
// gateway, which passes on what it cannot read; the inner one is TLS and HTTP/2 again, as far as the destination.
// Inner sessions serve one connection each: pooled, every connection would end at the endpoint the gateway chose first.

import { formatSocketAddress } from '#net/host-port.ts';
import { type ClientSession, type ClientSessionDeps, openClientSession } from './client.ts';
import type { HboneHeaders, HboneStream, HboneTunnel, PoolKey } from './hbone.ts';
import { SESSION_LIMITS, type SessionLimits } from './settings.ts';
import { duplexOf } from './stream-duplex.ts';

export type NestedDeps = Omit<ClientSessionDeps, 'dial'>;

/**
 * Takes `outer` over, also when it fails. `key.destination` is the gateway; `key.expected` is who may be at the inner
 * end. Rejects like HbonePool.connect.
 */
export async function openNestedTunnel(
  deps: NestedDeps,
  outer: HboneStream,
  key: PoolKey,
  authority: string,
  headers: HboneHeaders,
  limits: SessionLimits = SESSION_LIMITS,
): Promise<HboneTunnel> {
  const where = `${authority} behind the gateway ${formatSocketAddress(key.destination)}`;
  let session: ClientSession;
  try {
    session = await openClientSession(
      { ...deps, dial: () => Promise.resolve(duplexOf(outer)) },
      key,
      limits,
      where,
    );
  } catch (error) {
    // Also when there was no certificate and so nobody to close it.
    outer.reset('CANCEL');
    throw error;
  }
  session.onStreamClosed(() => session.closeGracefully());
  try {
    return await session.connect(authority, headers);
  } catch (error) {
    session.closeGracefully();
    throw error;
  }
}
