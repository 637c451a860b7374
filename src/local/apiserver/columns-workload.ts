// Columns of StatefulSets, revisions and disruption budgets.

import { AGE, column, containersColumns, NAME } from './columns.ts';
import type { Column } from './kind.ts';
import { type ApiObject, at } from './object.ts';

const number = (object: ApiObject, ...path: string[]): number => Number(at(object, ...path) ?? 0);

export const STATEFUL_SET_COLUMNS: readonly Column[] = [
  NAME,
  column(
    'Ready',
    (object) => `${number(object, 'status', 'readyReplicas')}/${number(object, 'spec', 'replicas')}`,
  ),
  AGE,
  ...containersColumns('spec', 'template', 'spec'),
];

function controllerText(object: ApiObject): string {
  const owner = object.metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (owner === undefined) return '<none>';
  const [group] = owner.apiVersion.includes('/') ? owner.apiVersion.split('/') : [''];
  return `${owner.kind.toLowerCase()}${group === '' ? '' : `.${group}`}/${owner.name}`;
}

export const CONTROLLER_REVISION_COLUMNS: readonly Column[] = [
  NAME,
  column('Controller', controllerText),
  column('Revision', (object) => Number(object.revision ?? 0), { type: 'integer' }),
  AGE,
];

export const DISRUPTION_BUDGET_COLUMNS: readonly Column[] = [
  NAME,
  column('Min Available', (object) => String(at(object, 'spec', 'minAvailable') ?? 'N/A')),
  column('Max Unavailable', (object) => String(at(object, 'spec', 'maxUnavailable') ?? 'N/A')),
  column('Allowed Disruptions', (object) => number(object, 'status', 'disruptionsAllowed'), {
    type: 'integer',
  }),
  AGE,
];
