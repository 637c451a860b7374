// The annotation of client-side `kubectl apply`, for the way from there to server-side apply: what it holds belongs to
// kubectl already, and it is kept up to date for a kubectl that goes back.

import { difference, type FieldSet, union } from './field-set.ts';
import type { Kind } from './kind.ts';
import type { MergeType } from './merge-type.ts';
import { type ApiObject, isObject } from './object.ts';
import { checkTyped } from './typed-check.ts';
import { compareTyped, fieldsOf } from './typed-compare.ts';

const ANNOTATION = 'kubectl.kubernetes.io/last-applied-configuration';

/** The fields of the annotation whose values are still those of the object; undefined when there is none to read. */
export function lastAppliedFields(kind: Kind, type: MergeType, live: ApiObject): FieldSet | undefined {
  const text = live.metadata.annotations?.[ANNOTATION];
  if (text === undefined || text === '') return undefined;
  let configuration: unknown;
  try {
    configuration = JSON.parse(text);
  } catch {
    // Somebody else's text in kubectl's annotation allows nothing.
    return undefined;
  }
  if (!isObject(configuration) || configuration.apiVersion !== kind.apiVersion) return undefined;
  if (checkTyped(type, configuration).length > 0) return undefined;
  const { added, modified, removed } = compareTyped(type, configuration, live);
  return difference(fieldsOf(type, configuration), union(union(added, modified), removed));
}

/** Where the annotation is in use, it holds what was applied now. */
export function refreshLastApplied(object: ApiObject, applied: ApiObject): void {
  const { annotations } = object.metadata;
  if (annotations?.[ANNOTATION] === undefined || annotations[ANNOTATION] === '') return;
  const { [ANNOTATION]: _, ...own } = applied.metadata.annotations ?? {};
  const configuration = {
    ...applied,
    metadata: {
      ...applied.metadata,
      ...(applied.metadata.annotations === undefined ? {} : { annotations: own }),
    },
  };
  object.metadata = {
    ...object.metadata,
    annotations: { ...annotations, [ANNOTATION]: `${canonicalJson(configuration)}\n` },
  };
}

/** As kubectl writes it: fields sorted, and safe to stand in a page. */
function canonicalJson(value: unknown): string {
  const sorted = (_: string, each: unknown): unknown =>
    isObject(each)
      ? Object.fromEntries(
          Object.keys(each)
            .sort()
            .map((key) => [key, each[key]]),
        )
      : each;
  return JSON.stringify(value, sorted).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
