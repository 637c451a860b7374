// What the server knows of a kind: names, scope, subresources, columns, and its own rules (defaults, checks).

import type { Clock, Random } from '#base/clock.ts';
import type { Family } from '#local/machine/plan.ts';
import type { ApiObject } from './object.ts';
import type { StructuralSchema } from './schema.ts';
import type { FieldError, Subject } from './status.ts';
import type { ResourceKey, Store } from './store.ts';

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';

export const ALL_VERBS: readonly Verb[] = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'update',
  'watch',
];

export interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'number' | 'boolean' | 'date';
  readonly description: string;
  /** Columns above 0 appear with `-o wide` only. */
  readonly priority: number;
  /** For a date column: the RFC 3339 text; the printer turns it into an age where the column asks for that. */
  readonly cell: (object: ApiObject, nowMs: number) => string | number | boolean | null;
}

/** Address families of services; the first is what a service has that asks for none. */
export type ServiceFamilies = readonly Family[];

export interface StrategyContext {
  readonly serviceFamilies: ServiceFamilies;
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
}

/** The rules of one kind. Functions change the object given to them; it is a private copy. */
export interface Strategy {
  /** `metadata.generation` counts changes outside metadata and status. */
  readonly generation: boolean;
  readonly nameRule: 'subdomain' | 'label' | 'label1035' | 'path';
  /** Kinds whose status may come with the creation (nodes register so). */
  readonly keepStatusOnCreate?: boolean;
  /** What of metadata a write to `status` carries: pods are annotated that way by CNI agents. */
  readonly statusCarries?: readonly ('labels' | 'annotations')[];
  /** Loads what `validate` needs and cannot wait for; awaited before a write with this body to this object. */
  readonly load?: (body: Buffer, stored: ApiObject | undefined) => Promise<void>;
  readonly defaults?: (object: ApiObject) => void;
  readonly prepareCreate?: (object: ApiObject, context: StrategyContext) => void;
  readonly prepareUpdate?: (object: ApiObject, old: ApiObject, context: StrategyContext) => void;
  readonly validate?: (object: ApiObject, old: ApiObject | undefined) => FieldError[];
}

/** Where `…/scale` reads and writes, as JSON paths of the form `.spec.replicas`. */
export interface ScalePaths {
  readonly specReplicas: string;
  readonly statusReplicas: string;
  readonly labelSelector?: string;
}

export interface Kind extends Subject {
  readonly version: string;
  /** `v1`, `apps/v1`. */
  readonly apiVersion: string;
  /** What objects are stored as; every served version shows the same content under its own name. */
  readonly storageApiVersion: string;
  readonly singular: string;
  readonly listKind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly verbs: readonly Verb[];
  readonly status: boolean;
  readonly scale: ScalePaths | undefined;
  /** Further names below an object, for discovery; served by subresources.ts. */
  readonly extra: readonly {
    readonly name: string;
    readonly kind: string;
    readonly verbs: readonly Verb[];
  }[];
  readonly resource: ResourceKey;
  readonly columns: readonly Column[];
  /** Fields that custom resources can be selected by, as `spec.colour`. */
  readonly selectableFields: readonly string[];
  readonly strategy: Strategy;
  /** Custom resources only; built-in kinds have theirs in schema-bundle.ts. */
  readonly schema: StructuralSchema | undefined;
  /** Unknown fields are refused whatever the request says: dropping one would open what the author meant to close. */
  readonly alwaysStrict: boolean;
}
