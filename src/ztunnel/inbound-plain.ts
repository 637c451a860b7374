// Plaintext that reaches a pod on 15006: no identity, but the same policies (ztunnel.md §7.5). Whether plaintext is let
// in at all is a policy too (§7.6).

import { MeshError } from '#base/errors.ts';
import type { HboneStream } from '#hbone/hbone.ts';
import { formatSpiffeId } from '#model/identity.ts';
import { guessService } from '#model/inbound.ts';
import type { Workload } from '#model/workload.ts';
import { formatSocketAddress } from '#net/host-port.ts';
import type { CapturedAddresses } from './capture/capture.ts';
import type { InboundSubject } from './connections.ts';
import { dialPlain } from './dial.ts';
import { type InboundDeps, type InboundOptions, sourceFor } from './inbound.ts';
import { judge, policyRejection } from './judge.ts';
import { ProxiedConnection } from './proxied.ts';

/** Takes `opener` over; never rejects. */
export async function serveInboundPlain(
  deps: InboundDeps,
  options: InboundOptions,
  opener: HboneStream,
  { peer, originalDst }: CapturedAddresses,
): Promise<void> {
  const { pod, store, telemetry, connections } = deps;
  const refuse = (error: MeshError): void => {
    opener.reset('CANCEL');
    telemetry.refused({ direction: 'inbound', src: peer, dst: originalDst, error });
  };
  if (options.illegalPorts.has(originalDst.port))
    return refuse(new MeshError('NO_ROUTE', `port ${originalDst.port} belongs to the proxy itself`));
  let local: Workload;
  try {
    local = await deps.local.get();
  } catch (error) {
    return refuse(MeshError.from(error, 'WORKLOAD_UNKNOWN', 'the local workload is unknown'));
  }
  const subject: InboundSubject = {
    podUid: pod.uid,
    sourceIdentity: undefined,
    source: peer,
    destination: originalDst,
  };
  const record = telemetry.opened({
    direction: 'inbound',
    src: peer,
    dst: originalDst,
    hboneAuthority: undefined,
    source: store.workloadByIp(options.network, peer.ip),
    sourceIdentity: undefined,
    destination: local,
    destinationIdentity: formatSpiffeId(local),
    service: guessService(store, local, originalDst.port, undefined)?.service,
    isSecured: false,
  });
  const connection = new ProxiedConnection(connections, record, {
    podUid: pod.uid,
    direction: 'inbound',
    view: () => ({
      src: formatSocketAddress(peer),
      originalDst: null,
      actualDst: formatSocketAddress(originalDst),
      protocol: 'TCP',
    }),
    subject,
    judgedUnder: store.configVersion,
  });
  connection.undo(() => opener.reset('CANCEL'));
  const denial = judge(deps, local, subject);
  if (denial !== undefined) return connection.close(policyRejection(denial));
  try {
    const source = sourceFor(peer.ip, originalDst.ip);
    connection.start(
      opener,
      await dialPlain({ capture: pod.capture, io: deps.io }, originalDst, connection, source),
    );
  } catch (error) {
    connection.close(MeshError.from(error, 'CONNECT_FAILED', 'connecting to the application failed'));
  }
}
