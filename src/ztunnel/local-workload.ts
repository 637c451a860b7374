// Which workload record belongs to a pod that ZDS described. The record comes over xDS and may lag behind the pod by a
// moment, so a connection waits for it, and is refused when it does not come (ztunnel.md §6.1).

import { MeshError } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Store } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import { formatBaggage } from './headers.ts';
import type { PodInfo } from './pods.ts';

export const LOCAL_WORKLOAD_WAIT_MS = 5_000;

export interface LocalWorkload {
  /** The record as it stands now. */
  current(): Workload | undefined;
  /** The baggage header of a record, written once for as long as it stands. */
  baggageOf(workload: Workload): string;
  /** Waits up to the limit. Rejects with MeshError `WORKLOAD_UNKNOWN`, or `DRAINED` when the pod goes meanwhile. */
  get(): Promise<Workload>;
}

export function createLocalWorkload(
  deps: { readonly store: Store; readonly scope: Scope },
  info: PodInfo,
  waitMs = LOCAL_WORKLOAD_WAIT_MS,
): LocalWorkload {
  const { store, scope } = deps;
  const current = (): Workload | undefined =>
    store.localWorkload(info.name, info.namespace, info.serviceAccount);
  // All connections that wait share one wait; it starts over when it has failed.
  let waiting: Promise<Workload> | undefined;
  const wait = (): Promise<Workload> =>
    new Promise((resolve, reject) => {
      const settle = (run: () => void): void => {
        waiting = undefined;
        stopListening();
        cancelTimer();
        forgetScope();
        run();
      };
      const stopListening = store.onWorkloadChange(() => {
        const found = current();
        if (found !== undefined) settle(() => resolve(found));
      });
      const cancelTimer = scope.timeout(waitMs, () => settle(() => reject(unknown(info, waitMs))));
      const forgetScope = scope.onClose(() => {
        waiting = undefined;
        stopListening();
        reject(new MeshError('DRAINED', `pod ${info.namespace}/${info.name} was removed`));
      });
    });
  let described: Workload | undefined;
  let baggage = '';
  return {
    current,
    baggageOf: (workload) => {
      if (workload !== described) {
        described = workload;
        baggage = formatBaggage(workload);
      }
      return baggage;
    },
    get: () => {
      const found = current();
      if (found !== undefined) return Promise.resolve(found);
      waiting ??= wait();
      return waiting;
    },
  };
}

function unknown(info: PodInfo, waitMs: number): MeshError {
  return new MeshError(
    'WORKLOAD_UNKNOWN',
    `the control plane has not described workload ${info.namespace}/${info.name} (service account ${info.serviceAccount}) within ${waitMs / 1000} s`,
  );
}
