// What the mesh's own configuration says about this proxy: `defaultConfig` of the mesh config file, and PROXY_CONFIG over
// it, field by field (ztunnel.md §1.5). Keys that are not ztunnel's are other proxies' business and are ignored.

import { MeshError, reasonOf } from '#base/errors.ts';
import type { Environment } from './environment.ts';

export const MESH_CONFIG_PATH = '/etc/istio/config/mesh';

export interface ProxyConfig {
  readonly discoveryAddress?: string;
  readonly proxyAdminPort?: number;
  readonly statsPort?: number;
  readonly concurrency?: number;
  /** `ISTIO_META_` taken off the keys. */
  readonly proxyMetadata: Readonly<Record<string, string>>;
}

export const NO_PROXY_CONFIG: ProxyConfig = { proxyMetadata: {} };

/**
 * `meshConfig` is the text of the file, if there is one. The YAML library is loaded only when there is something to read.
 * Rejects with MeshError CONFIG_INVALID.
 */
export async function readProxyConfig(
  env: Environment,
  meshConfig: string | undefined,
): Promise<ProxyConfig> {
  const own = env.PROXY_CONFIG?.trim() ?? '';
  if (own === '' && (meshConfig ?? '').trim() === '') return NO_PROXY_CONFIG;
  const { parseYaml } = await import('./static/yaml.ts');
  const read = (what: string, text: string): unknown => {
    try {
      return parseYaml(text);
    } catch (error) {
      throw new MeshError(
        'CONFIG_INVALID',
        `${what} is neither YAML nor JSON: ${reasonOf(error).split('\n')[0]}`,
        {
          cause: error,
        },
      );
    }
  };
  const mesh = record(MESH_CONFIG_PATH, read(MESH_CONFIG_PATH, meshConfig ?? ''));
  const base = proxyConfig(`${MESH_CONFIG_PATH}: defaultConfig`, mesh.defaultConfig);
  const over = proxyConfig('PROXY_CONFIG', read('PROXY_CONFIG', own));
  return { ...base, ...over, proxyMetadata: { ...base.proxyMetadata, ...over.proxyMetadata } };
}

function proxyConfig(what: string, value: unknown): ProxyConfig {
  const fields = record(what, value);
  const metadata = Object.entries(record(`${what}.proxyMetadata`, fields.proxyMetadata));
  return {
    ...present('discoveryAddress', text(`${what}.discoveryAddress`, fields.discoveryAddress)),
    ...present('proxyAdminPort', integer(`${what}.proxyAdminPort`, fields.proxyAdminPort, 1)),
    ...present('statsPort', integer(`${what}.statsPort`, fields.statsPort, 1)),
    ...present('concurrency', integer(`${what}.concurrency`, fields.concurrency, 0)),
    proxyMetadata: Object.fromEntries(
      metadata.map(([key, one]) => [
        key.replace(/^ISTIO_META_/, ''),
        text(`${what}.proxyMetadata.${key}`, one) ?? '',
      ]),
    ),
  };
}

/** Absent counts as empty: the field's parser insists on `proxyMetadata`, and admits it should not (ztunnel.md §14.2). */
function record(what: string, value: unknown): Readonly<Record<string, unknown>> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw wrong(what, value, 'a mapping');
  return value as Readonly<Record<string, unknown>>;
}

function text(what: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string')
    throw wrong(what, value, 'text (in quotes, if it looks like a number or a boolean)');
  return value;
}

function integer(what: string, value: unknown, least: number): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= 65_535) return value;
  throw wrong(what, value, `a whole number from ${least} to 65535`);
}

function wrong(what: string, value: unknown, expected: string): MeshError {
  return new MeshError('CONFIG_INVALID', `${what} is ${JSON.stringify(value)}: expected ${expected}`);
}

function present<K extends string, T>(key: K, value: T | undefined): { readonly [P in K]?: T } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [P in K]?: T });
}
