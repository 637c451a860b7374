// Who sees the ServiceEntries of a namespace: `serviceEntryVisibility` of the mesh configuration (control-plane.md §2.13).

import type { LabelSelector } from '#k8s/objects.ts';
import { matchesSelector } from '#k8s/selectors.ts';
import type { Labels } from './labels.ts';

export type Visibility = 'Public' | 'Namespace' | 'None';

export interface ServiceEntryVisibility {
  readonly otherwise: Visibility;
  /** The first whose selectors all match the namespace decides; without selectors it is a catch-all. */
  readonly policies: readonly {
    readonly visibility: Visibility;
    readonly namespaceSelectors: readonly (LabelSelector | undefined)[];
  }[];
}

export const EVERYBODY: ServiceEntryVisibility = Object.freeze({ otherwise: 'Public', policies: [] });

export function visibilityIn(settings: ServiceEntryVisibility, namespaceLabels: Labels): Visibility {
  const policy = settings.policies.find(({ namespaceSelectors }) =>
    // A rule of a kind that is not known here has no selector and matches nothing.
    namespaceSelectors.every((selector) => matchesSelector(selector, namespaceLabels)),
  );
  return policy?.visibility ?? settings.otherwise;
}
