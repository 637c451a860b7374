// What the person-facing programs share: paths and the environment, read here and nowhere below.

import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Bundles run from dist/, this source from bin/lib/: the project is where package.json lies. */
export const projectDir = findProject(import.meta.dirname);
export const env: Readonly<Record<string, string | undefined>> = process.env;

export const defaultStateDir = join(env.XDG_STATE_HOME ?? join(homedir(), '.local/state'), 'culvert');
export const runDirOf = (stateDir: string): string => join(stateDir, 'run');

export function version(): string {
  return (JSON.parse(readFileSync(join(projectDir, 'package.json'), 'utf8')) as { version: string }).version;
}

function findProject(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findProject(dirname(from));
}
