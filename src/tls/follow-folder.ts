// Looks at a folder again whenever something in it changes. Kubernetes replaces mounted files by swapping a link beside them,
// so the folder is what is watched; it may come late, or on a file system that does not tell: then looking now and then is
// what is left.

import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Random } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Logger } from '#telemetry/log.ts';

export interface FollowFolderDeps {
  readonly log: Logger;
  readonly scope: Scope;
  readonly random: Random;
  /** Never two at a time. */
  readonly look: () => Promise<void>;
  /** Told what `look`, or the folder itself, failed with. */
  readonly failed: (error: unknown) => void;
}

export interface FollowFolderOptions {
  readonly folder: string;
  /** Quiet time after a change: files are written in several steps. */
  readonly settleMs: number;
  /** A look without a change; ± a fifth. */
  readonly lookMs: number;
}

/** Resolves after the first look. Ends with the scope. */
export async function followFolder(deps: FollowFolderDeps, options: FollowFolderOptions): Promise<void> {
  const { log, scope, random } = deps;
  const { folder, settleMs, lookMs } = options;
  let watcher: FSWatcher | undefined;
  let watched = '';
  let stopWaiting = (): void => {};
  let turn: Promise<void> = Promise.resolve();

  const look = async (): Promise<void> => {
    try {
      await watchFolder();
      await deps.look();
    } catch (error) {
      deps.failed(error);
    }
  };

  /** One look at a time, and one more for whatever changed meanwhile. */
  const lookAgain = (afterMs: number): void => {
    stopWaiting();
    if (scope.closed) return;
    stopWaiting = scope.timeout(afterMs, () => {
      turn = turn.then(look);
      lookAgain(lookMs * (0.8 + 0.4 * random()));
    });
  };

  /** A folder that was replaced is watched anew. */
  const watchFolder = async (): Promise<void> => {
    const { dev, ino } = await stat(folder);
    if (scope.closed || watched === `${dev}:${ino}`) return;
    watcher?.close();
    watcher = watch(folder, { persistent: false }, () => lookAgain(settleMs));
    watcher.on('error', (error) => {
      log.debug('a folder is not watched any more', { folder, error: reasonOf(error) });
      watched = '';
    });
    watched = `${dev}:${ino}`;
  };

  scope.onClose(() => watcher?.close());
  await look();
  lookAgain(lookMs * (0.8 + 0.4 * random()));
}
