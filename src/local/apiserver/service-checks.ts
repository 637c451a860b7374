// What a Service may say: the checks of Kubernetes, with its sentences, as far as the emulated cluster has the feature.

import type { Service } from '#k8s/objects.ts';
import { ADDRESSES } from '#local/machine/plan.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { parseIp } from '#net/ip.ts';
import { isDnsSubdomain } from './names.ts';
import type { ApiObject, JsonObject } from './object.ts';
import { NODE_PORTS, servicePorts } from './service-allocation.ts';
import { checkFamilies, familyOfAddress } from './service-families.ts';
import { duplicate, type FieldError, fieldForbidden, invalid, notSupported, required } from './status.ts';

const TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const POLICIES = ['Cluster', 'Local'];
const AFFINITIES = ['ClientIP', 'None'];
const MAX_AFFINITY_S = 86_400;
/** IANA_SVC_NAME (RFC 6335 §5.1). */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

type Spec = Partial<Service['spec']> & JsonObject;

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535;
const PORT_RANGE = 'must be between 1 and 65535, inclusive';

export function checkService(object: ApiObject, old: ApiObject | undefined): FieldError[] {
  const spec = (object.spec ?? {}) as Spec;
  const before = old === undefined ? undefined : ((old.spec ?? {}) as Spec);
  const errors: FieldError[] = [];
  if (!TYPES.includes(String(spec.type))) errors.push(notSupported('spec.type', spec.type, TYPES));
  if (spec.type === 'ExternalName') errors.push(...checkExternalName(spec));
  else errors.push(...checkAddresses(spec), ...checkFamilies(spec, before));
  if (spec.clusterIP === 'None' && hasNodePorts(spec))
    errors.push(invalid('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${spec.type} services`));
  if (spec.type !== 'ExternalName' && spec.clusterIP !== 'None' && servicePorts(object).length === 0)
    errors.push(required('spec.ports'));
  errors.push(...checkPorts(object, spec), ...checkTraffic(spec), ...checkAffinity(spec));
  (spec.externalIPs ?? []).forEach((address, index) => {
    errors.push(...checkOutsideAddress(`spec.externalIPs[${index}]`, address));
  });
  return errors;
}

const hasNodePorts = ({ type }: Spec): boolean => type === 'NodePort' || type === 'LoadBalancer';

function checkExternalName({ externalName }: Spec): FieldError[] {
  if (!externalName) return [required('spec.externalName')];
  const name = externalName.replace(/\.$/, '');
  return isDnsSubdomain(name)
    ? []
    : [invalid('spec.externalName', externalName, 'must be a DNS name: lower case letters, digits, - and .')];
}

function checkAddresses({
  clusterIP,
  clusterIPs = clusterIP === undefined ? [] : [clusterIP],
}: Spec): FieldError[] {
  return clusterIPs.flatMap((address, index) => {
    if (address === '' || (index === 0 && address === 'None')) return [];
    const parsed = parseIp(address);
    if (parsed === undefined)
      return [invalid(`spec.clusterIPs[${index}]`, address, 'must be a valid IP address')];
    const range = ADDRESSES[familyOfAddress(address)].serviceCidr;
    const cidr = parseCidr(range);
    if (cidr !== undefined && cidrContains(cidr, parsed)) return [];
    const why = `failed to allocate IP: the provided IP is not in the valid range ${range}`;
    return [invalid('spec.clusterIPs', clusterIPs, why)];
  });
}

function checkPorts(object: ApiObject, spec: Spec): FieldError[] {
  const errors: FieldError[] = [];
  const names = new Set<unknown>();
  const numbers = new Set<string>();
  const nodePorts = new Set<string>();
  const all = servicePorts(object);
  all.forEach((port, index) => {
    const path = `spec.ports[${index}]`;
    const { name, port: number, protocol, targetPort, nodePort } = port;
    if (all.length > 1 && (name === undefined || name === '')) errors.push(required(`${path}.name`));
    else if (name !== undefined && names.has(name)) errors.push(duplicate(`${path}.name`, name));
    names.add(name);
    if (!isPort(number)) errors.push(invalid(`${path}.port`, number, PORT_RANGE));
    if (!PROTOCOLS.includes(String(protocol)))
      errors.push(notSupported(`${path}.protocol`, protocol, PROTOCOLS));
    errors.push(...checkTargetPort(`${path}.targetPort`, targetPort));
    const key = `${String(number)}/${String(protocol)}`;
    if (numbers.has(key)) errors.push(duplicate(path, { protocol, port: number }));
    numbers.add(key);
    if (nodePort === undefined || nodePort === 0) return;
    const nodeKey = `${String(nodePort)}/${String(protocol)}`;
    if (!hasNodePorts(spec))
      errors.push(
        fieldForbidden(`${path}.nodePort`, `may not be used when \`type\` is '${String(spec.type)}'`),
      );
    else if (typeof nodePort !== 'number' || nodePort < NODE_PORTS.first || nodePort > NODE_PORTS.last)
      errors.push(
        invalid(
          `${path}.nodePort`,
          nodePort,
          `provided port is not in the valid range. The range of valid ports is ${NODE_PORTS.first}-${NODE_PORTS.last}`,
        ),
      );
    else if (nodePorts.has(nodeKey)) errors.push(duplicate(`${path}.nodePort`, nodePort));
    nodePorts.add(nodeKey);
  });
  return errors;
}

function checkTargetPort(path: string, target: unknown): FieldError[] {
  if (target === undefined || target === '') return [];
  if (typeof target === 'number') return isPort(target) ? [] : [invalid(path, target, PORT_RANGE)];
  if (PORT_NAME.test(String(target)) || /^\d+$/.test(String(target))) return [];
  const rule =
    'must be the name of a container port: at most 15 lower case letters, digits and single -, at least one letter';
  return [invalid(path, target, rule)];
}

function checkTraffic(spec: Spec): FieldError[] {
  const { internalTrafficPolicy: internal, externalTrafficPolicy: external } = spec;
  const errors: FieldError[] = [];
  if (internal !== undefined && !POLICIES.includes(internal))
    errors.push(notSupported('spec.internalTrafficPolicy', internal, POLICIES));
  if (external === undefined) return errors;
  if (!hasNodePorts(spec) && (spec.externalIPs ?? []).length === 0)
    errors.push(
      invalid('spec.externalTrafficPolicy', external, 'may only be set for externally-accessible services'),
    );
  else if (!POLICIES.includes(external))
    errors.push(notSupported('spec.externalTrafficPolicy', external, POLICIES));
  return errors;
}

function checkAffinity({ sessionAffinity, sessionAffinityConfig }: Spec): FieldError[] {
  if (!AFFINITIES.includes(String(sessionAffinity)))
    return [notSupported('spec.sessionAffinity', sessionAffinity, AFFINITIES)];
  if (sessionAffinity === 'None')
    return sessionAffinityConfig === undefined
      ? []
      : [fieldForbidden('spec.sessionAffinityConfig', 'must not be set when session affinity is None')];
  const seconds = sessionAffinityConfig?.clientIP?.timeoutSeconds;
  return typeof seconds === 'number' && seconds > 0 && seconds <= MAX_AFFINITY_S
    ? []
    : [
        invalid(
          'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
          seconds,
          `must be greater than 0 and less than ${MAX_AFFINITY_S}`,
        ),
      ];
}

const LOOPBACK = ['127.0.0.0/8', '::1/128'].map((range) => ({ range, cidr: parseCidr(range) }));
const LINK_LOCAL = ['169.254.0.0/16', 'fe80::/10', '224.0.0.0/24', 'ff02::/10'].map((range) => ({
  range,
  cidr: parseCidr(range),
}));

/** An address that traffic of the cluster may be sent to: not the node's own loopback, where its secrets listen. */
export function checkOutsideAddress(path: string, address: unknown): FieldError[] {
  const parsed = typeof address === 'string' ? parseIp(address) : undefined;
  if (parsed === undefined) return [invalid(path, address, 'must be a valid IP address')];
  const within = (list: typeof LOOPBACK): boolean =>
    list.some(({ cidr }) => cidr !== undefined && cidrContains(cidr, parsed));
  if (parsed === '0.0.0.0' || parsed === '::')
    return [invalid(path, address, `may not be unspecified (${address})`)];
  if (within(LOOPBACK))
    return [invalid(path, address, 'may not be in the loopback range (127.0.0.0/8, ::1/128)')];
  if (within(LINK_LOCAL))
    return [invalid(path, address, 'may not be in the link-local range (169.254.0.0/16, fe80::/10)')];
  return [];
}
