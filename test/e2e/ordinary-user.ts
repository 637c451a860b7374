// Runs programs as an ordinary user, for tests that themselves run as root. The checkout may lie where such a user cannot
// look (/root): then the program gets a view of the file system in which the way to the checkout is open and empty besides.

import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Owns nothing anywhere. */
const UID = 54_321;

export interface OrdinaryUser {
  readonly uid: number;
  /** The same command, run by the user; the process stays the one that is started. */
  command(file: string, args: readonly string[]): [file: string, args: string[]];
  /** Makes a directory that is the user's own. */
  own(dir: string): void;
}

export type UserResult =
  | { readonly kind: 'user'; readonly user: OrdinaryUser }
  | { readonly kind: 'not-run'; readonly reason: string };

/** `program` is one the user has to be able to run: it decides whether the checkout is within reach. */
export function ordinaryUser(projectDir: string, program: string): UserResult {
  const no = (reason: string): UserResult => ({ kind: 'not-run', reason });
  if (process.getuid?.() !== 0) return no('every e2e test runs as an ordinary user already');
  const become = ['--reuid', String(UID), '--regid', String(UID), '--clear-groups', '--'];
  const tries = (file: string, ...args: string[]): string | undefined => {
    const { status, stderr, error } = spawnSync(file, args, { encoding: 'utf8', cwd: '/' });
    return status === 0 ? undefined : (error?.message ?? stderr.trim()) || `${file} ended with ${status}`;
  };
  const cannotBecome = tries('setpriv', ...become, 'true');
  if (cannotBecome !== undefined) return no(`root cannot become uid ${UID} here: ${cannotBecome}`);
  const noNamespaces = tries('setpriv', ...become, 'unshare', '-Urn', 'true');
  if (noNamespaces !== undefined) return no(`ordinary users may not make namespaces here: ${noNamespaces}`);

  const hidden = firstClosedDir(projectDir);
  const user: OrdinaryUser = {
    uid: UID,
    command(file, args) {
      const asUser = ['setpriv', ...become, file, ...args] as const;
      if (hidden === undefined) return [asUser[0], asUser.slice(1)];
      const view = ['--mount', '--propagation', 'private', 'sh', '-c', OPEN_VIEW, 'view'];
      return ['unshare', [...view, projectDir, hidden, ...asUser]];
    },
    own(dir) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      chownSync(dir, UID, UID);
    },
  };
  // The owner of the checkout makes the bundles current; the user may not.
  const notBuilt = tries(program, 'version');
  if (notBuilt !== undefined) throw new Error(notBuilt);
  const cannotRun = tries(...flat(user.command(program, ['version'])));
  if (cannotRun !== undefined) return no(`uid ${UID} cannot run ${program}: ${cannotRun}`);
  return { kind: 'user', user };
}

const flat = ([file, args]: [string, string[]]): [string, ...string[]] => [file, ...args];

/** Arguments: the checkout, the closed directory on the way to it, and the command. /mnt serves as a place in passing. */
const OPEN_VIEW = `set -e
project=$1 closed=$2
shift 2
mount -n --rbind "$project" /mnt
mount -n -t tmpfs -o mode=755 view "$closed"
mkdir -p "$project"
mount -n --move /mnt "$project"
exec "$@"`;

/** The first directory on the way that others may not pass through. */
function firstClosedDir(path: string): string | undefined {
  const above = dirname(path);
  if (above === path) return undefined;
  const closed = firstClosedDir(above);
  if (closed !== undefined) return closed;
  return (statSync(path).mode & 0o001) === 0 ? path : undefined;
}
