// What a schema cannot say about security policies. Each of these would be stored, look right, and not do what its
// author meant; Istio's admission refuses them too. Holds for the group whatever definition is loaded.

import { parseCidr } from '#net/cidr.ts';
import { parsePort } from '#net/host-port.ts';
import { type ApiObject, at, isObject } from './object.ts';
import { type FieldError, invalid, required } from './status.ts';

export function checkPolicy(object: ApiObject): FieldError[] {
  const spec = object.spec;
  if (spec === undefined) return [];
  if (object.kind === 'AuthorizationPolicy') return checkAuthorization(spec);
  return object.kind === 'PeerAuthentication' ? checkPeerAuthentication(spec) : [];
}

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

function checkAuthorization(spec: unknown): FieldError[] {
  const errors: FieldError[] = [];
  const action = at(spec, 'action');
  const rules = at(spec, 'rules');
  if (action === 'DENY' && list(rules).length === 0)
    errors.push(required('spec.rules', 'a DENY policy without rules never denies anything'));
  const provider = at(spec, 'provider', 'name');
  if (action === 'CUSTOM' && !provider)
    errors.push(required('spec.provider.name', 'a CUSTOM policy names the provider that decides'));
  if (action !== 'CUSTOM' && at(spec, 'provider') !== undefined)
    errors.push(invalid('spec.provider', provider, 'only a CUSTOM policy has a provider'));
  list(rules).forEach((rule, index) => {
    errors.push(...checkRule(rule, `spec.rules[${index}]`));
  });
  return errors;
}

function checkRule(rule: unknown, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const [part, content] of [
    ['from', 'source'],
    ['to', 'operation'],
  ] as const) {
    const entries = at(rule, part);
    if (Array.isArray(entries) && entries.length === 0)
      errors.push(
        required(`${path}.${part}`, 'an empty list would match everything; leave the field out for that'),
      );
    list(entries).forEach((entry, index) => {
      const at_ = `${path}.${part}[${index}].${content}`;
      const fields = at(entry, content);
      if (!isObject(fields) || Object.keys(fields).length === 0)
        errors.push(required(at_, 'at least one field must be set'));
      else
        for (const [name, values] of Object.entries(fields))
          errors.push(...checkValues(name, values, `${at_}.${name}`));
    });
  }
  list(at(rule, 'when')).forEach((condition, index) => {
    const at_ = `${path}.when[${index}]`;
    const lists = ['values', 'notValues'].filter((name) => list(at(condition, name)).length > 0);
    if (at(condition, 'key') === '') errors.push(required(`${at_}.key`));
    if (lists.length === 0) errors.push(required(`${at_}.values`, 'values or notValues must be set'));
  });
  return errors;
}

function checkValues(name: string, values: unknown, path: string): FieldError[] {
  if (!Array.isArray(values)) return [];
  if (values.length === 0)
    return [required(path, 'an empty list matches nothing; leave the field out or name a value')];
  return values.flatMap((value: unknown, index) => {
    const at_ = `${path}[${index}]`;
    if (typeof value !== 'string') return [];
    if (value === '') return [required(at_)];
    if (/ports$/i.test(name) && parsePort(value) === undefined)
      return [invalid(at_, value, 'must be a port number between 1 and 65535')];
    if (/ipBlocks$/i.test(name) && parseCidr(value) === undefined)
      return [invalid(at_, value, 'must be an IP address or a range in CIDR notation')];
    return [];
  });
}

function checkPeerAuthentication(spec: unknown): FieldError[] {
  const ports = at(spec, 'portLevelMtls');
  if (!isObject(ports)) return [];
  const errors = Object.keys(ports)
    .filter((port) => parsePort(port) === undefined)
    .map((port) => invalid(`spec.portLevelMtls[${port}]`, port, 'must be a port number between 1 and 65535'));
  const labels = at(spec, 'selector', 'matchLabels');
  if (!isObject(labels) || Object.keys(labels).length === 0)
    errors.push(required('spec.selector.matchLabels', 'portLevelMtls only works together with a selector'));
  return errors;
}
