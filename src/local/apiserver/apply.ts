// Server-side apply: what a manager applies is merged into the object, what the same manager applied before and leaves
// out now goes unless somebody else owns it, and a field that somebody else owns with another value is a conflict.

import { applyConflict, type Conflict } from './conflicts.ts';
import { difference, EMPTY_SET, type FieldSet, intersection, isEmptySet, union } from './field-set.ts';
import type { Kind } from './kind.ts';
import { lastAppliedFields, refreshLastApplied } from './last-applied.ts';
import { type MergeType, mergeTypeOf, typeBelow } from './merge-type.ts';
import { type ApiObject, equal, kubeTime } from './object.ts';
import {
  entriesOf,
  fittedOwners,
  identityOf,
  type Owner,
  type Owners,
  ownable,
  owned,
  ownersAfterUpdate,
  type Writer,
} from './owners.ts';
import { badRequest } from './status.ts';
import { withoutEntries } from './tracking.ts';
import { checkTyped } from './typed-check.ts';
import { compareTyped, fieldsOf } from './typed-compare.ts';
import { mergeTyped, removeFields, withoutNulls } from './typed-merge.ts';

export interface Applier extends Writer {
  readonly force: boolean;
}

/** Fields that nobody owned when the first apply came belong to this one. */
const BEFORE_FIRST_APPLY = 'before-first-apply';
/** The manager name of `kubectl apply --server-side`, which takes over from its own client-side apply. */
const KUBECTL = 'kubectl';

/**
 * The object after the apply, with its managedFields; `live` is undefined when it is new. Neither argument is changed.
 * Throws 409 with one cause per conflict.
 */
export function applyObject(
  kind: Kind,
  live: ApiObject | undefined,
  applied: ApiObject,
  applier: Applier,
): ApiObject {
  // Ownership is what applying decides: it cannot be part of what is applied.
  if (applied.metadata.managedFields !== undefined && applied.metadata.managedFields !== null)
    throw badRequest('metadata.managedFields must be nil');
  const type = mergeTypeOf(kind);
  checkConfiguration(kind, type, applied);
  const base = withoutEntries(
    live ?? { apiVersion: kind.apiVersion, kind: kind.kind, metadata: { name: '' } },
  );
  let owners = fittedOwners(kind, type, live?.metadata.managedFields);
  if (live !== undefined && owners.size === 0)
    owners = ownersAfterUpdate(type, {}, base, owners, { ...applier, manager: BEFORE_FIRST_APPLY });
  let result = attempt(type, base, applied, owners, applier);
  if ('conflicts' in result && applier.manager === KUBECTL && live !== undefined) {
    // What kubectl wrote on the client's side, and nobody changed since, it may take over.
    const own = lastAppliedFields(kind, type, live) ?? EMPTY_SET;
    const left = result.conflicts
      .map((each) => ({ ...each, fields: difference(each.fields, own) }))
      .filter(({ fields }) => !isEmptySet(fields));
    result =
      left.length > 0
        ? { conflicts: left }
        : attempt(type, base, applied, owners, { ...applier, force: true });
  }
  if ('conflicts' in result) throw applyConflict(result.conflicts);
  const object = result.object;
  object.metadata = { ...object.metadata, managedFields: entriesOf(result.owners) };
  if (applier.manager === KUBECTL) refreshLastApplied(object, applied);
  return object;
}

function checkConfiguration(kind: Kind, type: MergeType, applied: ApiObject): void {
  const problems = checkTyped(type, applied);
  if (problems.length === 0) return;
  const { namespace = '', name } = applied.metadata;
  const text =
    problems.length === 1 ? problems[0]! : ['errors:', ...problems.map((each) => `  ${each}`)].join('\n');
  throw badRequest(
    `failed to create typed patch object (${namespace}/${name}; ${kind.group}/${kind.version}, Kind=${kind.kind}): ${text}`,
  );
}

type Outcome =
  | { readonly object: ApiObject; readonly owners: Owners }
  | { readonly conflicts: readonly Conflict[] };

function attempt(
  type: MergeType,
  live: ApiObject,
  applied: ApiObject,
  before: Owners,
  applier: Applier,
): Outcome {
  const { manager, apiVersion, subresource } = applier;
  const self = { manager, operation: 'Apply', apiVersion, subresource } as const;
  const identity = identityOf(self);
  const last = before.get(identity);
  const wanted = applier.owns(fieldsOf(type, applied));
  const others = [...before.values()].filter((owner) => identityOf(owner) !== identity);
  const merged = mergeTyped(type, live, applied);
  const claimed = others.reduce((all, owner) => union(all, owner.fields), wanted);
  const next = last === undefined ? merged : prune(type, merged, last.fields, claimed);
  const change = owned(compareTyped(type, live, next), applier);
  const written = union(change.added, change.modified);
  const conflicts = others
    .map((owner) => ({ owner, fields: intersection(owner.fields, written) }))
    .filter(({ fields }) => !isEmptySet(fields));
  if (conflicts.length > 0 && !applier.force) return { conflicts };
  const after = new Map<string, Owner>();
  const touched = union(written, change.removed);
  for (const owner of others) {
    const fields = difference(owner.fields, touched);
    if (!isEmptySet(fields)) after.set(identityOf(owner), { ...owner, fields });
  }
  const fields = ownable(wanted);
  const time = equal(next, live) ? last?.time : kubeTime(applier.nowMs);
  // Whoever applies nothing owns nothing.
  if (!isEmptySet(fields)) after.set(identity, { ...self, fields, time });
  return { object: withoutNulls(type, next) as ApiObject, owners: after };
}

/**
 * Takes out what the applier owned last and nobody claims now. A struct counts as owned wherever one of its fields
 * is, so that it goes with them; an item of a list or a key of a map goes when nobody claims the item itself, though
 * somebody may own a field in it.
 */
function prune(type: MergeType, merged: unknown, last: FieldSet, claimed: FieldSet): unknown {
  const lastOwned = withStructs(type, last);
  const all = withStructs(type, fieldsOf(type, merged));
  const remaining = (value: unknown): FieldSet => withStructs(type, fieldsOf(type, value));
  // Everything below a container that went would go with it: what is claimed or was never the applier's comes back.
  const withoutLast = remaining(removeFields(type, merged, lastOwned));
  const unclaimed = difference(all, union(withoutLast, withStructs(type, claimed)));
  const kept = remaining(removeFields(type, merged, unclaimed));
  return removeFields(type, merged, intersection(difference(all, kept), lastOwned));
}

/** The set with every struct on the way to one of its fields. */
function withStructs(type: MergeType, set: FieldSet): FieldSet {
  const result: Record<string, FieldSet> = {};
  for (const [element, node] of Object.entries(set)) {
    if (element === '.') continue;
    const child = typeBelow(type, element);
    const inner = child === undefined ? node : withStructs(child, node);
    const isStruct = element.startsWith('f:') && type.map?.isField(element.slice(2)) === true;
    const isMember = node['.'] !== undefined || isEmptySet(node) || isStruct;
    const { '.': _, ...rest } = inner;
    result[element] = isMember && !isEmptySet(rest) ? { '.': EMPTY_SET, ...rest } : rest;
  }
  return result;
}
