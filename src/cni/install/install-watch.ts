// Keeps the plugin installed: primary networks rewrite their configuration, and a pod that starts in between would not be
// captured (cni.md A.10.4). While it is not in force the agent is not ready.

import { type FSWatcher, watch } from 'node:fs';
import { sleep } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { type InstallerOptions, installPlugin, isEffective } from './installer.ts';

export interface InstallWatch {
  readonly isInstalled: boolean;
  stop(): Promise<void>;
}

export interface InstallWatchDeps {
  readonly log: Logger;
  /** Told of every attempt. */
  readonly onInstall: (result: 'SUCCESS' | 'CREATE_CNI_CONFIG_FAILURE') => void;
}

/** Notices what no event told of; a lost watch costs this long at most. */
const CHECK_EVERY_MS = 10_000;
/** An editor or another agent may write in several steps. */
const SETTLE_MS = 20;
const RETRY_MS = 1000;
/** So many repairs in a row are a quarrel with somebody. */
const QUARREL_AFTER = 5;
const QUARREL_WINDOW_MS = 30_000;

export function keepInstalled(deps: InstallWatchDeps, options: InstallerOptions): InstallWatch {
  const { log, onInstall } = deps;
  const stopping = new AbortController();
  let isInstalled = false;
  let repairs: number[] = [];
  let saidWaiting = false;

  async function install(): Promise<void> {
    try {
      const config = await installPlugin(options);
      isInstalled = true;
      saidWaiting = false;
      onInstall('SUCCESS');
      log.info('plugin installed', { config, mode: options.mode });
    } catch (error) {
      isInstalled = false;
      if (error instanceof MeshError && error.code === 'CNI_NO_PRIMARY') {
        if (!saidWaiting) log.info('waiting for the network of the cluster', { reason: error.message });
        saidWaiting = true;
        return;
      }
      onInstall('CREATE_CNI_CONFIG_FAILURE');
      log.error('the plugin could not be installed: new pods are not captured', { error: reasonOf(error) });
      await sleep(RETRY_MS, stopping.signal);
    }
  }

  async function mend(): Promise<void> {
    const nowMs = performance.now();
    repairs = [...repairs.filter((atMs) => nowMs - atMs < QUARREL_WINDOW_MS), nowMs];
    log.warn('the plugin was taken out of the CNI configuration; installing it again', {
      directory: options.netDir,
    });
    if (repairs.length > QUARREL_AFTER) {
      log.error('somebody keeps taking the plugin out: with Cilium, set cni.exclusive=false', {
        times: repairs.length,
        withinSeconds: QUARREL_WINDOW_MS / 1000,
      });
      await sleep(RETRY_MS, stopping.signal);
    }
  }

  /** What cannot be read is not taken for well: the installation then says what is the matter, and is tried again. */
  async function isInForce(): Promise<boolean> {
    try {
      return await isEffective(options);
    } catch (error) {
      log.warn('the CNI configuration cannot be read', {
        directory: options.netDir,
        error: reasonOf(error),
      });
      return false;
    }
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      // Watched first and looked at afterwards: nothing can happen unseen in between.
      const changed = nextChange([options.netDir, options.binDir], stopping.signal);
      const wasInstalled = isInstalled;
      if (!wasInstalled || !(await isInForce())) {
        isInstalled = false;
        if (wasInstalled) await mend();
        if (!stopping.signal.aborted) await install();
        // What was written just now is a change as well; the next round sees that all is well.
      }
      await changed;
    }
  }

  const running = run().catch((error: unknown) => {
    isInstalled = false;
    log.error('watching the CNI configuration failed', { error: reasonOf(error) });
  });
  return {
    get isInstalled() {
      return isInstalled;
    },
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Resolves at the first event in one of the directories, after a while in any case, or when the signal aborts. */
async function nextChange(directories: readonly string[], signal: AbortSignal): Promise<void> {
  const happened = new AbortController();
  const either = AbortSignal.any([signal, happened.signal]);
  const watchers: FSWatcher[] = [];
  for (const directory of directories) {
    try {
      const watcher = watch(directory, () => happened.abort());
      watcher.on('error', () => happened.abort());
      watchers.push(watcher);
    } catch {
      // Not there yet: the installation makes it.
    }
  }
  await sleep(CHECK_EVERY_MS, either);
  for (const watcher of watchers) watcher.close();
  if (happened.signal.aborted) await sleep(SETTLE_MS, signal);
}
