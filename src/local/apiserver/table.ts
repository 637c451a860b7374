// Answers as tables (`kubectl get`): one row per object, cells made by the kind's columns.

import type { Kind } from './kind.ts';
import type { ApiObject, JsonObject } from './object.ts';

export type IncludeObject = 'None' | 'Metadata' | 'Object';

export interface Table extends JsonObject {
  readonly kind: 'Table';
  readonly rows: readonly JsonObject[];
}

export function tableOf(
  kind: Kind,
  objects: readonly ApiObject[],
  options: {
    /** Of the list, or of the one object. */
    readonly metadata: JsonObject;
    readonly include: IncludeObject;
    readonly nowMs: number;
    /** Later rows of a watch leave the columns out, as clients have them already. */
    readonly columns?: boolean;
  },
): Table {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: options.metadata,
    columnDefinitions:
      options.columns === false
        ? []
        : kind.columns.map((column) => ({
            name: column.name,
            type: column.type === 'date' ? 'string' : column.type,
            format: column.name === 'Name' ? 'name' : '',
            description: column.description,
            priority: column.priority,
          })),
    rows: objects.map((object) => rowOf(kind, object, options)),
  };
}

function rowOf(
  kind: Kind,
  object: ApiObject,
  options: { readonly include: IncludeObject; readonly nowMs: number },
): JsonObject {
  const cells = kind.columns.map((column) => column.cell(object, options.nowMs));
  switch (options.include) {
    case 'None':
      return { cells, object: null };
    case 'Object':
      return { cells, object };
    case 'Metadata':
      return { cells, object: partialMetadata(object) };
  }
}

export function partialMetadata(object: ApiObject): JsonObject {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata };
}
