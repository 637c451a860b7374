// The trap of port 15008 on the first screen: a line when a NetworkPolicy opens some ports of pods in the mesh and leaves
// the tunnel's closed. The machine notices it and records the event; here it is only shown.

import type { KubeClient } from '#k8s/client.ts';
import { EVENTS, type KubeObject } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { silentLogger } from '#telemetry/log.ts';
import type { Style } from '../style.ts';

export interface PortTrap {
  readonly time: string;
  /** `namespace/name` */
  readonly policy: string;
  readonly message: string;
}

interface PolicyEvent extends KubeObject {
  readonly involvedObject?: { readonly namespace?: string; readonly name?: string; readonly uid?: string };
  readonly message?: string;
  readonly lastTimestamp?: string;
}

/**
 * Tells each trap once until the signal aborts. Events from before `sinceIso` are left out: the state of an earlier start
 * keeps them, and a policy that still is a trap is found again by the machine.
 */
export function followPortTraps(
  client: KubeClient,
  signal: AbortSignal,
  sinceIso: string,
  onTrap: (trap: PortTrap) => void,
): void {
  const informer = startInformer<PolicyEvent>({ client, log: silentLogger }, EVENTS, {
    fieldSelector: 'reason=MeshPortBlocked',
  });
  const told = new Set<string>();
  informer.addHandlers({
    upsert({ involvedObject: policy, message = '', lastTimestamp: time = '' }) {
      // A LOCAL that was started again records the same once more.
      const key = `${policy?.uid} ${message}`;
      if (time < sinceIso || told.has(key)) return;
      told.add(key);
      onTrap({ time, policy: `${policy?.namespace}/${policy?.name}`, message });
    },
    remove: () => {},
  });
  const close = (): void => informer.close();
  if (signal.aborted) close();
  else signal.addEventListener('abort', close, { once: true });
}

export function renderPortTrap({ time, policy, message }: PortTrap, style: Style): string {
  return `${style.dim(time.slice(11, 19))} ${style.bad('BLOCKED')} by NetworkPolicy ${style.bold(policy)}: ${message}`;
}
