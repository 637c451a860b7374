// Keeps the conditions in the statuses of objects as the reports want them, while this replica leads (control-plane.md
// §3.6). A change marks the objects that it may concern; a moment later what they should say is compared with what they
// say, and only a difference is written: by server-side apply, one at a time, paced, again until it succeeds.

import type { Clock } from '#base/clock.ts';
import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import { SERVICE_ENTRIES, WORKLOAD_ENTRIES } from '#k8s/mesh-objects.ts';
import {
  AUTHORIZATION_POLICIES,
  type KubeObject,
  PEER_AUTHENTICATIONS,
  type Resource,
  SERVICES,
} from '#k8s/objects.ts';
import { groupVersionOf } from '#k8s/path.ts';
import { isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { annotationsOf, type Labels, labelsOf } from '../ambient/labels.ts';
import type { Informers } from '../informers.ts';
import type { ConversionOptions } from '../policies/authorization-policy.ts';
import { WorkQueue } from '../work-queue.ts';
import { reportsOfService, reportsOfServiceEntry, reportsOfWorkloadEntry } from './binding-report.ts';
import { conditionsToApply, type HeldCondition, type Report } from './condition.ts';
import { Pace } from './pace.ts';
import { reportsOfPeerAuthentication } from './peer-report.ts';
import { reportsOfPolicy } from './policy-report.ts';
import type { StatusView } from './view.ts';

export interface StatusWriterDeps {
  readonly client: Pick<KubeClient, 'patch'>;
  readonly informers: Informers;
  readonly view: StatusView;
  readonly clock: Clock;
  readonly log: Logger;
  /** Asked right before each write. */
  readonly isLeader: () => boolean;
  readonly onWrite: (result: 'written' | 'failed') => void;
}

/** Changes of this long are looked at together. */
const GATHER_MS = 100;
/** Between looks at whom policies select. */
const SELECTION_MS = 2000;
const PACE = { perSecond: 50, burst: 100 } as const;
const RETRY = { retryInitialMs: 500, retryMaxMs: 60_000 } as const;

interface Subject {
  readonly resource: Resource;
  readonly informer: Informer<KubeObject>;
  readonly reports: (object: KubeObject) => readonly Report[];
}

type SubjectName = 'policy' | 'peer' | 'service' | 'serviceEntry' | 'workloadEntry';
const POLICIES: readonly SubjectName[] = ['policy', 'peer'];
const BOUND: readonly SubjectName[] = ['service', 'serviceEntry', 'workloadEntry'];
const ALL: readonly SubjectName[] = [...POLICIES, ...BOUND];

export interface StatusWriter {
  /** Writes until the scope closes, beginning with everything. */
  lead(term: Scope): void;
}

export function createStatusWriter(deps: StatusWriterDeps, options: ConversionOptions): StatusWriter {
  const { client, informers, view, clock, log, isLeader, onWrite } = deps;
  const subjects: Readonly<Record<SubjectName, Subject>> = {
    policy: subject(AUTHORIZATION_POLICIES, informers.authorizationPolicies, (it) =>
      reportsOfPolicy(it, view, options),
    ),
    peer: subject(PEER_AUTHENTICATIONS, informers.peerAuthentications, (it) =>
      reportsOfPeerAuthentication(it, view),
    ),
    service: subject(SERVICES, informers.services, (it) => reportsOfService(it, view)),
    serviceEntry: subject(SERVICE_ENTRIES, informers.serviceEntries, (it) => reportsOfServiceEntry(it, view)),
    workloadEntry: subject(WORKLOAD_ENTRIES, informers.workloadEntries, (it) =>
      reportsOfWorkloadEntry(it, view),
    ),
  };
  const pace = new Pace(clock, PACE);
  const marks = new Map<SubjectName, Set<string> | 'all'>();
  let current: { readonly term: Scope; readonly queue: WorkQueue } | undefined;
  let gathering = false;
  let selecting = false;

  function lead(term: Scope): void {
    current = { term, queue: new WorkQueue({ log, scope: term, work }, RETRY) };
    gathering = false;
    selecting = false;
    marks.clear();
    term.onClose(() => {
      if (current?.term === term) current = undefined;
    });
    markAll(ALL);
  }

  function mark(name: SubjectName, object: KubeObject): void {
    if (current === undefined) return;
    const marked = marks.get(name);
    if (marked === 'all') return;
    if (marked === undefined) marks.set(name, new Set([objectKey(object)]));
    else marked.add(objectKey(object));
    gather();
  }

  function markAll(names: readonly SubjectName[]): void {
    if (current === undefined) return;
    for (const name of names) marks.set(name, 'all');
    gather();
  }

  /** Whom selectors find changes with every pod, and is worth one sentence: no haste. */
  function selectionChanged(): void {
    view.selectionChanged();
    if (current === undefined || selecting) return;
    selecting = true;
    current.term.timeout(SELECTION_MS, () => {
      selecting = false;
      markAll(POLICIES);
    });
  }

  function gather(): void {
    if (gathering || current === undefined) return;
    gathering = true;
    current.term.timeout(GATHER_MS, () => {
      gathering = false;
      compare();
    });
  }

  function compare(): void {
    if (current === undefined) return;
    for (const [name, marked] of marks) {
      const { informer } = subjects[name];
      const objects = marked === 'all' ? informer.all() : [...marked].map((key) => informer.get(key));
      for (const object of objects)
        if (object !== undefined && differences(name, object).length > 0)
          current.queue.add(`${name} ${objectKey(object)}`);
    }
    marks.clear();
  }

  function differences(name: SubjectName, object: KubeObject) {
    const held = conditionsOf(object);
    const now = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    return subjects[name].reports(object).flatMap((report) => {
      const conditions = conditionsToApply(report, held, now);
      return conditions === undefined ? [] : [{ manager: report.manager, conditions }];
    });
  }

  /** Looks again: what was marked may have changed while it waited. */
  async function work(item: string): Promise<void> {
    const space = item.indexOf(' ');
    const name = item.slice(0, space) as SubjectName;
    const { resource, informer } = subjects[name];
    const object = informer.get(item.slice(space + 1));
    if (object === undefined) return;
    for (const { manager, conditions } of differences(name, object)) {
      await pace.wait();
      if (!isLeader()) return;
      try {
        await apply(resource, object, manager, conditions);
        onWrite('written');
      } catch (error) {
        // Deleted meanwhile.
        if (isNotFound(error)) return;
        onWrite('failed');
        throw error;
      }
    }
  }

  async function apply(
    resource: Resource,
    object: KubeObject,
    manager: string,
    conditions: readonly HeldCondition[],
  ): Promise<void> {
    const { name, namespace = '', uid } = object.metadata;
    const body = {
      apiVersion: groupVersionOf(resource),
      kind: resource.kind,
      // The uid: what was said of a deleted object is not said of its successor.
      metadata: { name, namespace, ...(uid === undefined ? {} : { uid }) },
      status: { conditions },
    };
    await client.patch(resource, name, 'apply', body, {
      namespace,
      subresource: 'status',
      fieldManager: manager,
    });
    log.debug('status written', {
      object: `${resource.kind} ${objectKey(object)}`,
      conditions: conditions.map(({ type, status, reason }) => `${type}=${status}/${reason}`).join(' '),
    });
  }

  for (const name of ALL)
    subjects[name].informer.addHandlers({
      upsert: (object) => mark(name, object),
      remove: () => {},
    });
  // What else the reports look at.
  const others = (informer: Informer<KubeObject>, names: readonly SubjectName[]): void =>
    informer.addHandlers({ upsert: () => markAll(names), remove: () => markAll(names) });
  others(informers.gateways, [...BOUND, 'policy']);
  others(informers.gatewayClasses, [...BOUND, 'policy']);
  others(informers.meshConfigs, ALL);
  onLabels(informers.services, () => markAll(['policy']));
  onLabels(informers.serviceEntries, () => markAll(['policy']));
  onLabels(informers.namespaces, () => markAll(ALL));
  const workloads: readonly Informer<KubeObject>[] = [
    informers.pods,
    informers.workloadEntries,
    informers.serviceEntries,
  ];
  for (const informer of workloads) onLabels(informer, selectionChanged);
  informers.peerAuthentications.addHandlers({
    upsert: () => markAll(['peer']),
    remove: () => markAll(['peer']),
  });
  return { lead };
}

function subject<T extends KubeObject>(
  resource: Resource<T>,
  informer: Informer<T>,
  reports: (object: T) => readonly Report[],
): Subject {
  // One informer holds one kind, and only its objects are given to its reports.
  return { resource, informer, reports } as unknown as Subject;
}

/** When an object comes, goes, or has other labels or annotations. */
function onLabels(informer: Informer<KubeObject>, run: () => void): void {
  informer.addHandlers({
    upsert: (object, old) => {
      if (
        old === undefined ||
        !same(labelsOf(object), labelsOf(old)) ||
        !same(annotationsOf(object), annotationsOf(old))
      )
        run();
    },
    remove: run,
  });
}

function same(a: Labels, b: Labels): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

function conditionsOf(object: KubeObject): readonly HeldCondition[] {
  const { status } = object as { readonly status?: { readonly conditions?: readonly HeldCondition[] } };
  return status?.conditions ?? [];
}
