// Rules of NetworkPolicy: defaults and checks. What a policy means stands in net/policy-rules.ts.

import type { NetworkPolicy } from '#k8s/objects.ts';
import { policyTypesOf } from '#local/net/policy-rules.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import type { Strategy } from './kind.ts';
import { checkLabels } from './names.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { type FieldError, fieldForbidden, invalid, notSupported, required } from './status.ts';

const TYPES = ['Egress', 'Ingress'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const OPERATORS = ['DoesNotExist', 'Exists', 'In', 'NotIn'];
/** IANA_SVC_NAME (RFC 6335 §5.1). */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;

export const networkPolicyStrategy: Strategy = {
  generation: true,
  nameRule: 'subdomain',
  defaults: (object) => {
    const spec: JsonObject = isObject(object.spec) ? object.spec : {};
    object.spec = spec;
    spec.podSelector ??= {};
    for (const section of ['ingress', 'egress'])
      for (const rule of list(spec[section]))
        for (const port of list(at(rule, 'ports'))) if (isObject(port)) port.protocol ??= 'TCP';
    if (list(spec.policyTypes).length === 0)
      spec.policyTypes = [...policyTypesOf(object as unknown as NetworkPolicy)];
  },
  validate: (object) => {
    const types = list(at(object, 'spec', 'policyTypes'));
    return [
      ...checkSelector('spec.podSelector', at(object, 'spec', 'podSelector')),
      ...types
        .filter((type) => !TYPES.includes(String(type)))
        .map((type) => notSupported('spec.policyTypes', type, TYPES)),
      ...(types.length > 2
        ? [invalid('spec.policyTypes', types, 'may not specify more than two policyTypes')]
        : []),
      ...checkRules(object, 'ingress', 'from'),
      ...checkRules(object, 'egress', 'to'),
    ];
  },
};

function checkRules(object: ApiObject, section: string, side: string): FieldError[] {
  return list(at(object, 'spec', section)).flatMap((rule, index) => {
    const path = `spec.${section}[${index}]`;
    return [
      ...list(at(rule, 'ports')).flatMap((port, each) => checkPort(`${path}.ports[${each}]`, port)),
      ...list(at(rule, side)).flatMap((peer, each) => checkPeer(`${path}.${side}[${each}]`, peer)),
    ];
  });
}

function checkPort(path: string, given: unknown): FieldError[] {
  const { protocol, port, endPort } = (isObject(given) ? given : {}) as JsonObject;
  const errors: FieldError[] = [];
  if (protocol !== undefined && !PROTOCOLS.includes(String(protocol)))
    errors.push(notSupported(`${path}.protocol`, protocol, PROTOCOLS));
  if (typeof port === 'string') {
    if (!PORT_NAME.test(port))
      errors.push(
        invalid(
          `${path}.port`,
          port,
          'must be a number, or the name of a container port: at most 15 lower case letters, digits and single -, at least one letter',
        ),
      );
  } else if (port !== undefined && !isPort(port))
    errors.push(invalid(`${path}.port`, port, 'must be between 1 and 65535, inclusive'));
  if (endPort === undefined) return errors;
  if (port === undefined)
    errors.push(required(`${path}.port`, 'must be specified when `endPort` is specified'));
  else if (typeof port === 'string')
    errors.push(invalid(`${path}.endPort`, endPort, 'may not be specified when `port` is non-numeric'));
  else if (!isPort(endPort))
    errors.push(invalid(`${path}.endPort`, endPort, 'must be between 1 and 65535, inclusive'));
  else if (isPort(port) && endPort < port)
    errors.push(invalid(`${path}.endPort`, endPort, 'must be greater than or equal to `port`'));
  return errors;
}

function checkPeer(path: string, given: unknown): FieldError[] {
  const { podSelector, namespaceSelector, ipBlock } = (isObject(given) ? given : {}) as JsonObject;
  const errors = [
    ...checkSelector(`${path}.podSelector`, podSelector),
    ...checkSelector(`${path}.namespaceSelector`, namespaceSelector),
  ];
  if (ipBlock === undefined) {
    // Nothing at all would select everything, where the author meant something.
    if (podSelector === undefined && namespaceSelector === undefined)
      errors.push(required(path, 'must specify a peer'));
    return errors;
  }
  if (podSelector !== undefined || namespaceSelector !== undefined)
    errors.push(fieldForbidden(path, 'may not specify both ipBlock and another peer'));
  return [...errors, ...checkBlock(`${path}.ipBlock`, ipBlock)];
}

function checkBlock(path: string, block: unknown): FieldError[] {
  const cidr = at(block, 'cidr');
  if (cidr === undefined || cidr === '') return [required(`${path}.cidr`)];
  const whole = cidrOf(cidr);
  if (whole === undefined)
    return [invalid(`${path}.cidr`, cidr, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)')];
  return list(at(block, 'except')).flatMap((except, index) => {
    const where = `${path}.except[${index}]`;
    const hole = cidrOf(except);
    if (hole === undefined)
      return [invalid(where, except, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)')];
    const inside = cidrContains(whole, hole.address) && hole.prefixLength > whole.prefixLength;
    return inside ? [] : [invalid(where, except, `must be a strict subset of \`cidr\``)];
  });
}

const cidrOf = (text: unknown): ReturnType<typeof parseCidr> =>
  typeof text === 'string' && text.includes('/') ? parseCidr(text) : undefined;

function checkSelector(path: string, selector: unknown): FieldError[] {
  if (selector === undefined) return [];
  if (!isObject(selector)) return [invalid(path, selector, 'must be a label selector')];
  return [
    ...checkLabels(selector.matchLabels, `${path}.matchLabels`),
    ...list(selector.matchExpressions).flatMap((expression, index) => {
      const where = `${path}.matchExpressions[${index}]`;
      const { key, operator, values } = (isObject(expression) ? expression : {}) as JsonObject;
      if (typeof key !== 'string' || key === '') return [required(`${where}.key`)];
      if (!OPERATORS.includes(String(operator)))
        return [notSupported(`${where}.operator`, operator, OPERATORS)];
      const takesValues = operator === 'In' || operator === 'NotIn';
      if (takesValues && list(values).length === 0)
        return [required(`${where}.values`, "must be specified when `operator` is 'In' or 'NotIn'")];
      if (!takesValues && list(values).length > 0)
        return [
          fieldForbidden(
            `${where}.values`,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
          ),
        ];
      return [];
    }),
  ];
}
