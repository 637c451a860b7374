// The mesh configuration as far as this control plane obeys it (control-plane.md §9.1): the text of key `mesh` in
// ConfigMap `istio`. Fields that are not read here are others' business (gateways, sidecars) and stay unread.

import { parse as parseYaml } from 'yaml';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { LabelSelector } from '#k8s/objects.ts';
import { EVERYBODY, type ServiceEntryVisibility, type Visibility } from './ambient/service-visibility.ts';

export interface MeshConfig {
  /** Undefined: as the environment says. */
  readonly trustDomain: string | undefined;
  /** Other names of the trust domain: policies that name one mean all. */
  readonly trustDomainAliases: readonly string[];
  /** Namespaces that any of them matches are seen; without any, all are. */
  readonly discoverySelectors: readonly LabelSelector[];
  readonly serviceEntryVisibility: ServiceEntryVisibility;
}

export const DEFAULT_MESH_CONFIG: MeshConfig = Object.freeze({
  trustDomain: undefined,
  trustDomainAliases: [],
  discoverySelectors: [],
  serviceEntryVisibility: EVERYBODY,
});

/** @throws MeshError CONFIG_INVALID naming the field. */
export function parseMeshConfig(text: string): MeshConfig {
  let value: unknown;
  try {
    value = parseYaml(text);
  } catch (error) {
    throw new MeshError('CONFIG_INVALID', `the mesh configuration is no YAML: ${reasonOf(error)}`);
  }
  if (value === null || value === undefined) return DEFAULT_MESH_CONFIG;
  const mesh = record('the mesh configuration', value);
  return {
    trustDomain: optional(mesh.trustDomain, (it) => string('trustDomain', it)),
    trustDomainAliases: list('trustDomainAliases', mesh.trustDomainAliases).map((it, index) =>
      string(`trustDomainAliases[${index}]`, it),
    ),
    discoverySelectors: list('discoverySelectors', mesh.discoverySelectors).map((it, index) =>
      selector(`discoverySelectors[${index}]`, it),
    ),
    serviceEntryVisibility:
      optional(mesh.serviceEntryVisibility, (it) => visibility('serviceEntryVisibility', it)) ?? EVERYBODY,
  };
}

function visibility(path: string, value: unknown): ServiceEntryVisibility {
  const { defaultVisibility, policies } = record(path, value);
  return {
    otherwise: level(`${path}.defaultVisibility`, defaultVisibility),
    policies: list(`${path}.policies`, policies).map((it, index) => {
      const at = `${path}.policies[${index}]`;
      const policy = record(at, it);
      return {
        visibility: level(`${at}.visibility`, policy.visibility),
        namespaceSelectors: list(`${at}.matchingRules`, policy.matchingRules).map((rule, number) =>
          optional(record(`${at}.matchingRules[${number}]`, rule).namespaceSelector, (one) =>
            selector(`${at}.matchingRules[${number}].namespaceSelector`, one),
          ),
        ),
      };
    }),
  };
}

function level(path: string, value: unknown): Visibility {
  switch (value ?? 'VISIBILITY_UNSPECIFIED') {
    case 'VISIBILITY_UNSPECIFIED':
    case 'PUBLIC':
      return 'Public';
    case 'NAMESPACE':
      return 'Namespace';
    case 'NONE':
      return 'None';
    default:
      return refuse(path, 'PUBLIC, NAMESPACE or NONE', value);
  }
}

const OPERATORS: readonly unknown[] = ['In', 'NotIn', 'Exists', 'DoesNotExist'];

function selector(path: string, value: unknown): LabelSelector {
  const { matchLabels, matchExpressions } = record(path, value);
  const labels = matchLabels === undefined ? undefined : record(`${path}.matchLabels`, matchLabels);
  for (const key in labels) string(`${path}.matchLabels.${key}`, labels[key]);
  const expressions = list(`${path}.matchExpressions`, matchExpressions).map((it, index) => {
    const at = `${path}.matchExpressions[${index}]`;
    const { key, operator, values } = record(at, it);
    if (!OPERATORS.includes(operator)) return refuse(`${at}.operator`, OPERATORS.join(', '), operator);
    return {
      key: string(`${at}.key`, key),
      operator: operator as 'In' | 'NotIn' | 'Exists' | 'DoesNotExist',
      values: list(`${at}.values`, values).map((one, number) => string(`${at}.values[${number}]`, one)),
    };
  });
  return {
    ...(labels === undefined ? {} : { matchLabels: labels as Record<string, string> }),
    ...(expressions.length === 0 ? {} : { matchExpressions: expressions }),
  };
}

function record(path: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return refuse(path, 'a mapping', value);
  return value as Record<string, unknown>;
}

function list(path: string, value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : refuse(path, 'a list', value);
}

function string(path: string, value: unknown): string {
  return typeof value === 'string' ? value : refuse(path, 'a text', value);
}

function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined || value === null ? undefined : read(value);
}

function refuse(path: string, expected: string, value: unknown): never {
  throw new MeshError(
    'CONFIG_INVALID',
    `mesh configuration: ${path} is ${JSON.stringify(value)}; expected ${expected}`,
  );
}
