// The programs that images name beyond Culvert's own: `<state>/images.yaml`, and what `culvert up --image` adds for one run.
// The file is read again when it changes, so that a pod that waits for its image finds it without a restart.

import { readFileSync, statSync } from 'node:fs';
import { parse as parseYaml } from 'yaml';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';

export interface ImageProgram {
  readonly argv: readonly string[];
  readonly workingDir?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export type ImageTable = ReadonlyMap<string, ImageProgram>;

export const IMAGE_NAME = /^[a-z0-9][a-z0-9-]*$/;

/** A command line as a person types it; a shell takes it apart, and the container's `args` follow it. */
export function programOfCommand(name: string, command: string): ImageProgram {
  return { argv: ['/bin/sh', '-c', `exec ${command} "$@"`, name] };
}

/**
 * `NAME: command line`, or `NAME: {command: [program, argument, …], workingDir: /path, env: {NAME: value}}`.
 * @throws MeshError CONFIG_INVALID that names the entry.
 */
export function parseImageTable(text: string, path: string): ImageTable {
  const fail = (what: string): never => {
    throw new MeshError('CONFIG_INVALID', `${path}: ${what}`);
  };
  let root: unknown;
  try {
    root = parseYaml(text) ?? {};
  } catch (error) {
    return fail(reasonOf(error));
  }
  if (!isMap(root)) return fail('it must be a map of image names to programs');
  const table = new Map<string, ImageProgram>();
  for (const [name, entry] of Object.entries(root)) {
    if (!IMAGE_NAME.test(name))
      fail(`${JSON.stringify(name)} is no image name; use small letters, digits and "-"`);
    if (typeof entry === 'string') {
      table.set(name, programOfCommand(name, entry));
      continue;
    }
    if (!isMap(entry)) return fail(`${name} must be a command line or a map with "command"`);
    const { command, workingDir, env = {}, ...unknown } = entry;
    const [stranger] = Object.keys(unknown);
    if (stranger !== undefined)
      fail(`${name}: unknown field ${JSON.stringify(stranger)} (command, workingDir, env)`);
    if (!isTexts(command) || command.length === 0) return fail(`${name}.command must be a list of strings`);
    if (workingDir !== undefined && (typeof workingDir !== 'string' || !workingDir.startsWith('/')))
      return fail(`${name}.workingDir must be an absolute path`);
    if (!isMap(env) || !isTexts(Object.values(env)))
      return fail(`${name}.env must be a map of strings; quote numbers`);
    table.set(name, {
      argv: command,
      env: env as Record<string, string>,
      ...(workingDir === undefined ? {} : { workingDir: workingDir as string }),
    });
  }
  return table;
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isTexts = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

/** The table as it is now; what `added` names counts before the file. @throws MeshError CONFIG_INVALID. */
export function watchImageTable(path: string, added: Readonly<Record<string, string>>): () => ImageTable {
  const own = new Map(
    Object.entries(added).map(([name, command]) => [name, programOfCommand(name, command)]),
  );
  let held: { readonly stamp: string; readonly table: ImageTable } | undefined;
  return () => {
    const stamp = stampOf(path);
    if (stamp === undefined) return own;
    if (held?.stamp !== stamp) {
      const table = parseImageTable(readFileSync(path, 'utf8'), path);
      held = { stamp, table: new Map([...table, ...own]) };
    }
    return held.table;
  };
}

function stampOf(path: string): string | undefined {
  try {
    const { mtimeMs, size, ino } = statSync(path);
    return `${mtimeMs} ${size} ${ino}`;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
