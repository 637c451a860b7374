// Rules of the small built-in kinds: Namespace, Node, Secret, EndpointSlice.

import { parseIp } from '#net/ip.ts';
import type { Strategy } from './kind.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { canonicalQuantity } from './quantity.ts';
import { checkOutsideAddress } from './service-checks.ts';
import { type FieldError, invalid, notSupported, required } from './status.ts';

/** No rules beyond those of metadata. */
export const PLAIN: Strategy = { generation: false, nameRule: 'subdomain' };

export const namespaceStrategy: Strategy = {
  generation: false,
  nameRule: 'label',
  statusCarries: ['labels', 'annotations'],
  defaults: (object) => {
    // What policies and selectors match a namespace by.
    object.metadata.labels = {
      ...object.metadata.labels,
      'kubernetes.io/metadata.name': object.metadata.name,
    };
  },
  prepareCreate: (object) => {
    object.spec = { finalizers: ['kubernetes'] };
    object.status = { phase: 'Active' };
  },
  prepareUpdate: (object, old) => {
    // spec.finalizers changes through `…/finalize` only.
    object.spec = old.spec;
  },
};

export const nodeStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  keepStatusOnCreate: true,
  statusCarries: ['labels', 'annotations'],
  defaults: (object) => {
    object.spec ??= {};
  },
  // Its kubelet would have to guess what is meant.
  validate: ({ metadata: { annotations = {} } }) =>
    CAPACITY_ANNOTATIONS.flatMap((name) => {
      const value = annotations[name];
      const parsed = value === undefined ? { text: '' } : canonicalQuantity(value);
      return 'error' in parsed ? [invalid(`metadata.annotations[${name}]`, value, parsed.error)] : [];
    }),
};

/** What an emulated node shall have of the machine (kubelet/node-status.ts). */
const CAPACITY_ANNOTATIONS = ['culvert.local/cpu', 'culvert.local/memory'];

export const secretStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  defaults: (object) => {
    const plain = object.stringData;
    if (isObject(plain)) {
      const data: JsonObject = { ...(isObject(object.data) ? object.data : {}) };
      for (const [key, value] of Object.entries(plain))
        data[key] = Buffer.from(String(value)).toString('base64');
      object.data = data;
    }
    delete object.stringData;
    object.type ??= 'Opaque';
  },
  validate: (object, old) => {
    const errors: FieldError[] = Object.entries((object.data ?? {}) as JsonObject)
      .filter(([, value]) => typeof value !== 'string' || !/^[A-Za-z0-9+/\s]*={0,2}$/.test(value))
      .map(([key]) => invalid(`data[${key}]`, '<omitted>', 'must be base64'));
    if (old !== undefined && old.type !== object.type)
      errors.push(invalid('type', object.type, 'field is immutable'));
    return errors;
  },
};

const ADDRESS_TYPES = ['IPv4', 'IPv6', 'FQDN'];

export const endpointSliceStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  defaults: (object) => {
    for (const port of (Array.isArray(object.ports) ? object.ports : []) as JsonObject[]) {
      port.protocol ??= 'TCP';
      port.name ??= '';
    }
    object.endpoints ??= [];
  },
  validate: (object, old) => {
    const type = object.addressType;
    if (type === undefined) return [required('addressType')];
    if (!ADDRESS_TYPES.includes(String(type))) return [notSupported('addressType', type, ADDRESS_TYPES)];
    if (old !== undefined && at(old, 'addressType') !== type)
      return [invalid('addressType', type, 'field is immutable')];
    return type === 'FQDN' ? [] : checkSliceAddresses(object, String(type));
  },
};

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

function checkSliceAddresses(object: ApiObject, type: string): FieldError[] {
  return list(object.endpoints).flatMap((endpoint, index) =>
    list(at(endpoint, 'addresses')).flatMap((address, position) => {
      const path = `endpoints[${index}].addresses[${position}]`;
      if (typeof address === 'string' && parseIp(address) !== undefined)
        if (address.includes(':') !== (type === 'IPv6'))
          return [invalid(path, address, `must be an ${type} address`)];
      return checkOutsideAddress(path, address);
    }),
  );
}

/** As people write them for a Service without selector; mirrored into EndpointSlices by a controller. */
export const endpointsStrategy: Strategy = {
  generation: false,
  nameRule: 'subdomain',
  defaults: (object) => {
    for (const subset of list(object.subsets))
      for (const port of list(at(subset, 'ports'))) if (isObject(port)) port.protocol ??= 'TCP';
  },
  validate: (object) =>
    list(object.subsets).flatMap((subset, index) =>
      ['addresses', 'notReadyAddresses'].flatMap((field) =>
        list(at(subset, field)).flatMap((address, position) =>
          checkOutsideAddress(`subsets[${index}].${field}[${position}].ip`, at(address, 'ip')),
        ),
      ),
    ),
};
