// The file of revocation lists (`CRL_PATH`): read at the start, and again when its folder changes (ztunnel.md §4.5).

import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Random } from '#base/clock.ts';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Logger } from '#telemetry/log.ts';
import { parseRevocationLists } from './crl.ts';
import { followFolder } from './follow-folder.ts';
import type { Revocations } from './revocation.ts';

export interface CrlFileDeps {
  readonly revocations: Revocations;
  readonly log: Logger;
  readonly scope: Scope;
  readonly random: Random;
  /** Where else lists are asked for: given the file, resolves with how many sessions were cut there. */
  readonly elsewhere?: (bytes: Uint8Array) => Promise<number>;
}

export interface CrlFileOptions {
  readonly path: string;
  /** Quiet time after a change: a file is written in several steps. */
  readonly settleMs?: number;
  /** A look without a change, for folders that come late and file systems that do not tell; ± a fifth. */
  readonly lookMs?: number;
}

/** A list of a million certificates has 40 MB. */
const MAX_BYTES = 64 * 1024 * 1024;

/** Resolves after the first look; what cannot be read is logged, and looked at again when it changes. Ends with the scope. */
export async function followCrlFile(deps: CrlFileDeps, options: CrlFileOptions): Promise<void> {
  const { log, random } = deps;
  const { path, settleMs = 2000, lookMs = 60_000 } = options;
  const scope = deps.scope.child('revocation lists');
  let seen = '';
  let lastComplaint = '';

  const look = async (): Promise<void> => {
    const digest = await load(path, seen, deps);
    if (digest !== undefined) seen = digest;
    lastComplaint = '';
  };

  /** Once for each cause, not with every look. */
  const complain = (error: unknown): void => {
    const why = reasonOf(error);
    if (why === lastComplaint) return;
    lastComplaint = why;
    // Missing is normal until the first list is published; the lists that are known stay in force.
    if (errnoOf(error) === 'ENOENT') log.info('there is no revocation list', { path });
    else log.error('revocation lists cannot be used; those known before stay in force', { path, error: why });
  };

  await followFolder(
    { log, scope, random, look, failed: complain },
    { folder: dirname(path), settleMs, lookMs },
  );
}

/** Returns what tells the file's content from another; undefined when it is the one seen before. */
async function load(
  path: string,
  seen: string,
  { revocations, log, scope, elsewhere }: CrlFileDeps,
): Promise<string | undefined> {
  const { size } = await stat(path);
  if (size > MAX_BYTES)
    throw new MeshError('CERTIFICATE_INVALID', `the file has ${size} bytes, more than ${MAX_BYTES}`);
  const bytes = await readFile(path);
  const digest = createHash('sha256').update(bytes).digest('base64');
  if (digest === seen || scope.closed) return undefined;
  const lists = parseRevocationLists(bytes);
  const cut = revocations.replace(lists) + ((await elsewhere?.(bytes)) ?? 0);
  const serials = lists.reduce((sum, list) => sum + list.serials.size, 0);
  log.info('revocation lists are in force', { path, lists: lists.length, revoked: serials, cut });
  return digest;
}
