// A pod by its name, or by the name of the deployment that made it.

import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { didYouMean } from './suggest.ts';

/** `web` means `web-5f7c9d8b6-x2x4z`, when there is no pod of just that name. */
export const ownerName = (podName: string): string =>
  podName.replace(/-[a-z0-9]{6,10}-[a-z0-9]{5}$|-\d+$/, '');

/** @throws MeshError CONFIG_INVALID naming what there is */
export async function findPod(client: KubeClient, name: string, namespace: string): Promise<Pod> {
  const wanted = name.replace(/^pods?\//, '');
  const { items } = await client.list(PODS, { namespace });
  const found =
    items.find(({ metadata }) => metadata.name === wanted) ??
    items.find(({ metadata, status }) => ownerName(metadata.name) === wanted && status?.phase === 'Running');
  if (found !== undefined) return found;
  const names = items.map(({ metadata }) => metadata.name);
  throw new MeshError(
    'CONFIG_INVALID',
    names.length === 0
      ? `there are no pods in namespace ${namespace}`
      : `there is no pod ${wanted} in namespace ${namespace}${didYouMean(wanted, [...names, ...names.map(ownerName)])}`,
  );
}
