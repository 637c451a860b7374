// The sentences of an apply that meets other owners, word for word as clients and people know them.

import { pathTexts } from './field-path.ts';
import type { FieldSet } from './field-set.ts';
import type { Owner } from './owners.ts';
import { StatusError } from './status.ts';

export interface Conflict {
  readonly owner: Owner;
  /** What the apply would change and the other owns. */
  readonly fields: FieldSet;
}

export function applyConflict(conflicts: readonly Conflict[]): StatusError {
  const found = [...conflicts]
    .sort((a, b) => (sortKey(a.owner) < sortKey(b.owner) ? -1 : 1))
    .map(({ owner, fields }) => ({ name: ownerText(owner), paths: pathTexts(fields) }));
  const count = found.reduce((sum, { paths }) => sum + paths.length, 0);
  const list =
    count === 1
      ? `conflict with ${found[0]!.name}: ${found[0]!.paths[0]!}`
      : found
          .flatMap(({ name, paths }) => [`conflicts with ${name}:`, ...paths.map((path) => `- ${path}`)])
          .join('\n');
  return new StatusError(
    409,
    'Conflict',
    `Apply failed with ${count} conflict${count === 1 ? '' : 's'}: ${list}`,
    {
      causes: found.flatMap(({ name, paths }) =>
        paths.map((field) => ({ reason: 'FieldManagerConflict', message: `conflict with ${name}`, field })),
      ),
    },
  );
}

/** The order of the identifiers that Kubernetes writes for its owners. */
const sortKey = ({ manager, operation, apiVersion, subresource }: Owner): string =>
  JSON.stringify({
    manager,
    operation,
    ...(operation === 'Update' ? { apiVersion } : {}),
    ...(subresource === '' ? {} : { subresource }),
  });

function ownerText({ manager, operation, apiVersion, subresource }: Owner): string {
  const through = subresource === '' ? '' : ` with subresource ${JSON.stringify(subresource)}`;
  return `${JSON.stringify(manager)}${through}${operation === 'Update' ? ` using ${apiVersion}` : ''}`;
}
