// Keeps the certificates of this node's workloads at hand: asked for when the control plane names a workload, given up
// when the last workload of an identity has gone (ztunnel.md §4.4).

import { formatSpiffeId, type SpiffeId } from '#model/identity.ts';
import type { Store, WorkloadChange } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import type { SecretManager } from '#tls/secret.ts';

/** Returns how to stop. */
export function followLocalIdentities(
  store: Store,
  secrets: Pick<SecretManager, 'prefetch' | 'forget'>,
  nodeName: string,
): () => void {
  const identityOf = (workload: Workload | undefined): SpiffeId | undefined =>
    workload !== undefined && workload.node === nodeName && speaksHbone(workload)
      ? formatSpiffeId(workload)
      : undefined;
  const isNeeded = (workload: Workload, identity: SpiffeId): boolean =>
    store
      .localWorkloads(workload.namespace, workload.serviceAccount)
      .some((other) => identityOf(other) === identity);
  return store.onWorkloadChange((changes: readonly WorkloadChange[]) => {
    for (const { before, after } of changes) {
      const had = identityOf(before);
      const has = identityOf(after);
      if (has !== undefined && has !== had) secrets.prefetch(has);
      if (before !== undefined && had !== undefined && had !== has && !isNeeded(before, had))
        secrets.forget(had);
    }
  });
}

function speaksHbone(workload: Workload): boolean {
  return workload.protocol === 'HBONE' || workload.nativeTunnel;
}
