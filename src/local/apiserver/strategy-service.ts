// Rules of Service: cluster addresses and node ports are given out here.

import type { Service } from '#k8s/objects.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { parseIp } from '#net/ip.ts';
import type { Strategy, StrategyContext } from './kind.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { duplicate, type FieldError, invalid, invalidObject, notSupported, required } from './status.ts';
import { resourceKey, type Store } from './store.ts';

const SERVICES = resourceKey('', 'services');
const SUBJECT = { group: '', plural: 'services', kind: 'Service' };
const SERVICE_CIDR = parseCidr('10.96.0.0/16')!;
const TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const NODE_PORTS = { first: 30_000, last: 32_767 };

const spec = (object: ApiObject): NonNullable<Partial<Service['spec']>> & JsonObject => {
  if (!isObject(object.spec)) object.spec = {};
  return object.spec as Partial<Service['spec']> & JsonObject;
};

export const serviceStrategy: Strategy = {
  generation: false,
  nameRule: 'label1035',
  statusCarries: ['labels', 'annotations'],
  defaults: (object) => {
    const service = spec(object);
    service.type ??= 'ClusterIP';
    service.sessionAffinity ??= 'None';
    if (service.type !== 'ExternalName') service.internalTrafficPolicy ??= 'Cluster';
    if (service.type === 'NodePort' || service.type === 'LoadBalancer')
      service.externalTrafficPolicy ??= 'Cluster';
    if (service.type === 'LoadBalancer') service.allocateLoadBalancerNodePorts ??= true;
    for (const port of ports(object)) {
      port.protocol ??= 'TCP';
      if (port.targetPort === undefined || port.targetPort === 0) port.targetPort = port.port;
    }
  },
  prepareCreate: (object, context) => {
    object.status = { loadBalancer: {} };
    allocate(object, context);
  },
  prepareUpdate: (object, old, context) => {
    const service = spec(object);
    const before = spec(old);
    // Clients that apply a manifest without addresses keep what they were given.
    if (service.type !== 'ExternalName' && before.type !== 'ExternalName') {
      if (service.clusterIP === undefined || service.clusterIP === '') service.clusterIP = before.clusterIP!;
      service.clusterIPs ??= before.clusterIPs!;
    }
    keepNodePorts(object, old);
    allocate(object, context);
  },
  validate: (object, old) => validate(object, old),
};

const ports = (object: ApiObject): JsonObject[] => {
  const found = at(object, 'spec', 'ports');
  return Array.isArray(found) ? found.filter(isObject) : [];
};

function allocate(object: ApiObject, { store }: StrategyContext): void {
  const service = spec(object);
  if (service.type === 'ExternalName') {
    delete service.clusterIP;
    delete service.clusterIPs;
    return;
  }
  service.clusterIP ??= service.clusterIPs?.[0] ?? '';
  const { name, namespace } = object.metadata;
  if (service.clusterIP === '') service.clusterIP = freeAddress(store);
  else if (service.clusterIP !== 'None') {
    const holder = store
      .list(SERVICES)
      .find(({ object: other }) => at(other, 'spec', 'clusterIP') === service.clusterIP);
    if (
      holder !== undefined &&
      (holder.object.metadata.name !== name || holder.object.metadata.namespace !== namespace)
    )
      throw invalidObject(SUBJECT, name, [
        invalid(
          'spec.clusterIPs',
          [service.clusterIP],
          `failed to allocate IP ${service.clusterIP}: provided IP is already allocated`,
        ),
      ]);
  }
  service.clusterIPs = [service.clusterIP];
  service.ipFamilies ??= ['IPv4'];
  service.ipFamilyPolicy ??= 'SingleStack';
  if (service.type === 'NodePort' || service.type === 'LoadBalancer') allocateNodePorts(object, store);
}

/**
 * Walks on from the highest address given so far: an address just given back is not used again soon, so a stale
 * connection does not reach a stranger. 10.96.0.x stays free for addresses asked for by number.
 */
function freeAddress(store: Store): string {
  const used = new Set<number>();
  for (const { object } of store.list(SERVICES)) {
    const match = /^10\.96\.(\d+)\.(\d+)$/.exec(String(at(object, 'spec', 'clusterIP')));
    if (match !== null) used.add(Number(match[1]) * 256 + Number(match[2]));
  }
  const first = 256;
  const last = 65_534;
  const start = Math.max(first - 1, ...used) + 1;
  for (let step = 0; step <= last - first; step++) {
    const candidate = first + ((start - first + step) % (last - first + 1));
    if (candidate % 256 !== 0 && candidate % 256 !== 255 && !used.has(candidate))
      return `10.96.${candidate >> 8}.${candidate & 255}`;
  }
  throw invalidObject(SUBJECT, '', [
    invalid('spec.clusterIP', '', 'every address of 10.96.0.0/16 is in use'),
  ]);
}

function allocateNodePorts(object: ApiObject, store: Store): void {
  const used = new Set<unknown>();
  for (const { object: other } of store.list(SERVICES))
    for (const port of ports(other)) used.add(port.nodePort);
  for (const port of ports(object)) used.add(port.nodePort);
  let candidate = NODE_PORTS.first;
  for (const port of ports(object)) {
    if (port.nodePort !== undefined && port.nodePort !== 0) continue;
    while (used.has(candidate)) candidate++;
    if (candidate > NODE_PORTS.last)
      throw invalidObject(SUBJECT, object.metadata.name, [
        invalid('spec.ports', '', 'every node port is in use'),
      ]);
    used.add(candidate);
    port.nodePort = candidate;
  }
}

function keepNodePorts(object: ApiObject, old: ApiObject): void {
  const type = spec(object).type;
  if (type !== 'NodePort' && type !== 'LoadBalancer') return;
  for (const port of ports(object)) {
    const before = ports(old).find((other) => other.port === port.port && other.protocol === port.protocol);
    if (port.nodePort === undefined && before?.nodePort !== undefined) port.nodePort = before.nodePort;
  }
}

function validate(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const service = spec(object);
  const errors: FieldError[] = [];
  if (!TYPES.includes(String(service.type))) errors.push(notSupported('spec.type', service.type, TYPES));
  if (service.type === 'ExternalName') {
    if (!service.externalName) errors.push(required('spec.externalName'));
  } else errors.push(...validateAddress(service.clusterIP));
  const headless = service.clusterIP === 'None';
  if (service.type !== 'ExternalName' && !headless && ports(object).length === 0)
    errors.push(required('spec.ports'));
  errors.push(...validatePorts(object));
  const before = old === undefined ? undefined : spec(old);
  if (
    before?.clusterIP !== undefined &&
    before.type === service.type &&
    before.clusterIP !== service.clusterIP
  )
    errors.push(invalid('spec.clusterIPs[0]', service.clusterIP, 'may not change once set'));
  return errors;
}

function validateAddress(address: string | undefined): FieldError[] {
  if (address === undefined || address === '' || address === 'None') return [];
  const parsed = parseIp(address);
  if (parsed === undefined) return [invalid('spec.clusterIPs[0]', address, 'must be a valid IP address')];
  if (!cidrContains(SERVICE_CIDR, parsed))
    return [
      invalid(
        'spec.clusterIPs',
        [address],
        'failed to allocate IP: the provided IP is not in the valid range 10.96.0.0/16',
      ),
    ];
  return [];
}

function validatePorts(object: ApiObject): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<unknown>();
  const numbers = new Set<string>();
  const all = ports(object);
  all.forEach((port, index) => {
    const path = `spec.ports[${index}]`;
    const { name, port: number, protocol } = port;
    if (all.length > 1 && (name === undefined || name === '')) errors.push(required(`${path}.name`));
    else if (name !== undefined && names.has(name)) errors.push(duplicate(`${path}.name`, name));
    names.add(name);
    if (!Number.isInteger(number) || (number as number) < 1 || (number as number) > 65_535)
      errors.push(invalid(`${path}.port`, number, 'must be between 1 and 65535, inclusive'));
    if (!PROTOCOLS.includes(String(protocol)))
      errors.push(notSupported(`${path}.protocol`, protocol, PROTOCOLS));
    const key = `${number}/${protocol}`;
    if (numbers.has(key)) errors.push(duplicate(path, { protocol, port: number }));
    numbers.add(key);
  });
  return errors;
}
