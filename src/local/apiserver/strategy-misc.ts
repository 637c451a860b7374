// Rules of the small built-in kinds: Namespace, Node, Secret, EndpointSlice.

import type { Strategy } from './kind.ts';
import { at, isObject, type JsonObject } from './object.ts';
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
};

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
    return [];
  },
};
