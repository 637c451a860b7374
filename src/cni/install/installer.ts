// Puts the plugin where the runtime calls it, and tells whether it still is there (cni.md A.10). Three ways, for three
// kinds of node: chained to the primary network, in a list of our own before it, or alone for a meta-plugin to call.

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { PLUGIN_TYPE } from '../constants.ts';
import {
  type ConfigFile,
  findPrimary,
  type PluginEntry,
  parseJson,
  readIfThere,
  withoutType,
  writeConfigFile,
} from './config-files.ts';
import { areInstalled, installFiles, type PluginFiles, removeFiles } from './plugin-files.ts';

export interface InstallerOptions {
  /** `/etc/cni/net.d` of the node. */
  readonly netDir: string;
  /** `/opt/cni/bin` of the node. */
  readonly binDir: string;
  readonly files: PluginFiles;
  /**
   * `chained`: last in the primary configuration. `owned`: in a copy of it, named so that it comes first; nobody
   * rewrites that one, so that pods of a node that starts cannot be missed. `standalone`: in a file of its own.
   */
  readonly mode: 'chained' | 'owned' | 'standalone';
  /** The primary configuration, if not the first by name. */
  readonly primaryName?: string;
  /** The file of `owned` and `standalone`. */
  readonly ownName?: string;
  /** Our own files can be read by their group. */
  readonly groupRead: boolean;
  readonly plugin: PluginSettings;
}

export interface PluginSettings {
  readonly runDir: string;
  readonly systemNamespace: string;
  readonly excludedNamespaces: readonly string[];
}

const OWN_NAMES = { owned: '02-istio-cni.conflist', standalone: 'YYY-istio-cni.conf' } as const;

/** Returns the configuration file that names the plugin now. @throws MeshError `CONFIG_INVALID`; `CNI_NO_PRIMARY`: not yet. */
export async function installPlugin(options: InstallerOptions): Promise<string> {
  await mkdir(options.netDir, { recursive: true });
  await installFiles(options.binDir, options.files);
  const { path, content, mode, replaced } = await planned(options);
  await writeConfigFile(path, content, mode);
  if (replaced !== undefined) await rm(replaced, { force: true });
  return path;
}

/** The runtime would call the plugin, with these settings, for the next pod. */
export async function isEffective(options: InstallerOptions): Promise<boolean> {
  if (!(await areInstalled(options.binDir, options.files))) return false;
  let plan: Plan;
  try {
    plan = await planned(options);
  } catch (error) {
    if (error instanceof MeshError && ['CNI_NO_PRIMARY', 'CONFIG_INVALID'].includes(error.code)) return false;
    throw error;
  }
  if (plan.replaced !== undefined) return false;
  // Somebody may be in the middle of writing it.
  const held = parseJson((await readIfThere(plan.path)) ?? '');
  return held !== undefined && JSON.stringify(held) === JSON.stringify(plan.content);
}

/** Takes out what `installPlugin` put in, whichever mode it was. */
export async function removePlugin(options: InstallerOptions): Promise<void> {
  for (const name of ownNames(options)) await rm(join(options.netDir, name), { force: true });
  const primary = await primaryOf(options);
  if (primary?.list.plugins.some(({ type }) => type === PLUGIN_TYPE) === true) {
    const plugins = withoutType(primary.list, PLUGIN_TYPE);
    if (plugins.length > 0) await writeConfigFile(primary.path, { ...primary.list, plugins }, primary.mode);
    else await rm(primary.path);
  }
  await removeFiles(options.binDir);
}

interface Plan {
  readonly path: string;
  readonly content: unknown;
  readonly mode: number;
  /** A file that this one takes the place of. */
  readonly replaced?: string;
}

async function planned(options: InstallerOptions): Promise<Plan> {
  const entry = pluginEntry(options.plugin);
  const ownMode = options.groupRead ? 0o640 : 0o600;
  if (options.mode === 'standalone') {
    const content = { cniVersion: '0.3.1', name: 'istio-cni', ...entry };
    return { path: join(options.netDir, ownName(options)), content, mode: ownMode };
  }
  const primary = await primaryOf(options);
  if (primary === undefined)
    throw new MeshError(
      'CNI_NO_PRIMARY',
      `${options.netDir} has no ${options.primaryName ?? 'CNI configuration'} yet: the plugin is chained to it when the cluster's network is installed`,
    );
  const content = { ...primary.list, plugins: [...withoutType(primary.list, PLUGIN_TYPE), entry] };
  if (options.mode === 'owned') {
    const path = join(options.netDir, ownName(options));
    if (path > primary.path)
      throw new MeshError(
        'CONFIG_INVALID',
        `${path} must come before ${primary.path} by name: choose another ISTIO_OWNED_CNI_CONFIG_FILENAME`,
      );
    return { path, content, mode: ownMode };
  }
  const { path, mode } = primary;
  if (!primary.isSingle) return { path, content, mode };
  return { path: `${path}list`, content, mode, replaced: path };
}

/** Keys as the field's plugin has them. */
function pluginEntry(settings: PluginSettings): PluginEntry {
  return {
    type: PLUGIN_TYPE,
    cni_agent_run_dir: settings.runDir,
    ambient_enabled: true,
    pod_namespace: settings.systemNamespace,
    exclude_namespaces: settings.excludedNamespaces,
  };
}

function ownName({ mode, ownName: chosen }: InstallerOptions): string {
  return chosen ?? (mode === 'standalone' ? OWN_NAMES.standalone : OWN_NAMES.owned);
}

const ownNames = (options: InstallerOptions): string[] => [
  ...Object.values(OWN_NAMES),
  ...(options.ownName === undefined ? [] : [options.ownName]),
];

async function primaryOf(options: InstallerOptions): Promise<ConfigFile | undefined> {
  const { netDir, primaryName } = options;
  return findPrimary(netDir, {
    ignored: ownNames(options),
    ...(primaryName === undefined ? {} : { wanted: primaryName }),
  });
}
