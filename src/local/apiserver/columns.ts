// Columns that `kubectl get` shows for the built-in kinds (pods: columns-pod.ts).

import { ageOf, labelsText, selectorText } from './cells.ts';
import type { Column } from './kind.ts';
import { type ApiObject, at, isObject } from './object.ts';

export function column(
  name: string,
  cell: Column['cell'],
  extra: { readonly type?: Column['type']; readonly wide?: boolean; readonly description?: string } = {},
): Column {
  return {
    name,
    type: extra.type ?? 'string',
    description: extra.description ?? '',
    priority: extra.wide === true ? 1 : 0,
    cell,
  };
}

export const NAME = column('Name', (object) => object.metadata.name, {
  description: 'The name of the object, unique within its namespace.',
});
export const AGE = column('Age', (object, nowMs) => ageOf(object.metadata.creationTimestamp, nowMs), {
  description: 'The time since the object was created.',
});

export const DEFAULT_COLUMNS: readonly Column[] = [NAME, AGE];

const text = (object: ApiObject, ...path: string[]): string => String(at(object, ...path) ?? '<none>');
const number = (object: ApiObject, ...path: string[]): number => Number(at(object, ...path) ?? 0);
const count = (value: unknown): number =>
  Array.isArray(value) ? value.length : isObject(value) ? Object.keys(value).length : 0;
const items = (object: ApiObject, ...path: string[]): unknown[] => {
  const found = at(object, ...path);
  return Array.isArray(found) ? found : [];
};
const joined = (values: unknown[]): string => values.map(String).join(',') || '<none>';

export const containersColumns = (...path: string[]): Column[] => [
  column(
    'Containers',
    (object) => joined(items(object, ...path, 'containers').map((each) => at(each, 'name'))),
    {
      wide: true,
    },
  ),
  column(
    'Images',
    (object) => joined(items(object, ...path, 'containers').map((each) => at(each, 'image'))),
    {
      wide: true,
    },
  ),
];
const SELECTOR = column('Selector', (object) => selectorText(at(object, 'spec', 'selector')), { wide: true });

export const NAMESPACE_COLUMNS: readonly Column[] = [
  NAME,
  column('Status', (object) => text(object, 'status', 'phase')),
  AGE,
];

function nodeRoles(object: ApiObject): string {
  const prefix = 'node-role.kubernetes.io/';
  const roles = Object.keys(object.metadata.labels ?? {})
    .filter((label) => label.startsWith(prefix))
    .map((label) => label.slice(prefix.length));
  return joined(roles.sort());
}

function nodeStatus(object: ApiObject): string {
  const ready = items(object, 'status', 'conditions').find((each) => at(each, 'type') === 'Ready');
  const words = [ready === undefined ? 'Unknown' : at(ready, 'status') === 'True' ? 'Ready' : 'NotReady'];
  if (at(object, 'spec', 'unschedulable') === true) words.push('SchedulingDisabled');
  return words.join(',');
}

const nodeAddress = (type: string) => (object: ApiObject) =>
  String(
    at(
      items(object, 'status', 'addresses').find((each) => at(each, 'type') === type),
      'address',
    ) ?? '<none>',
  );

export const NODE_COLUMNS: readonly Column[] = [
  NAME,
  column('Status', nodeStatus),
  column('Roles', nodeRoles),
  AGE,
  column('Version', (object) => text(object, 'status', 'nodeInfo', 'kubeletVersion')),
  column('Internal-IP', nodeAddress('InternalIP'), { wide: true }),
  column('External-IP', nodeAddress('ExternalIP'), { wide: true }),
  column('OS-Image', (object) => text(object, 'status', 'nodeInfo', 'osImage'), { wide: true }),
  column('Kernel-Version', (object) => text(object, 'status', 'nodeInfo', 'kernelVersion'), { wide: true }),
  column('Container-Runtime', (object) => text(object, 'status', 'nodeInfo', 'containerRuntimeVersion'), {
    wide: true,
  }),
];

function servicePorts(object: ApiObject): string {
  return joined(
    items(object, 'spec', 'ports').map((port) => {
      const nodePort = at(port, 'nodePort');
      const number =
        nodePort === undefined ? String(at(port, 'port')) : `${String(at(port, 'port'))}:${String(nodePort)}`;
      return `${number}/${String(at(port, 'protocol') ?? 'TCP')}`;
    }),
  );
}

function externalIp(object: ApiObject): string {
  const type = at(object, 'spec', 'type');
  if (type === 'ExternalName') return text(object, 'spec', 'externalName');
  const ingress = items(object, 'status', 'loadBalancer', 'ingress').map(
    (each) => at(each, 'ip') ?? at(each, 'hostname'),
  );
  const all = [...ingress, ...items(object, 'spec', 'externalIPs')];
  return all.length === 0 && type === 'LoadBalancer' ? '<pending>' : joined(all);
}

export const SERVICE_COLUMNS: readonly Column[] = [
  NAME,
  column('Type', (object) => text(object, 'spec', 'type')),
  column('Cluster-IP', (object) => text(object, 'spec', 'clusterIP')),
  column('External-IP', externalIp),
  column('Port(s)', servicePorts),
  AGE,
  column('Selector', (object) => labelsText(at(object, 'spec', 'selector')), { wide: true }),
];

export const CONFIG_MAP_COLUMNS: readonly Column[] = [
  NAME,
  column('Data', (object) => count(object.data) + count(object.binaryData), { type: 'integer' }),
  AGE,
];

export const SECRET_COLUMNS: readonly Column[] = [
  NAME,
  column('Type', (object) => text(object, 'type')),
  column('Data', (object) => count(object.data), { type: 'integer' }),
  AGE,
];

export const EVENT_COLUMNS: readonly Column[] = [
  column('Last Seen', (object, nowMs) =>
    ageOf(String(object.lastTimestamp ?? object.eventTime ?? object.metadata.creationTimestamp), nowMs),
  ),
  column('Type', (object) => text(object, 'type')),
  column('Reason', (object) => text(object, 'reason')),
  column(
    'Object',
    (object) =>
      `${text(object, 'involvedObject', 'kind').toLowerCase()}/${text(object, 'involvedObject', 'name')}`,
  ),
  column('Message', (object) => text(object, 'message').trim()),
];

export const DEPLOYMENT_COLUMNS: readonly Column[] = [
  NAME,
  column(
    'Ready',
    (object) => `${number(object, 'status', 'readyReplicas')}/${number(object, 'spec', 'replicas')}`,
  ),
  column('Up-to-date', (object) => number(object, 'status', 'updatedReplicas'), { type: 'integer' }),
  column('Available', (object) => number(object, 'status', 'availableReplicas'), { type: 'integer' }),
  AGE,
  ...containersColumns('spec', 'template', 'spec'),
  SELECTOR,
];

export const REPLICA_SET_COLUMNS: readonly Column[] = [
  NAME,
  column('Desired', (object) => number(object, 'spec', 'replicas'), { type: 'integer' }),
  column('Current', (object) => number(object, 'status', 'replicas'), { type: 'integer' }),
  column('Ready', (object) => number(object, 'status', 'readyReplicas'), { type: 'integer' }),
  AGE,
  ...containersColumns('spec', 'template', 'spec'),
  SELECTOR,
];

export const DAEMON_SET_COLUMNS: readonly Column[] = [
  NAME,
  column('Desired', (object) => number(object, 'status', 'desiredNumberScheduled'), { type: 'integer' }),
  column('Current', (object) => number(object, 'status', 'currentNumberScheduled'), { type: 'integer' }),
  column('Ready', (object) => number(object, 'status', 'numberReady'), { type: 'integer' }),
  column('Up-to-date', (object) => number(object, 'status', 'updatedNumberScheduled'), { type: 'integer' }),
  column('Available', (object) => number(object, 'status', 'numberAvailable'), { type: 'integer' }),
  column('Node Selector', (object) => labelsText(at(object, 'spec', 'template', 'spec', 'nodeSelector'))),
  AGE,
  ...containersColumns('spec', 'template', 'spec'),
  SELECTOR,
];

function shortened(values: unknown[]): string {
  const shown = values.slice(0, 3).map(String).join(',');
  if (shown === '') return '<unset>';
  return values.length > 3 ? `${shown} + ${values.length - 3} more...` : shown;
}

export const ENDPOINT_SLICE_COLUMNS: readonly Column[] = [
  NAME,
  column('AddressType', (object) => text(object, 'addressType')),
  column('Ports', (object) => shortened(items(object, 'ports').map((port) => at(port, 'port') ?? '*'))),
  column('Endpoints', (object) =>
    shortened(
      items(object, 'endpoints').flatMap((each) => (at(each, 'addresses') as unknown[] | undefined) ?? []),
    ),
  ),
  AGE,
];

export const ENDPOINTS_COLUMNS: readonly Column[] = [
  NAME,
  column('Endpoints', (object) => {
    const all = items(object, 'subsets').flatMap((subset) => {
      const addresses = (at(subset, 'addresses') as unknown[] | undefined) ?? [];
      const ports = (at(subset, 'ports') as unknown[] | undefined) ?? [];
      return addresses.flatMap((address) => {
        const ip = String(at(address, 'ip'));
        return ports.length === 0 ? [ip] : ports.map((port) => `${ip}:${String(at(port, 'port'))}`);
      });
    });
    if (all.length === 0) return '<none>';
    return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
  }),
  AGE,
];

export const NETWORK_POLICY_COLUMNS: readonly Column[] = [
  NAME,
  column('Pod-Selector', (object) => selectorText(at(object, 'spec', 'podSelector'))),
  AGE,
];

export const LEASE_COLUMNS: readonly Column[] = [
  NAME,
  column('Holder', (object) => String(at(object, 'spec', 'holderIdentity') ?? '')),
  AGE,
];

export const ROLE_BINDING_COLUMNS: readonly Column[] = [
  NAME,
  column('Role', (object) => `${text(object, 'roleRef', 'kind')}/${text(object, 'roleRef', 'name')}`),
  AGE,
];

/** kubectl prints no age of roles and definitions but the time itself. */
export const CREATED_AT_COLUMNS: readonly Column[] = [
  NAME,
  column('Created At', (object) => object.metadata.creationTimestamp ?? '<unknown>', { type: 'date' }),
];
