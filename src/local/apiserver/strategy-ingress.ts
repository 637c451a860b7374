// Rules of Ingress and IngressClass. They are held for whoever serves them: like a real cluster, this one brings no
// ingress controller along.

import { parseIp } from '#net/ip.ts';
import type { Strategy } from './kind.ts';
import { checkName } from './names.ts';
import { at, isObject, type JsonObject } from './object.ts';
import { type FieldError, invalid, notSupported, required } from './status.ts';

const PATH_TYPES = ['Exact', 'ImplementationSpecific', 'Prefix'];
/** A domain, a slash, a path: `example.com/ingress-controller`. */
const CONTROLLER = /^[a-z0-9]([-.a-z0-9]*[a-z0-9])?\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/;
const CONTROLLER_MAX_BYTES = 250;

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

export const ingressStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  validate: (object) => {
    const rules = list(at(object, 'spec', 'rules'));
    const fallback = at(object, 'spec', 'defaultBackend');
    if (rules.length === 0 && fallback === undefined)
      return [invalid('spec', null, 'either `defaultBackend` or `rules` must be specified')];
    return [
      ...(fallback === undefined ? [] : checkBackend('spec.defaultBackend', fallback)),
      ...rules.flatMap((rule, index) => checkRule(`spec.rules[${index}]`, rule)),
    ];
  },
};

export const ingressClassStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  defaults: (object) => {
    const parameters = at(object, 'spec', 'parameters');
    if (isObject(parameters)) parameters.scope ??= 'Cluster';
  },
  validate: (object, old) => {
    const controller = at(object, 'spec', 'controller');
    if (old !== undefined && at(old, 'spec', 'controller') !== controller)
      return [invalid('spec.controller', controller, 'field is immutable')];
    if (typeof controller !== 'string' || controller === '') return [required('spec.controller')];
    if (controller.length > CONTROLLER_MAX_BYTES || !CONTROLLER.test(controller))
      return [
        invalid('spec.controller', controller, 'must be a domain-prefixed path (such as "acme.io/foo")'),
      ];
    return [];
  },
};

function checkRule(path: string, rule: unknown): FieldError[] {
  const host = at(rule, 'host');
  const http = at(rule, 'http');
  const paths = list(at(http, 'paths'));
  return [
    ...(typeof host === 'string' && host !== '' ? checkHost(`${path}.host`, host) : []),
    ...(http !== undefined && paths.length === 0 ? [required(`${path}.http.paths`)] : []),
    ...paths.flatMap((each, index) => checkPath(`${path}.http.paths[${index}]`, each)),
  ];
}

function checkHost(path: string, host: string): FieldError[] {
  if (parseIp(host) !== undefined) return [invalid(path, host, 'must be a DNS name, not an IP address')];
  // A leading wildcard label stands for exactly one label.
  return checkName('subdomain', host.startsWith('*.') ? host.slice(2) : host, path);
}

function checkPath(path: string, given: unknown): FieldError[] {
  const { path: prefix, pathType, backend } = (isObject(given) ? given : {}) as JsonObject;
  const errors = checkBackend(`${path}.backend`, backend);
  if (pathType === undefined) errors.push(required(`${path}.pathType`, 'pathType must be specified'));
  else if (!PATH_TYPES.includes(String(pathType)))
    errors.push(notSupported(`${path}.pathType`, pathType, PATH_TYPES));
  else if (pathType !== 'ImplementationSpecific' && !String(prefix ?? '').startsWith('/'))
    errors.push(invalid(`${path}.path`, prefix ?? '', 'must be an absolute path'));
  return errors;
}

function checkBackend(path: string, backend: unknown): FieldError[] {
  const service = at(backend, 'service');
  const resource = at(backend, 'resource');
  if (service !== undefined && resource !== undefined)
    return [invalid(path, '', 'cannot set both resource and service backends')];
  if (service === undefined)
    return resource === undefined ? [required(path, 'resource or service backend is required')] : [];
  const errors: FieldError[] = [];
  const name = at(service, 'name');
  if (typeof name !== 'string' || name === '') errors.push(required(`${path}.service.name`));
  const number = at(service, 'port', 'number');
  const portName = at(service, 'port', 'name');
  if (number !== undefined && portName !== undefined)
    errors.push(invalid(path, '', 'cannot set both port name & port number'));
  else if (number === undefined && portName === undefined)
    errors.push(required(path, 'port name or number is required'));
  else if (
    number !== undefined &&
    !(Number.isInteger(number) && Number(number) >= 1 && Number(number) <= 65_535)
  )
    errors.push(invalid(`${path}.service.port.number`, number, 'must be between 1 and 65535, inclusive'));
  return errors;
}
