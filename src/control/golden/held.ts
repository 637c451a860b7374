// The mesh model for tests, told of golden objects.

import type { KubeObject } from '#k8s/objects.ts';
import { OPTIONS } from '../ambient/fixtures-index.ts';
import { MeshModel, type MeshModelOptions, type ModelKind } from '../mesh-model.ts';
import type { GoldenObject } from './cases.ts';

/** A model with the objects that it was told of, as informers hold them. */
export class Held {
  readonly model: MeshModel;
  readonly #objects = new Map<string, readonly [ModelKind, KubeObject]>();

  constructor(options: Partial<MeshModelOptions> = {}) {
    const objects = this.#objects;
    this.model = new MeshModel(
      {
        schedule: () => {},
        held: {
          objectsIn: (namespace) =>
            [...objects.values()].filter(([, { metadata }]) => metadata.namespace === namespace),
          namespacesInUse: () =>
            [...objects.values()].flatMap(([, { metadata }]) => metadata.namespace ?? []),
        },
      },
      { ...OPTIONS, ...options },
    );
  }

  put({ kind, object }: GoldenObject): void {
    this.#objects.set(keyOf(kind, object), [kind, object]);
    this.model.upsert(kind, object as never);
  }

  drop({ kind, object }: GoldenObject): void {
    this.#objects.delete(keyOf(kind, object));
    this.model.remove(kind, object as never);
  }

  contents(): string[] {
    return [this.model.addresses, this.model.policies].flatMap((set) =>
      [...set.list()].map(({ name, version }) => `${name} ${version}`).sort(),
    );
  }
}

export const keyOf = (kind: ModelKind, { metadata }: KubeObject): string =>
  `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
