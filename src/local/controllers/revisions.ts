// The history of a StatefulSet's or DaemonSet's pod template as ControllerRevisions, which `kubectl rollout history` and
// `undo` read. A template that comes back takes its old revision out again under a new number.

import type { Informer } from '#k8s/informer.ts';
import {
  CONTROLLER_REVISIONS,
  type ControllerRevision,
  type KubeObject,
  type LabelSelector,
  type PodTemplate,
  type Resource,
} from '#k8s/objects.ts';
import { isAlreadyExists, isConflict, isNotFound } from '#k8s/status.ts';
import type { ControllerContext, Settle } from './context.ts';
import { claimDependents, controllerOf, controllerReference } from './ownership.ts';
import { templateHash } from './template-hash.ts';

export const REVISION_HASH = 'controller-revision-hash';
const HASH_LABEL = 'controller.kubernetes.io/hash';
const CHANGE_CAUSE = 'kubernetes.io/change-cause';

export type Templated = KubeObject & {
  readonly spec: { readonly selector: LabelSelector; readonly template: PodTemplate };
};

export interface History {
  /** Oldest first; the last one is the present template's. */
  readonly all: readonly ControllerRevision[];
  readonly update: ControllerRevision;
}

export interface RevisionDeps {
  readonly context: ControllerContext;
  readonly revisions: Informer<ControllerRevision>;
  readonly settled: Settle<ControllerRevision>;
}

/** Makes or renumbers the revision of the present template. */
export async function syncHistory(
  deps: RevisionDeps,
  resource: Resource,
  owner: Templated,
): Promise<History> {
  const { context, revisions, settled } = deps;
  const { client } = context;
  const { name, namespace = '' } = owner.metadata;
  const hash = templateHash(owner.spec.template);
  const all = await claimDependents(client, CONTROLLER_REVISIONS, revisions, resource, owner);
  all.sort((a, b) => a.revision - b.revision);
  const newest = all.at(-1);
  let update = all.find(({ metadata }) => metadata.labels?.[HASH_LABEL] === hash);
  const next = (newest?.revision ?? 0) + 1;
  const cause = owner.metadata.annotations?.[CHANGE_CAUSE];
  if (update === undefined) {
    const revision: ControllerRevision = {
      apiVersion: 'apps/v1',
      kind: CONTROLLER_REVISIONS.kind,
      metadata: {
        name: `${name}-${hash}`,
        namespace,
        labels: { ...owner.spec.template.metadata?.labels, [HASH_LABEL]: hash },
        ...(cause === undefined ? {} : { annotations: { [CHANGE_CAUSE]: cause } }),
        ownerReferences: [controllerReference(resource, owner)],
      },
      data: { spec: { template: { ...owner.spec.template, $patch: 'replace' } } },
      revision: next,
    };
    try {
      update = await client.create(CONTROLLER_REVISIONS, revision, namespace);
    } catch (error) {
      // Our own, made a moment ago and not in the copy yet; anybody else's is an error.
      if (!isAlreadyExists(error)) throw error;
      update = await client.get(CONTROLLER_REVISIONS, revision.metadata.name, namespace);
      if (controllerOf(update)?.uid !== owner.metadata.uid) throw error;
    }
    await settled.created(update);
  } else if (
    update !== newest ||
    (cause !== undefined && update.metadata.annotations?.[CHANGE_CAUSE] !== cause)
  ) {
    update = await client.patch(
      CONTROLLER_REVISIONS,
      update.metadata.name,
      'merge',
      {
        ...(update === newest ? {} : { revision: next }),
        ...(cause === undefined ? {} : { metadata: { annotations: { [CHANGE_CAUSE]: cause } } }),
      },
      { namespace },
    );
    await settled.updated(update);
  }
  const present = update;
  return {
    all: [...all.filter(({ metadata }) => metadata.uid !== present.metadata.uid), present],
    update: present,
  };
}

/** Forgets the oldest revisions that no pod and no status names, beyond the limit. */
export async function trimHistory(
  { context }: RevisionDeps,
  history: History,
  live: ReadonlySet<string>,
  limit: number,
): Promise<void> {
  const idle = history.all.filter(
    (revision) => revision !== history.update && !live.has(revision.metadata.name),
  );
  for (const { metadata } of idle.slice(0, Math.max(0, idle.length - limit))) {
    const { name, namespace = '', uid } = metadata;
    try {
      await context.client.delete(CONTROLLER_REVISIONS, name, {
        namespace,
        ...(uid === undefined ? {} : { uid }),
      });
    } catch (error) {
      if (!isNotFound(error) && !isConflict(error)) throw error;
    }
  }
}

/** The template as it was. */
export function templateOf({ data }: ControllerRevision): PodTemplate {
  const { $patch: _, ...template } = data.spec.template;
  return template;
}

export const hashOf = ({ metadata }: ControllerRevision): string => metadata.labels?.[HASH_LABEL] ?? '';
