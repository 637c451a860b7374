// ztunnel as a member of the mesh: HBONE on 15008 of its own network for its own workload, so that whoever collects metrics
// can do it over mutual TLS (ztunnel.md §7.8). Applications are its own ports, so no source address is kept.

import type { Scope } from '#base/scope.ts';
import { listenTcp } from '#linux/socket.ts';
import { acceptFrom, TcpHandle } from '#linux/tcp-handle.ts';
import type { Logger } from '#telemetry/log.ts';
import { INBOUND_HBONE_PORT } from './capture/capture.ts';
import type { Pod, PodInfo, PodService } from './pods.ts';

/** In place of a Kubernetes uid, which the agent gives to pods only. */
const SELF_UID = 'ztunnel itself';

export interface SelfProxy {
  readonly pod: Pod;
  /** The bound port, when 0 was asked for. */
  readonly port: number;
  startDrain(): void;
  readonly liveCount: number;
}

export interface SelfProxyOptions {
  readonly ipv6: boolean;
  readonly reusePort: boolean;
  readonly port?: number;
}

/** Listens before it returns. @throws MeshError PORT_IN_USE */
export function startSelfProxy(
  deps: { readonly serve: (pod: Pod) => PodService; readonly log: Logger; readonly scope: Scope },
  info: PodInfo,
  { ipv6, reusePort, port = INBOUND_HBONE_PORT }: SelfProxyOptions,
): SelfProxy {
  const scope = deps.scope.child('self proxy');
  const { fd } = listenTcp({ ip: ipv6 ? '::' : '0.0.0.0', port, reusePort });
  const listener = acceptFrom(
    fd,
    undefined,
    (handle) => {
      const { peer, local } = handle;
      if (peer === undefined || local === undefined) handle.close();
      else service.onConnection({ direction: 'inbound-hbone', handle, peer, originalDst: local });
    },
    (errno) => deps.log.error('accept failed', { error: `accept ${errno}` }),
  );
  const closeListeners = (): void => listener.close();
  scope.onClose(closeListeners);
  const pod: Pod = {
    uid: SELF_UID,
    info,
    scope,
    capture: {
      open: () => {
        const handle = TcpHandle.create();
        handle.configure(undefined);
        return handle;
      },
      closeListeners,
    },
  };
  const service = deps.serve(pod);
  return {
    pod,
    port: listener.port,
    startDrain: () => {
      closeListeners();
      service.startDrain();
    },
    get liveCount() {
      return service.liveCount;
    },
  };
}
