// Installs the mesh by server-side apply, removes what an earlier version or profile left over, and waits until it is
// ready. `culvert install` and `culvert up` both come here.

import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { applyManifests } from '#k8s/manifests.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from '#k8s/mesh-objects.ts';
import { type KubeObject, NAMESPACES } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import {
  describeEnrolled,
  findEnrolled,
  findForeignControlPlane,
  findInstalled,
  type Installed,
  isOurs,
  labelOf,
} from './installed.ts';
import { prepareAgentRemoval } from './plugin-removal.ts';
import { type WaitOptions, waitUntilGone, waitUntilReady } from './readiness.ts';
import { type Component, isWorkload } from './render.ts';

export const FIELD_MANAGER = 'culvert-install';

/** Things that would do harm. @throws MeshError REFUSED with the way out */
export async function checkInstall(client: KubeClient, components: readonly Component[]): Promise<void> {
  const foreign = await findForeignControlPlane(client);
  if (foreign !== undefined)
    throw new MeshError(
      'REFUSED',
      `${foreign} was not made by culvert install; remove that mesh first, or take it over with --force`,
    );
  const takesProxiesAway = (await leftOver(client, components)).some(
    ({ object }) => object.kind === 'DaemonSet',
  );
  const enrolled = takesProxiesAway ? describeEnrolled(await findEnrolled(client)) : undefined;
  if (enrolled !== undefined)
    throw new MeshError(
      'REFUSED',
      `this profile removes the node proxies, and ${enrolled} is in the mesh; take it out first: culvert unenrol NAMESPACE, or go on with --force`,
    );
}

/** Applies the objects of every component, in order. @throws MeshError naming the object */
export async function applyMesh(client: KubeClient, components: readonly Component[]): Promise<void> {
  for (const { objects } of components)
    await applyManifests(client, await withoutForeignNamespaces(client, objects), FIELD_MANAGER);
}

/** The mesh's namespace may have been made by somebody else: then it stays theirs, without our label. */
async function withoutForeignNamespaces(
  client: KubeClient,
  objects: readonly KubeObject[],
): Promise<KubeObject[]> {
  const kept: KubeObject[] = [];
  for (const object of objects) {
    if (object.kind !== NAMESPACES.kind || !(await isForeign(client, object.metadata.name)))
      kept.push(object);
  }
  return kept;
}

async function isForeign(client: KubeClient, namespace: string): Promise<boolean> {
  try {
    return !isOurs(await client.get(NAMESPACES, namespace));
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

/** What an earlier installation made and this one does not have. Definitions stay: they may hold people's objects. */
async function leftOver(client: KubeClient, components: readonly Component[]): Promise<Installed[]> {
  const wanted = new Set(components.flatMap(({ objects }) => objects.map(labelOf)));
  return (await findInstalled(client)).filter(
    ({ resource, object }) =>
      resource !== CUSTOM_RESOURCE_DEFINITIONS && resource !== NAMESPACES && !wanted.has(labelOf(object)),
  );
}

/** Removes what is left over of an earlier version or profile; returns what it was. */
export async function removeLeftOver(
  client: KubeClient,
  components: readonly Component[],
  wait: WaitOptions,
): Promise<string[]> {
  const removed: string[] = [];
  for (const { resource, object } of await leftOver(client, components)) {
    await removeObject(client, { resource, object }, wait);
    removed.push(labelOf(object));
  }
  return removed;
}

/** Workloads are waited for: what they do at their end, and what they would make again, must be over. */
export async function removeObject(
  client: KubeClient,
  { resource, object }: Installed,
  wait: WaitOptions,
): Promise<void> {
  await prepareAgentRemoval(client, object, wait);
  const { name, namespace } = object.metadata;
  try {
    await client.delete(resource, name, {
      ...(namespace === undefined ? {} : { namespace }),
      propagation: 'Background',
    });
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  if (isWorkload(object)) await waitUntilGone(client, object, wait);
}

/** @throws MeshError NOT_READY naming what is not ready and why */
export const waitForComponents = (
  client: KubeClient,
  components: readonly Component[],
  options: WaitOptions,
): Promise<void> =>
  waitUntilReady(client, components.flatMap(({ objects }) => objects).filter(isWorkload), options);
