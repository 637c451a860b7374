// The node's CNI configuration files: which one the runtime uses, and ours in it (cni.md A.10.2, A.10.3).

import { chmod, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { errnoOf } from '#base/errors.ts';

export interface PluginEntry {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface ConfigList {
  readonly name: string;
  readonly plugins: readonly PluginEntry[];
  readonly [key: string]: unknown;
}

export interface ConfigFile {
  readonly path: string;
  readonly list: ConfigList;
  readonly mode: number;
  /** A single plugin in a `.conf`; `list` is what it becomes when something is chained to it. */
  readonly isSingle: boolean;
}

/** A single plugin becomes a list of this name and version, as the field's installer writes it. */
const WRAPPED = { name: 'k8s-pod-network', cniVersion: '0.3.1' } as const;
const EXTENSIONS = ['.conf', '.conflist'];

/**
 * The first by name that a runtime would use; files it would skip are skipped. `wanted`: only this one, with either
 * extension. `ignored`: names that do not count, because they are our own.
 */
export async function findPrimary(
  netDir: string,
  options: { readonly wanted?: string; readonly ignored?: readonly string[] } = {},
): Promise<ConfigFile | undefined> {
  const { wanted, ignored = [] } = options;
  const stem = (name: string): string => basename(name, extname(name));
  const names = (await configNames(netDir))
    .filter((name) => !ignored.includes(name))
    .filter((name) => wanted === undefined || stem(name) === stem(wanted));
  for (const name of names) {
    const file = await readConfigFile(join(netDir, name));
    if (file !== undefined) return file;
  }
  return undefined;
}

/** Sorted, as runtimes take them. A node without the directory has no network yet; any other failure is one. */
export async function configNames(netDir: string): Promise<string[]> {
  try {
    return (await readdir(netDir)).filter((name) => EXTENSIONS.includes(extname(name))).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Undefined: not there, or nothing that a runtime would use. */
export async function readConfigFile(path: string): Promise<ConfigFile | undefined> {
  const text = await readIfThere(path);
  const content = text === undefined ? undefined : parseJson(text);
  if (content === undefined) return undefined;
  const mode = (await stat(path)).mode & 0o777;
  if (isConfigList(content)) return { path, list: content, mode, isSingle: false };
  if (!isSinglePlugin(content)) return undefined;
  const { cniVersion: _dropped, ...plugin } = content;
  return { path, list: { ...WRAPPED, plugins: [plugin] }, mode, isSingle: true };
}

export const withoutType = (list: ConfigList, type: string): PluginEntry[] =>
  list.plugins.filter((plugin) => plugin.type !== type);

/** In one step, and only if something changes: others watch this directory. */
export async function writeConfigFile(path: string, content: unknown, mode: number): Promise<void> {
  const text = `${JSON.stringify(content, undefined, 2)}\n`;
  if ((await readIfThere(path)) === text) return;
  const temporary = `${path}.tmp.${process.pid}`;
  await writeFile(temporary, text, { mode });
  // The mode given above is narrowed by the umask.
  await chmod(temporary, mode);
  await rename(temporary, path);
}

export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Undefined: no JSON. Runtimes skip files they cannot read, and so do we. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isNamed = (text: unknown): boolean => typeof text === 'string' && text !== '';

function isConfigList(content: unknown): content is ConfigList {
  const list = content as Partial<ConfigList> | null | undefined;
  return isNamed(list?.name) && Array.isArray(list?.plugins) && list.plugins.length > 0;
}

function isSinglePlugin(content: unknown): content is PluginEntry {
  const plugin = content as { readonly name?: unknown; readonly type?: unknown } | null | undefined;
  return isNamed(plugin?.name) && isNamed(plugin?.type);
}
