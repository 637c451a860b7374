// Cluster addresses and node ports of Services: given out, kept over an update, and refused when somebody else has them.
// What is taken is read from the stored Services each time, so nothing can leak or be given twice after a restart.

import { ADDRESSES, type Family } from '#local/machine/plan.ts';
import { ip, ipFromBytes, ipToBytes, parseIp } from '#net/ip.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { invalid, invalidObject, type StatusError } from './status.ts';
import { resourceKey, type Store } from './store.ts';

const SERVICES = resourceKey('', 'services');
export const SUBJECT = { group: '', plural: 'services', kind: 'Service' };
export const NODE_PORTS = { first: 30_000, last: 32_767 } as const;

export const servicePorts = (object: ApiObject): JsonObject[] => {
  const found = at(object, 'spec', 'ports');
  return Array.isArray(found) ? found.filter(isObject) : [];
};

const refuse = (object: ApiObject, path: string, value: unknown, why: string): StatusError =>
  invalidObject(SUBJECT, object.metadata.name, [invalid(path, value, why)]);

const others = (object: ApiObject, store: Store): ApiObject[] =>
  store
    .list(SERVICES)
    .map(({ object: other }) => other as ApiObject)
    .filter(
      ({ metadata }) =>
        metadata.name !== object.metadata.name || metadata.namespace !== object.metadata.namespace,
    );

const addressesOf = (object: unknown): unknown[] => {
  const listed = at(object, 'spec', 'clusterIPs');
  return Array.isArray(listed) ? listed : [at(object, 'spec', 'clusterIP')];
};

/** The address asked for, or a free one for `''`. @throws StatusError 422 when it is taken or none is left. */
export function allocateAddress(object: ApiObject, wanted: string, family: Family, store: Store): string {
  if (wanted === '') return freeAddress(object, family, store);
  const parsed = parseIp(wanted);
  const isTaken = (held: unknown): boolean => typeof held === 'string' && parseIp(held) === parsed;
  if (others(object, store).some((other) => addressesOf(other).some(isTaken)))
    throw refuse(
      object,
      'spec.clusterIPs',
      addressesOf(object),
      `failed to allocate IP ${wanted}: provided IP is already allocated`,
    );
  return wanted;
}

/** The ranges differ in all but their last two bytes: an address is its range and a number below 65536. */
const RANGES = {
  IPv4: { cidr: ADDRESSES.IPv4.serviceCidr, bytes: ipToBytes(ip('10.96.0.0')) },
  IPv6: { cidr: ADDRESSES.IPv6.serviceCidr, bytes: ipToBytes(ip('fd00:10:96::')) },
};

/**
 * Walks on from the highest address given so far: an address just given back is not used again soon, so a stale
 * connection does not reach a stranger. The first 256 stay free for addresses asked for by number.
 */
function freeAddress(object: ApiObject, family: Family, store: Store): string {
  const { cidr, bytes } = RANGES[family];
  const prefix = bytes.subarray(0, -2);
  const used = new Set<number>();
  for (const { object: other } of store.list(SERVICES))
    for (const address of addressesOf(other)) {
      const parsed = typeof address === 'string' ? parseIp(address) : undefined;
      const held = parsed === undefined ? [] : [...ipToBytes(parsed)];
      if (held.length === bytes.length && prefix.every((byte, index) => byte === held[index]))
        used.add((held.at(-2) ?? 0) * 256 + (held.at(-1) ?? 0));
    }
  const first = 256;
  const last = 65_534;
  const start = Math.max(first - 1, ...used) + 1;
  for (let step = 0; step <= last - first; step++) {
    const candidate = first + ((start - first + step) % (last - first + 1));
    if (candidate % 256 !== 0 && candidate % 256 !== 255 && !used.has(candidate))
      return ipFromBytes(Uint8Array.from([...prefix, candidate >> 8, candidate & 255]));
  }
  throw refuse(object, 'spec.clusterIP', '', `every address of ${cidr} is in use`);
}

/**
 * Ports without a node port get one if `fill`; TCP and UDP of one number share it.
 * @throws StatusError 422 when one is taken or none is left.
 */
export function allocateNodePorts(
  object: ApiObject,
  store: Store,
  { fill }: { readonly fill: boolean },
): void {
  const taken = new Set<string>();
  const numbers = new Set<unknown>();
  for (const other of others(object, store))
    for (const { nodePort, protocol } of servicePorts(other)) {
      taken.add(`${String(nodePort)}/${String(protocol)}`);
      numbers.add(nodePort);
    }
  const ports = servicePorts(object);
  ports.forEach(({ nodePort, protocol }, index) => {
    if (hasNumber(nodePort) && taken.has(`${nodePort}/${String(protocol)}`))
      throw refuse(object, `spec.ports[${index}].nodePort`, nodePort, 'provided port is already allocated');
    numbers.add(nodePort);
  });
  if (!fill) return;
  let candidate: number = NODE_PORTS.first;
  for (const port of ports) {
    if (hasNumber(port.nodePort)) continue;
    const sibling = ports.find(
      (each) => each.port === port.port && each.protocol !== port.protocol && hasNumber(each.nodePort),
    );
    if (sibling !== undefined && !taken.has(`${String(sibling.nodePort)}/${String(port.protocol)}`)) {
      port.nodePort = sibling.nodePort as number;
      continue;
    }
    while (numbers.has(candidate)) candidate++;
    if (candidate > NODE_PORTS.last) throw refuse(object, 'spec.ports', '', 'every node port is in use');
    numbers.add(candidate);
    port.nodePort = candidate;
  }
}

const hasNumber = (nodePort: unknown): nodePort is number => typeof nodePort === 'number' && nodePort !== 0;
