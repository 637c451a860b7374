// Checks of a pod's spec: what the kubelet could not make sense of, in Kubernetes' words.

import { parseQuantity } from '#local/kubelet/quantity.ts';
import { isDnsLabel } from './names.ts';
import { equal, isObject, type JsonObject } from './object.ts';
import { duplicate, type FieldError, fieldForbidden, invalid, notSupported, required } from './status.ts';

const LABEL_TEXT =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const RESTART_POLICIES = ['Always', 'OnFailure', 'Never'];
const DNS_POLICIES = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];
const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];

/** `addedVolumes`: names of volumes that its pods will have beside those of the spec. */
export function validatePodSpec(
  spec: JsonObject,
  path: string,
  addedVolumes: readonly string[] = [],
): FieldError[] {
  const errors: FieldError[] = [];
  const volumes = new Set<string>();
  each(spec.volumes, `${path}.volumes`, errors, (volume, at) => {
    checkUniqueName(volume, at, volumes, errors);
    if (Object.keys(volume).length > 2)
      errors.push(fieldForbidden(at, 'may not specify more than 1 volume type'));
  });
  for (const name of addedVolumes) volumes.add(name);
  const names = new Set<string>();
  if (!Array.isArray(spec.containers) || spec.containers.length === 0)
    errors.push(required(`${path}.containers`));
  for (const group of ['containers', 'initContainers'])
    each(spec[group], `${path}.${group}`, errors, (container, at) => {
      checkUniqueName(container, at, names, errors);
      errors.push(...validateContainer(container, at, volumes));
    });
  oneOf(spec.restartPolicy, `${path}.restartPolicy`, RESTART_POLICIES, errors);
  oneOf(spec.dnsPolicy, `${path}.dnsPolicy`, DNS_POLICIES, errors);
  const grace = spec.terminationGracePeriodSeconds;
  if (grace !== undefined && !(Number.isInteger(grace) && (grace as number) >= 0))
    errors.push(
      invalid(`${path}.terminationGracePeriodSeconds`, grace, 'must be greater than or equal to 0'),
    );
  const account = spec.serviceAccountName;
  if (account !== undefined && typeof account !== 'string')
    errors.push(invalid(`${path}.serviceAccountName`, account, 'must be a string'));
  return errors;
}

function validateContainer(container: JsonObject, path: string, volumes: ReadonlySet<string>): FieldError[] {
  const errors: FieldError[] = [];
  if (typeof container.image !== 'string' || container.image.trim() === '')
    errors.push(required(`${path}.image`));
  for (const name of ['command', 'args'])
    if (container[name] !== undefined && !isStringList(container[name]))
      errors.push(invalid(`${path}.${name}`, container[name], 'must be a list of strings'));
  each(container.ports, `${path}.ports`, errors, (port, at) => {
    checkPort(port.containerPort, `${at}.containerPort`, errors);
    oneOf(port.protocol, `${at}.protocol`, PROTOCOLS, errors);
  });
  each(container.env, `${path}.env`, errors, (variable, at) => {
    if (typeof variable.name !== 'string' || variable.name === '') errors.push(required(`${at}.name`));
    if (variable.value !== undefined && typeof variable.value !== 'string')
      errors.push(invalid(`${at}.value`, variable.value, 'must be a string'));
    if (variable.valueFrom !== undefined && variable.value !== undefined && variable.value !== '')
      errors.push(invalid(`${at}.valueFrom`, '', 'may not be specified when `value` is not empty'));
  });
  const paths = new Set<string>();
  each(container.volumeMounts, `${path}.volumeMounts`, errors, (mount, at) => {
    const name = mount.name;
    if (typeof name !== 'string' || name === '') errors.push(required(`${at}.name`));
    else if (!volumes.has(name))
      errors.push({ path: `${at}.name`, type: 'Invalid', message: `${JSON.stringify(name)}: not found` });
    const mountPath = mount.mountPath;
    if (typeof mountPath !== 'string' || mountPath === '') errors.push(required(`${at}.mountPath`));
    else if (paths.has(mountPath)) errors.push(invalid(`${at}.mountPath`, mountPath, 'must be unique'));
    else paths.add(mountPath);
  });
  errors.push(...validateResources(container.resources, `${path}.resources`));
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe'])
    if (isObject(container[name])) errors.push(...validateProbe(container[name], `${path}.${name}`));
  return errors;
}

function validateResources(resources: unknown, path: string): FieldError[] {
  const part = (name: string): JsonObject => {
    const found = isObject(resources) ? resources[name] : undefined;
    return isObject(found) ? found : {};
  };
  const limits = part('limits');
  return Object.entries(part('requests')).flatMap(([name, request]) => {
    const limit = limits[name];
    const [wanted, allowed] = [request, limit].map((value) => parseQuantity(String(value)));
    return limit !== undefined && wanted !== undefined && allowed !== undefined && wanted > allowed
      ? [
          invalid(
            `${path}.requests`,
            request,
            `must be less than or equal to ${name} limit of ${String(limit)}`,
          ),
        ]
      : [];
  });
}

const HANDLERS = ['exec', 'httpGet', 'tcpSocket', 'grpc'];

function validateProbe(probe: JsonObject, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const handlers = HANDLERS.filter((name) => probe[name] !== undefined);
  if (handlers.length === 0) errors.push(required(path, 'must specify a handler type'));
  if (handlers.length > 1) errors.push(fieldForbidden(path, 'may not specify more than 1 handler type'));
  for (const name of ['httpGet', 'tcpSocket']) {
    const handler = probe[name];
    if (!isObject(handler)) continue;
    const port = handler.port;
    if (typeof port === 'string' ? port === '' : true) checkPort(port, `${path}.${name}.port`, errors);
  }
  return errors;
}

/** A running pod's spec stands, except for the few fields that Kubernetes lets change. */
export function podSpecChange(spec: JsonObject, old: JsonObject): FieldError[] {
  const allowed = (source: JsonObject): JsonObject => {
    const kept: JsonObject = { ...source };
    for (const name of ['activeDeadlineSeconds', 'terminationGracePeriodSeconds', 'tolerations'])
      delete kept[name];
    // A pod that waits for a node may be given one, once.
    if (old.nodeName === undefined || old.nodeName === '') delete kept.nodeName;
    for (const group of ['containers', 'initContainers'])
      if (Array.isArray(kept[group]))
        kept[group] = kept[group].map((container: unknown) =>
          isObject(container) ? { ...container, image: '' } : container,
        );
    return kept;
  };
  if (equal(allowed(spec), allowed(old))) return [];
  return [
    fieldForbidden(
      'spec',
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.terminationGracePeriodSeconds`,`spec.tolerations` (and `spec.nodeName` while it is empty)',
    ),
  ];
}

function each(
  value: unknown,
  path: string,
  errors: FieldError[],
  visit: (item: JsonObject, path: string) => void,
): void {
  if (value === undefined || value === null) return;
  if (!Array.isArray(value)) {
    errors.push(invalid(path, value, 'must be a list'));
    return;
  }
  value.forEach((item: unknown, index) => {
    if (isObject(item)) visit(item, `${path}[${index}]`);
    else errors.push(invalid(`${path}[${index}]`, item, 'must be an object'));
  });
}

function checkUniqueName(item: JsonObject, path: string, seen: Set<string>, errors: FieldError[]): void {
  const name = item.name;
  if (typeof name !== 'string' || name === '') errors.push(required(`${path}.name`));
  else if (!isDnsLabel(name)) errors.push(invalid(`${path}.name`, name, LABEL_TEXT));
  else if (seen.has(name)) errors.push(duplicate(`${path}.name`, name));
  else seen.add(name);
}

function checkPort(port: unknown, path: string, errors: FieldError[]): void {
  if (port === undefined) errors.push(required(path));
  else if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65_535)
    errors.push(invalid(path, port, 'must be between 1 and 65535, inclusive'));
}

function oneOf(value: unknown, path: string, allowed: readonly string[], errors: FieldError[]): void {
  if (value !== undefined && !allowed.includes(String(value)))
    errors.push(notSupported(path, value, allowed));
}

const isStringList = (value: unknown): boolean =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');
