// The plugin's program on the node. A link suffices where the node and the agent see the same files; an agent in an image
// of its own copies what the plugin needs.

import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '#base/errors.ts';
import { PLUGIN_TYPE } from '../constants.ts';
import { readIfThere } from './config-files.ts';

export type PluginFiles =
  /** To the program that the installed name leads to. */
  | { readonly kind: 'link'; readonly launcher: string }
  /** Node itself and the plugin's bundle. */
  | { readonly kind: 'copy'; readonly node: string; readonly bundle: string };

const FOLDER = `${PLUGIN_TYPE}.d`;
/** The runtime calls it with its own environment; the files beside it are all it needs. */
const SCRIPT = `#!/bin/sh\ndir=\${0%/*}/${FOLDER}\nexec "$dir/node" "$dir/plugin.mjs" "$@"\n`;

/** Idempotent; each file is replaced in one step. */
export async function installFiles(binDir: string, files: PluginFiles): Promise<void> {
  await mkdir(binDir, { recursive: true });
  await removeLeftovers(binDir);
  const path = join(binDir, PLUGIN_TYPE);
  if (files.kind === 'link') {
    if ((await linkTarget(path)) !== files.launcher)
      await replace(path, (temporary) => symlink(files.launcher, temporary));
    return;
  }
  const folder = join(binDir, FOLDER);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  for (const [from, name] of [
    [files.node, 'node'],
    [files.bundle, 'plugin.mjs'],
  ] as const)
    if (!(await sameSizeAndAge(from, join(folder, name))))
      await replace(join(folder, name), (temporary) => copyFile(from, temporary));
  if ((await linkTarget(path)) !== undefined || (await readIfThere(path)) !== SCRIPT)
    await replace(path, async (temporary) => {
      await writeFile(temporary, SCRIPT);
      await chmod(temporary, 0o755);
    });
}

export async function areInstalled(binDir: string, files: PluginFiles): Promise<boolean> {
  const path = join(binDir, PLUGIN_TYPE);
  if (files.kind === 'link') return (await linkTarget(path)) === files.launcher;
  const isThere = async (name: string): Promise<boolean> =>
    (await statOrNone(join(binDir, FOLDER, name))) !== undefined;
  return (
    (await linkTarget(path)) === undefined &&
    (await readIfThere(path)) === SCRIPT &&
    (await isThere('node')) &&
    (await isThere('plugin.mjs'))
  );
}

export async function removeFiles(binDir: string): Promise<void> {
  await rm(join(binDir, PLUGIN_TYPE), { force: true });
  await rm(join(binDir, FOLDER), { force: true, recursive: true });
}

async function replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.tmp.${process.pid}`;
  await rm(temporary, { force: true });
  await make(temporary);
  await rename(temporary, path);
}

/** Of an agent that was killed in the middle. */
async function removeLeftovers(binDir: string): Promise<void> {
  for (const name of await readdir(binDir))
    if (name.startsWith(`${PLUGIN_TYPE}.tmp.`)) await rm(join(binDir, name), { force: true });
}

/** A copy is younger than what it was made from, and as long. */
async function sameSizeAndAge(from: string, to: string): Promise<boolean> {
  const [source, copy] = [await statOrNone(from), await statOrNone(to)];
  return source !== undefined && copy?.size === source.size && copy.mtimeMs >= source.mtimeMs;
}

async function linkTarget(path: string): Promise<string | undefined> {
  return (await statOrNone(path))?.isSymbolicLink() === true ? readlink(path) : undefined;
}

async function statOrNone(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}
