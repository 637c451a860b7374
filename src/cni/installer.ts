// Puts the plugin where the container runtime finds it: the program, and an entry in the CNI configuration
// (cni.md A.10, reduced: written once at start, no watch). Written atomically, and only when something would change:
// other CNIs watch that directory.

import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, MeshError } from '#base/errors.ts';
import { PLUGIN_TYPE } from './constants.ts';

export interface InstallerOptions {
  /** `/etc/cni/net.d` of the node. */
  readonly netDir: string;
  /** `/opt/cni/bin` of the node. */
  readonly binDir: string;
  /** The program that the installed name leads to. */
  readonly launcher: string;
  readonly plugin: PluginSettings;
}

export interface PluginSettings {
  readonly runDir: string;
  readonly systemNamespace: string;
  readonly excludedNamespaces: readonly string[];
}

/** Used where the node has no CNI configuration at all: the primary network is built into the kubelet. */
const OWN_FILE = '50-culvert.conflist';
const CNI_VERSION = '1.0.0';

interface ConfigList {
  readonly name: string;
  readonly plugins: readonly { readonly type: string }[];
  readonly [key: string]: unknown;
}

/** Returns the configuration file that names the plugin now. @throws MeshError `CONFIG_INVALID`. */
export async function installPlugin(options: InstallerOptions): Promise<string> {
  await mkdir(options.binDir, { recursive: true });
  await mkdir(options.netDir, { recursive: true });
  await linkLauncher(options);

  const entry = pluginEntry(options.plugin);
  const primary = await findPrimary(options.netDir);
  if (primary === undefined) {
    const path = join(options.netDir, OWN_FILE);
    await writeIfChanged(path, { cniVersion: CNI_VERSION, name: 'culvert', plugins: [entry] }, 0o600);
    return path;
  }
  const { path, list, mode } = primary;
  await writeIfChanged(path, { ...list, plugins: [...withoutOurs(list), entry] }, mode);
  // From a time when there was no primary configuration.
  await rm(join(options.netDir, OWN_FILE), { force: true });
  return path;
}

/** Takes out what `installPlugin` put in. */
export async function removePlugin(options: InstallerOptions): Promise<void> {
  await rm(join(options.netDir, OWN_FILE), { force: true });
  const primary = await findPrimary(options.netDir);
  if (primary?.list.plugins.some(({ type }) => type === PLUGIN_TYPE) === true)
    await writeIfChanged(primary.path, { ...primary.list, plugins: withoutOurs(primary.list) }, primary.mode);
  await rm(join(options.binDir, PLUGIN_TYPE), { force: true });
}

/** Keys as the field's plugin has them. */
function pluginEntry(settings: PluginSettings): { readonly type: string } {
  return {
    type: PLUGIN_TYPE,
    ...{
      cni_agent_run_dir: settings.runDir,
      ambient_enabled: true,
      pod_namespace: settings.systemNamespace,
      exclude_namespaces: settings.excludedNamespaces,
    },
  };
}

const withoutOurs = (list: ConfigList): { readonly type: string }[] =>
  list.plugins.filter(({ type }) => type !== PLUGIN_TYPE);

/** The first list by name that a runtime would use; our own file is not one to chain into. */
async function findPrimary(
  netDir: string,
): Promise<{ path: string; list: ConfigList; mode: number } | undefined> {
  const names = (await readdir(netDir)).filter((name) => /\.(conf|conflist|json)$/.test(name)).sort();
  for (const name of names) {
    if (name === OWN_FILE) continue;
    const path = join(netDir, name);
    const content = parseJson(await readFile(path, 'utf8'));
    if (isConfigList(content)) return { path, list: content, mode: (await stat(path)).mode & 0o777 };
    if (isSinglePlugin(content))
      throw new MeshError(
        'CONFIG_INVALID',
        `${path} configures a single CNI plugin, which nothing can be chained to: make it a .conflist`,
      );
  }
  return undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Runtimes skip files they cannot read, and so do we.
    return undefined;
  }
}

function isConfigList(content: unknown): content is ConfigList {
  const list = content as Partial<ConfigList> | null | undefined;
  return typeof list?.name === 'string' && Array.isArray(list.plugins) && list.plugins.length > 0;
}

function isSinglePlugin(content: unknown): boolean {
  const plugin = content as { readonly name?: unknown; readonly type?: unknown } | null | undefined;
  return typeof plugin?.name === 'string' && typeof plugin.type === 'string';
}

async function writeIfChanged(path: string, content: unknown, mode: number): Promise<void> {
  const text = `${JSON.stringify(content, undefined, 2)}\n`;
  const present = await readFile(path, 'utf8').catch(absent);
  if (present === text) return;
  const temporary = `${path}.tmp.${process.pid}`;
  await writeFile(temporary, text, { mode });
  // The mode given above is narrowed by the umask.
  await chmod(temporary, mode);
  await rename(temporary, path);
}

async function linkLauncher({ binDir, launcher }: InstallerOptions): Promise<void> {
  const path = join(binDir, PLUGIN_TYPE);
  const present = await lstat(path).catch(absent);
  if (present?.isSymbolicLink() === true && (await readlink(path)) === launcher) return;
  const temporary = `${path}.tmp.${process.pid}`;
  await rm(temporary, { force: true });
  await symlink(launcher, temporary);
  await rename(temporary, path);
}

function absent(error: unknown): undefined {
  if (errnoOf(error) === 'ENOENT') return undefined;
  throw error;
}
