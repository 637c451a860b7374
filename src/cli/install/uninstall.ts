// Removes what install made: found by its label, in the order in which nothing is left hanging. What people made (policies
// and their definitions, things in the mesh's namespace) stays unless everything is to go.

import { sleep } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { discoverAll } from '#k8s/discovery.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from '#k8s/mesh-objects.ts';
import { CONFIG_MAPS, EVENTS, type KubeObject, NAMESPACES, type Resource } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { SYSTEM_NAMESPACE } from '../cluster-options.ts';
import { removeObject } from './install.ts';
import { describeEnrolled, findEnrolled, findInstalled, type Installed, labelOf } from './installed.ts';
import type { WaitOptions } from './readiness.ts';

const POLL_MS = 100;

export interface UninstallOptions {
  /** Go on although workloads are enrolled: their connections fail until they restart. */
  readonly force: boolean;
  /** Also the definitions with people's objects, and the namespace with whatever is in it. */
  readonly purge: boolean;
}

export interface UninstallPlan {
  readonly remove: readonly Installed[];
  /** What stays, each with the reason. */
  readonly keep: readonly string[];
}

/** What the control plane keeps in every namespace: roots and revocation lists. */
const DISTRIBUTED: readonly string[] = ['istio-ca-root-cert', 'istio-ca-crl'];
/** What the programs make at run time, removed with them: by kind and name. */
const MADE_BY_THE_MESH: readonly string[] = [
  ...DISTRIBUTED.map((name) => `ConfigMap ${name}`),
  'Secret istio-ca-secret',
];
/** What every namespace has by itself. */
const MADE_BY_KUBERNETES: readonly string[] = ['ConfigMap kube-root-ca.crt', 'ServiceAccount default'];
/** Kinds that come and go with others. */
const DERIVED_KINDS = new Set([
  'Pod',
  'ReplicaSet',
  'ControllerRevision',
  'Endpoints',
  'EndpointSlice',
  'Event',
  'Lease',
  'PodMetrics',
]);

/** @throws MeshError REFUSED when nothing is installed or workloads are enrolled */
export async function planUninstall(client: KubeClient, options: UninstallOptions): Promise<UninstallPlan> {
  const installed = await findInstalled(client);
  if (installed.length === 0)
    throw new MeshError(
      'REFUSED',
      'there is nothing to remove: culvert install has made nothing in this cluster',
    );
  const enrolled = options.force || options.purge ? undefined : describeEnrolled(await findEnrolled(client));
  if (enrolled !== undefined)
    throw new MeshError(
      'REFUSED',
      `${enrolled} is still in the mesh; take it out first (culvert unenrol NAMESPACE), or go on with --force: its connections then fail until its pods restart`,
    );
  const remove: Installed[] = [];
  const keep: string[] = [];
  for (const one of installed) {
    const reason = options.purge ? undefined : await whyKept(client, one, installed);
    if (reason === undefined) remove.push(one);
    else keep.push(`${labelOf(one.object)}: ${reason}`);
  }
  // Nobody corrects them any more.
  const { items } = await client.list(CONFIG_MAPS, { labelSelector: 'istio.io/config=true' });
  const distributed = items.filter(({ metadata }) => DISTRIBUTED.includes(metadata.name));
  const beforeNamespace = remove.findIndex(({ resource }) => resource === NAMESPACES);
  const at = beforeNamespace < 0 ? remove.length : beforeNamespace;
  remove.splice(at, 0, ...distributed.map((object) => ({ resource: CONFIG_MAPS as Resource, object })));
  return { remove, keep };
}

async function whyKept(
  client: KubeClient,
  { resource, object }: Installed,
  installed: readonly Installed[],
): Promise<string | undefined> {
  if (resource === CUSTOM_RESOURCE_DEFINITIONS) {
    const count = await countObjects(client, object);
    return count === 0 ? undefined : `${count} object${count === 1 ? '' : 's'} of it exist`;
  }
  if (resource !== NAMESPACES) return undefined;
  const foreign = await foreignObjects(client, object.metadata.name, installed);
  if (foreign.length === 0) return undefined;
  const shown = foreign.slice(0, 3).join(', ');
  return `it holds what install did not make: ${shown}${foreign.length > 3 ? ' and more' : ''}`;
}

async function countObjects(client: KubeClient, definition: KubeObject): Promise<number> {
  const { spec } = definition as KubeObject & {
    spec: {
      group: string;
      names: { plural: string; kind: string };
      versions: { name: string; storage?: boolean }[];
    };
  };
  const version = spec.versions.find(({ storage }) => storage === true) ?? spec.versions[0];
  const { items } = await client.list({
    group: spec.group,
    version: version?.name ?? 'v1',
    plural: spec.names.plural,
    kind: spec.names.kind,
    namespaced: true,
  });
  return items.length;
}

async function foreignObjects(
  client: KubeClient,
  namespace: string,
  installed: readonly Installed[],
): Promise<string[]> {
  const own = new Set(installed.map(({ object }) => labelOf(object)));
  const kinds = (await discoverAll(client)).filter(
    ({ namespaced, verbs, kind }) =>
      namespaced && verbs.includes('list') && !DERIVED_KINDS.has(kind) && kind !== EVENTS.kind,
  );
  const unknown: string[] = [];
  const lists = await Promise.all(
    kinds.map(async (kind) => {
      try {
        return (await client.list(kind, { namespace })).items;
      } catch (error) {
        // What cannot be looked at may be somebody's.
        unknown.push(`${kind.plural} (cannot be listed: ${reasonOf(error)})`);
        return [];
      }
    }),
  );
  const found = lists
    .flat()
    .filter((object) => {
      const short = `${object.kind} ${object.metadata.name}`;
      return (
        !own.has(labelOf(object)) &&
        !MADE_BY_KUBERNETES.includes(short) &&
        !(namespace === SYSTEM_NAMESPACE && MADE_BY_THE_MESH.includes(short)) &&
        // Tokens and the like of service accounts.
        (object.metadata.ownerReferences ?? []).length === 0
      );
    })
    .map(labelOf);
  return [...found, ...unknown];
}

/** Removes what the plan names, one after the other. @throws MeshError naming the object */
export async function uninstall(
  client: KubeClient,
  { remove }: UninstallPlan,
  wait: WaitOptions,
  onRemoved: (what: string) => void = () => {},
): Promise<void> {
  for (const one of remove) {
    await removeObject(client, one, wait);
    if (one.resource === NAMESPACES) await waitUntilNamespaceGone(client, one.object.metadata.name, wait);
    onRemoved(labelOf(one.object));
  }
}

/** Whoever installs again at once must not meet a namespace that is still ending. @throws MeshError NOT_READY */
async function waitUntilNamespaceGone(client: KubeClient, name: string, wait: WaitOptions): Promise<void> {
  const deadline = performance.now() + wait.limitMs;
  for (;;) {
    try {
      await client.get(NAMESPACES, name);
    } catch (error) {
      if (isNotFound(error)) return;
      throw error;
    }
    if (wait.signal?.aborted === true || performance.now() > deadline)
      throw new MeshError(
        'NOT_READY',
        `namespace ${name} is still ending; look at its conditions: kubectl get namespace ${name} -o yaml`,
      );
    await sleep(POLL_MS, wait.signal);
  }
}
