// Columns that `kubectl get` shows for ingresses and for the webhook configurations of admission.

import { AGE, column, NAME } from './columns.ts';
import type { Column } from './kind.ts';
import { type ApiObject, at } from './object.ts';

/** More hosts than these are only counted. */
const SHOWN_HOSTS = 3;
const NONE = '<none>';

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

export const INGRESS_COLUMNS: readonly Column[] = [
  NAME,
  column('Class', (object) => String(at(object, 'spec', 'ingressClassName') ?? NONE)),
  column('Hosts', (object) => hostsOf(object)),
  column('Address', (object) =>
    list(at(object, 'status', 'loadBalancer', 'ingress'))
      .map((each) => String(at(each, 'ip') ?? at(each, 'hostname') ?? ''))
      .join(','),
  ),
  column('Ports', (object) => (list(at(object, 'spec', 'tls')).length > 0 ? '80, 443' : '80')),
  AGE,
];

export const INGRESS_CLASS_COLUMNS: readonly Column[] = [
  NAME,
  column('Controller', (object) => String(at(object, 'spec', 'controller') ?? '')),
  column('Parameters', (object) => parametersOf(object)),
  AGE,
];

export const WEBHOOK_CONFIGURATION_COLUMNS: readonly Column[] = [
  NAME,
  column('Webhooks', (object) => list(at(object, 'webhooks')).length, { type: 'integer' }),
  AGE,
];

function hostsOf(object: ApiObject): string {
  const hosts = list(at(object, 'spec', 'rules')).flatMap((rule) => {
    const host = at(rule, 'host');
    return typeof host === 'string' && host !== '' ? [host] : [];
  });
  if (hosts.length === 0) return '*';
  const shown = hosts.slice(0, SHOWN_HOSTS).join(',');
  return hosts.length > SHOWN_HOSTS ? `${shown} + ${hosts.length - SHOWN_HOSTS} more...` : shown;
}

function parametersOf(object: ApiObject): string {
  const { kind, apiGroup, name } = (at(object, 'spec', 'parameters') ?? {}) as Record<string, unknown>;
  if (kind === undefined) return NONE;
  return `${kind}${apiGroup === undefined ? '' : `.${apiGroup}`}/${name}`;
}
