// A container's environment (pure): fields, keys of ConfigMaps and Secrets, `$(VAR)` expansion.

import type { ConfigMap, Container, Pod, ResourceFieldRef, Secret } from '#k8s/objects.ts';
import { dividedQuantity } from './quantity.ts';

export interface EnvSource {
  configMap(namespace: string, name: string): ConfigMap | undefined;
  secret(namespace: string, name: string): Secret | undefined;
}

/** What the pod's status will say, known to the kubelet before it is published. */
export interface PodFacts {
  /** One of each family; the first is the one that counts where only one can. */
  readonly podIps: readonly string[];
  readonly hostIps: readonly string[];
  readonly nodeName: string;
  /** What the node offers to pods: what a container without a limit may use. */
  readonly allocatable: Readonly<Record<string, string>>;
}

export type EnvResult =
  | { readonly kind: 'env'; readonly env: Record<string, string> }
  | { readonly kind: 'missing'; readonly message: string };

/** Values of the downward API; undefined for a field that does not exist here. */
export function fieldValue(pod: Pod, path: string, facts: PodFacts): string | undefined {
  const { metadata, spec } = pod;
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path);
  if (keyed !== null) return metadata[keyed[1] as 'labels' | 'annotations']?.[keyed[2] as string] ?? '';
  switch (path) {
    case 'metadata.name':
      return metadata.name;
    case 'metadata.namespace':
      return metadata.namespace ?? '';
    case 'metadata.uid':
      return metadata.uid ?? '';
    case 'metadata.labels':
      return formatMap(metadata.labels);
    case 'metadata.annotations':
      return formatMap(metadata.annotations);
    case 'spec.nodeName':
      return facts.nodeName;
    case 'spec.serviceAccountName':
      return spec.serviceAccountName ?? 'default';
    case 'status.podIP':
      return facts.podIps[0];
    case 'status.podIPs':
      return facts.podIps.join(',');
    case 'status.hostIP':
      return facts.hostIps[0];
    case 'status.hostIPs':
      return facts.hostIps.join(',');
    default:
      return undefined;
  }
}

/** The form of downward API files: `key="value"` lines, sorted. */
function formatMap(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** `$(NAME)` becomes the value when NAME is known and stays as it is otherwise; `$$` is one `$`. */
export function expand(text: string, env: Readonly<Record<string, string>>): string {
  return text.replace(/\$(\$|\(([^()]*)\))/g, (whole: string, inner: string, name: string | undefined) => {
    if (inner === '$') return '$';
    return name !== undefined && Object.hasOwn(env, name) ? (env[name] as string) : whole;
  });
}

/** `limits.memory` and the like of a container, in units of the divisor; undefined for a resource that does not exist. */
export function resourceValue(
  container: Container | undefined,
  { resource, divisor = '1' }: ResourceFieldRef,
  { allocatable }: Pick<PodFacts, 'allocatable'>,
): string | undefined {
  const [, kind, name = ''] = /^(limits|requests)\.(.+)$/.exec(resource) ?? [];
  if (container === undefined || kind === undefined) return undefined;
  const { limits = {}, requests = {} } = container.resources ?? {};
  const limit = limits[name] ?? allocatable[name];
  // A request that is not stated is its limit, and nothing where there is none.
  const value = kind === 'limits' ? limit : (requests[name] ?? limits[name] ?? '0');
  return value === undefined ? undefined : dividedQuantity(String(value), String(divisor));
}

export function containerEnv(
  pod: Pod,
  container: Container,
  facts: PodFacts,
  source: EnvSource,
  base: Readonly<Record<string, string>>,
): EnvResult {
  const namespace = pod.metadata.namespace ?? 'default';
  const env: Record<string, string> = { ...base };
  const missing = (what: string): EnvResult => ({ kind: 'missing', message: what });

  for (const from of container.envFrom ?? []) {
    const { prefix = '', configMapRef, secretRef } = from;
    if (configMapRef !== undefined) {
      const data = source.configMap(namespace, configMapRef.name)?.data;
      if (data === undefined && configMapRef.optional !== true)
        return missing(`configmap "${configMapRef.name}" not found`);
      for (const [key, value] of Object.entries(data ?? {})) env[prefix + key] = value;
    }
    if (secretRef !== undefined) {
      const data = source.secret(namespace, secretRef.name)?.data;
      if (data === undefined && secretRef.optional !== true)
        return missing(`secret "${secretRef.name}" not found`);
      for (const [key, value] of Object.entries(data ?? {})) env[prefix + key] = decodeBase64(value);
    }
  }

  for (const { name, value, valueFrom } of container.env ?? []) {
    if (valueFrom === undefined) {
      env[name] = expand(value ?? '', env);
    } else if (valueFrom.fieldRef !== undefined) {
      const field = fieldValue(pod, valueFrom.fieldRef.fieldPath, facts);
      if (field === undefined)
        return missing(`env ${name}: field ${valueFrom.fieldRef.fieldPath} is not supported`);
      env[name] = field;
    } else if (valueFrom.configMapKeyRef !== undefined) {
      const { name: mapName, key, optional } = valueFrom.configMapKeyRef;
      const found = source.configMap(namespace, mapName)?.data?.[key];
      if (found !== undefined) env[name] = found;
      else if (optional !== true)
        return missing(`couldn't find key ${key} in ConfigMap ${namespace}/${mapName}`);
    } else if (valueFrom.secretKeyRef !== undefined) {
      const { name: secretName, key, optional } = valueFrom.secretKeyRef;
      const found = source.secret(namespace, secretName)?.data?.[key];
      if (found !== undefined) env[name] = decodeBase64(found);
      else if (optional !== true)
        return missing(`couldn't find key ${key} in Secret ${namespace}/${secretName}`);
    } else if (valueFrom.resourceFieldRef !== undefined) {
      const { resourceFieldRef } = valueFrom;
      const { containerName } = resourceFieldRef;
      const of =
        containerName === undefined
          ? container
          : pod.spec.containers.find((candidate) => candidate.name === containerName);
      const amount = resourceValue(of, resourceFieldRef, facts);
      if (amount === undefined)
        return missing(`env ${name}: resource ${resourceFieldRef.resource} is not supported`);
      env[name] = amount;
    }
  }
  return { kind: 'env', env };
}

function decodeBase64(text: string): string {
  return Buffer.from(text, 'base64').toString('utf8');
}
