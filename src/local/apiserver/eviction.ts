// `pods/eviction`: a deletion that minds the PodDisruptionBudgets of the pod. The controller (controllers/disruption.ts)
// says in each budget's status how many pods may go; every eviction takes one off until it has counted again.

import type { LabelSelector } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import { decodeObject } from './decode.ts';
import { type ApiAnswer, type ApiRequest, json } from './exchange.ts';
import type { Kind } from './kind.ts';
import { type ApiObject, at, isObject, type JsonObject, kubeTime } from './object.ts';
import { getStored, type ObjectsDeps, updateObject } from './objects.ts';
import type { ResourcePath } from './paths.ts';
import { type DeleteOptions, deleteObject } from './removal.ts';
import { deleteOptions, writeOptions } from './request-options.ts';
import { badRequest, methodNotAllowed, StatusError, tooManyRequests } from './status.ts';
import type { Stored } from './store.ts';

const CANNOT = "Cannot evict pod as it would violate the pod's disruption budget.";
const RETRY_SECONDS = 10;

export function serveEviction(
  deps: ObjectsDeps,
  kind: Kind,
  path: ResourcePath & { readonly name: string },
  request: ApiRequest,
): ApiAnswer {
  if (request.method !== 'POST') throw methodNotAllowed();
  const eviction = decodeObject(request.body, request.contentType);
  const name = at(eviction, 'metadata', 'name');
  if (name !== undefined && name !== path.name)
    throw badRequest(
      `the name of the Eviction (${String(name)}) does not match the name on the URL (${path.name})`,
    );
  const stored = getStored(deps, kind, path.namespace, path.name);
  const options = evictionOptions(eviction, request);
  // What forbids the deletion itself is found before anything is written.
  deleteObject(deps, kind, stored, { ...options, dryRun: true });
  if (mindsBudgets(stored.object)) takeFromBudget(deps, stored.object, request, options.dryRun);
  if (!options.dryRun) {
    const { resourceVersion: _, ...preconditions } = options.preconditions ?? {};
    deleteObject(deps, kind, markEvicted(deps, kind, stored, request), { ...options, preconditions });
  }
  return json(201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });
}

/** Who looks at a pod that goes learns that it was not its own doing. */
function markEvicted(deps: ObjectsDeps, kind: Kind, stored: Stored, request: ApiRequest): Stored {
  const marked = {
    type: 'DisruptionTarget',
    status: 'True',
    reason: 'EvictionByEvictionAPI',
    message: 'Eviction API: evicting',
    lastTransitionTime: kubeTime(deps.clock.now()),
  };
  return updateObject(
    deps,
    kind,
    stored,
    (current) => {
      const conditions = at(current, 'status', 'conditions');
      const present = Array.isArray(conditions) ? conditions : [];
      if (present.some((each) => at(each, 'type') === marked.type && at(each, 'status') === 'True'))
        return current;
      const others = present.filter((each) => at(each, 'type') !== marked.type);
      return { ...current, status: { ...(current.status as JsonObject), conditions: [...others, marked] } };
    },
    'status',
    writeOptions(request),
  );
}

function evictionOptions(eviction: JsonObject, request: ApiRequest): DeleteOptions {
  const body = isObject(eviction.deleteOptions) ? eviction.deleteOptions : {};
  // Read as the body of a deletion would be; the query counts as well.
  return deleteOptions({
    ...request,
    contentType: 'application/json',
    body: Buffer.from(JSON.stringify({ ...body, apiVersion: undefined, kind: 'DeleteOptions' })),
  });
}

/** A pod that serves nobody, or is going already, costs no budget anything. */
function mindsBudgets(pod: ApiObject): boolean {
  const phase = at(pod, 'status', 'phase');
  return (
    pod.metadata.deletionTimestamp === undefined &&
    phase !== 'Succeeded' &&
    phase !== 'Failed' &&
    phase !== 'Pending'
  );
}

function takeFromBudget(deps: ObjectsDeps, pod: ApiObject, request: ApiRequest, dryRun: boolean): void {
  const budgets = deps.registry.find('policy', 'v1', 'poddisruptionbudgets');
  if (budgets === undefined) return;
  const matching = deps.store
    .list(budgets.resource, pod.metadata.namespace)
    .filter(({ object }) =>
      matchesSelector(at(object, 'spec', 'selector') as LabelSelector | undefined, pod.metadata.labels),
    );
  const [budget, ...others] = matching;
  if (budget === undefined) return;
  if (others.length > 0)
    throw new StatusError(
      500,
      'InternalError',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
      {},
    );
  const status = budgetStatus(budget);
  if (!isReady(pod)) {
    // What is broken may go when that cannot make things worse.
    const policy = at(budget.object, 'spec', 'unhealthyPodEvictionPolicy') ?? 'IfHealthyBudget';
    if (policy === 'AlwaysAllow') return;
    if (status.desiredHealthy > 0 && status.currentHealthy >= status.desiredHealthy) return;
  }
  const { name } = budget.object.metadata;
  if (status.observedGeneration < (budget.object.metadata.generation ?? 0))
    throw refusal(
      name,
      `The disruption budget ${name} is still being processed by the server.`,
      RETRY_SECONDS,
    );
  if (status.disruptionsAllowed <= 0)
    throw refusal(
      name,
      `The disruption budget ${name} needs ${status.desiredHealthy} healthy pods and has ${status.currentHealthy} currently`,
    );
  if (dryRun) return;
  updateObject(
    deps,
    budgets,
    budget,
    (current) => ({
      ...current,
      status: {
        ...(current.status as JsonObject),
        disruptionsAllowed: status.disruptionsAllowed - 1,
        // Until the controller sees its deletion.
        disruptedPods: {
          ...(at(current, 'status', 'disruptedPods') as JsonObject | undefined),
          [pod.metadata.name]: kubeTime(deps.clock.now()),
        },
      },
    }),
    'status',
    writeOptions(request),
  );
}

const refusal = (budget: string, why: string, retryAfterSeconds?: number): StatusError =>
  tooManyRequests(CANNOT, {
    name: budget,
    causes: [{ reason: 'DisruptionBudget', message: why }],
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });

function budgetStatus({ object }: Stored) {
  const number = (field: string): number => Number(at(object, 'status', field) ?? 0);
  return {
    disruptionsAllowed: number('disruptionsAllowed'),
    currentHealthy: number('currentHealthy'),
    desiredHealthy: number('desiredHealthy'),
    observedGeneration: number('observedGeneration'),
  };
}

function isReady(pod: ApiObject): boolean {
  const conditions = at(pod, 'status', 'conditions');
  return (
    Array.isArray(conditions) &&
    conditions.some((condition) => at(condition, 'type') === 'Ready' && at(condition, 'status') === 'True')
  );
}
