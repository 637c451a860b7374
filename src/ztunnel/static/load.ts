// Keeps the store equal to the static state file: loaded before anything is served, and again whenever the file changes.
// A file that has become wrong changes nothing and is reported. Beside a control plane the file is read once, as in the
// field: what that says stands on top of it, and taking an entry back could take away the control plane's own.

import { watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Store, StoreUpdate } from '#model/store.ts';
import type { Logger } from '#telemetry/log.ts';
import { parseStaticState, type StaticState } from './state.ts';

/** An editor's and a ConfigMap's several steps count as one change. */
const QUIET_MS = 100;
const NOTHING: StaticState = { addresses: new Map(), policies: new Map() };

export interface LoadDeps {
  readonly store: Store;
  readonly log: Logger;
  readonly scope: Scope;
}

/** Resolves when the state is in the store. Rejects with MeshError CONFIG_INVALID if it cannot be used. */
export async function loadStaticState(
  deps: LoadDeps,
  from: { readonly path: string } | { readonly text: string },
  options: { readonly follow: boolean },
): Promise<void> {
  if ('text' in from) {
    apply(deps, NOTHING, parseStaticState(from.text, 'LOCAL_XDS'));
    return;
  }
  const path = resolve(from.path);
  const { log, scope } = deps;
  let current = NOTHING;
  const load = async (): Promise<void> => {
    const next = parseStaticState(await read(path), path);
    if (scope.closed) return;
    apply(deps, current, next);
    current = next;
  };
  await load();
  if (!options.follow) return;
  let running = Promise.resolve();
  const reload = (): void => {
    running = running
      .then(load)
      .catch((error) =>
        log.error('the static state is kept as it was: the file cannot be used', { error: reasonOf(error) }),
      );
  };
  let cancel = (): void => {};
  // The directory, because a file that is replaced is another file, and a ConfigMap is a link that is moved.
  const watcher = watch(dirname(path), { persistent: false }, () => {
    cancel();
    cancel = scope.timeout(QUIET_MS, reload);
  });
  watcher.on('error', (error) =>
    log.error('the static state is not watched any more', { error: reasonOf(error) }),
  );
  scope.onClose(() => watcher.close());
  // It may have changed before the watch began.
  await load();
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw MeshError.from(error, 'CONFIG_INVALID', `LOCAL_XDS_PATH: ${path} cannot be read`);
  }
}

/** Only what differs: an untouched workload keeps its connections from being judged again. */
function apply({ store, log }: LoadDeps, before: StaticState, after: StaticState): void {
  const changed = <T>(old: ReadonlyMap<string, T>, now: ReadonlyMap<string, T>): T[] =>
    [...now].filter(([name, one]) => !isDeepStrictEqual(old.get(name), one)).map(([, one]) => one);
  const gone = (old: ReadonlyMap<string, unknown>, now: ReadonlyMap<string, unknown>): string[] =>
    [...old.keys()].filter((name) => !now.has(name));
  const update: Required<StoreUpdate> = {
    addresses: changed(before.addresses, after.addresses),
    removedAddresses: gone(before.addresses, after.addresses),
    policies: changed(before.policies, after.policies),
    removedPolicies: gone(before.policies, after.policies),
  };
  const updated = update.addresses.length + update.policies.length;
  const removed = update.removedAddresses.length + update.removedPolicies.length;
  if (updated + removed === 0) return;
  store.apply(update);
  log.info('static state loaded', { updated, removed });
}
