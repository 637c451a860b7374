// Whether a definition gets the names it asks for. Two definitions of one group may not share any: the first one keeps it,
// and the other waits, not served, until it is free.

import { type ApiObject, at } from './object.ts';

export interface NameVerdict {
  /** Undefined when every name is free. */
  readonly conflict: { readonly reason: string; readonly message: string } | undefined;
}

const list = (value: unknown): string[] => (Array.isArray(value) ? value.map(String) : []);

function resourceNames(crd: ApiObject): string[] {
  const names = at(crd, 'spec', 'names');
  return [String(at(names, 'plural')), String(at(names, 'singular')), ...list(at(names, 'shortNames'))];
}

const kindNames = (crd: ApiObject): string[] =>
  ['kind', 'listKind'].map((name) => String(at(crd, 'spec', 'names', name)));

export const isEstablished = (crd: ApiObject): boolean => {
  const conditions = at(crd, 'status', 'conditions');
  return (
    Array.isArray(conditions) &&
    conditions.some((each: unknown) => at(each, 'type') === 'Established' && at(each, 'status') === 'True')
  );
};

/** `others` are all other definitions; those that are served have their names. */
export function acceptNames(crd: ApiObject, others: readonly ApiObject[]): NameVerdict {
  const group = at(crd, 'spec', 'group');
  const rivals = others.filter(
    (other) =>
      other.metadata.name !== crd.metadata.name &&
      at(other, 'spec', 'group') === group &&
      isEstablished(other),
  );
  const taken = new Set(rivals.flatMap(resourceNames));
  const takenKinds = new Set(rivals.flatMap(kindNames));
  const names = at(crd, 'spec', 'names');
  const wanted: [reason: string, name: string, taken: ReadonlySet<string>][] = [
    ['PluralConflict', String(at(names, 'plural')), taken],
    ['SingularConflict', String(at(names, 'singular')), taken],
    ...list(at(names, 'shortNames')).map((name): [string, string, ReadonlySet<string>] => [
      'ShortNamesConflict',
      name,
      taken,
    ]),
    ['KindConflict', String(at(names, 'kind')), takenKinds],
    ['ListKindConflict', String(at(names, 'listKind')), takenKinds],
  ];
  const clash = wanted.find(([, name, held]) => held.has(name));
  return {
    conflict:
      clash === undefined
        ? undefined
        : { reason: clash[0], message: `${JSON.stringify(clash[1])} is already in use` },
  };
}
