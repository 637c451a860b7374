// Defaults of a pod's spec, as people and controllers rely on them.

import { isObject, type JsonObject } from './object.ts';

const list = (value: unknown): JsonObject[] => (Array.isArray(value) ? value.filter(isObject) : []);
const child = (parent: JsonObject, name: string): JsonObject | undefined =>
  isObject(parent[name]) ? parent[name] : undefined;

/** Of pods only, not of templates: a limit without a request is the request, too. */
export function requestLimits(spec: JsonObject): void {
  for (const container of [...list(spec.initContainers), ...list(spec.containers)]) {
    const resources = child(container, 'resources');
    const limits = resources === undefined ? undefined : child(resources, 'limits');
    if (resources !== undefined && limits !== undefined)
      resources.requests = { ...limits, ...child(resources, 'requests') };
  }
}

export function defaultPodSpec(spec: JsonObject): void {
  spec.restartPolicy ??= 'Always';
  spec.dnsPolicy ??= 'ClusterFirst';
  spec.terminationGracePeriodSeconds ??= 30;
  spec.schedulerName ??= 'default-scheduler';
  spec.securityContext ??= {};
  // The old name of the field is still served beside the new one.
  const account = spec.serviceAccountName ?? spec.serviceAccount;
  if (typeof account === 'string' && account !== '') {
    spec.serviceAccountName = account;
    spec.serviceAccount = account;
  }
  for (const container of [...list(spec.initContainers), ...list(spec.containers)])
    defaultContainer(container, spec.hostNetwork === true);
  for (const volume of list(spec.volumes)) defaultVolume(volume);
}

function defaultContainer(container: JsonObject, hostNetwork: boolean): void {
  container.terminationMessagePath ??= '/dev/termination-log';
  container.terminationMessagePolicy ??= 'File';
  container.resources ??= {};
  container.imagePullPolicy ??= pullPolicy(String(container.image ?? ''));
  for (const port of list(container.ports)) {
    port.protocol ??= 'TCP';
    if (hostNetwork) port.hostPort ??= port.containerPort;
  }
  for (const variable of list(container.env)) {
    const fieldRef = child(child(variable, 'valueFrom') ?? {}, 'fieldRef');
    if (fieldRef !== undefined) fieldRef.apiVersion ??= 'v1';
  }
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const probe = child(container, name);
    if (probe !== undefined) defaultProbe(probe);
  }
}

function pullPolicy(image: string): string {
  const lastPart = image.slice(image.lastIndexOf('/') + 1);
  const tagged = lastPart.includes(':') || lastPart.includes('@');
  return !tagged || lastPart.endsWith(':latest') ? 'Always' : 'IfNotPresent';
}

function defaultProbe(probe: JsonObject): void {
  probe.timeoutSeconds ??= 1;
  probe.periodSeconds ??= 10;
  probe.successThreshold ??= 1;
  probe.failureThreshold ??= 3;
  const http = child(probe, 'httpGet');
  if (http !== undefined) {
    http.path ??= '/';
    http.scheme ??= 'HTTP';
  }
}

const FILE_MODE = 0o644;
const VOLUME_SOURCES_WITH_MODE = ['configMap', 'secret', 'downwardAPI', 'projected'];

function defaultVolume(volume: JsonObject): void {
  if (Object.keys(volume).length === 1) volume.emptyDir = {};
  for (const name of VOLUME_SOURCES_WITH_MODE) {
    const source = child(volume, name);
    if (source !== undefined) source.defaultMode ??= FILE_MODE;
  }
  const hostPath = child(volume, 'hostPath');
  if (hostPath !== undefined) hostPath.type ??= '';
  for (const source of list(child(volume, 'projected')?.sources)) {
    const token = child(source, 'serviceAccountToken');
    if (token !== undefined) token.expirationSeconds ??= 3600;
    for (const item of list(child(source, 'downwardAPI')?.items)) {
      const fieldRef = child(item, 'fieldRef');
      if (fieldRef !== undefined) fieldRef.apiVersion ??= 'v1';
    }
  }
}
