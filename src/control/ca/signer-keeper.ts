// What the authority signs with, kept current: the files that somebody plugged in, else the Secret of the self-signed root.
// Both are followed while the program runs, so that a rotation needs no restart (control-plane.md §5.4).

import type { Clock, Random } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { StartInformer } from '#k8s/informer.ts';
import { SECRETS } from '#k8s/objects.ts';
import type { Logger } from '#telemetry/log.ts';
import { readCertificates, rootId } from '#tls/authority-material.ts';
import { followFolder } from '#tls/follow-folder.ts';
import { readPluggedIn } from './plugged-in.ts';
import { CA_SECRET_NAME, loadOrCreateRoot, type RootStoreOptions, refreshRoot } from './root-store.ts';
import { isSameSigner, type Signer, signerOf } from './signer.ts';

export interface SignerKeeperDeps {
  readonly client: KubeClient;
  readonly startInformer: StartInformer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly scope: Scope;
  /** Repeats what may fail while the API server is away. */
  readonly untilAnswered: <T>(ask: () => Promise<T>) => Promise<T>;
}

export interface SignerKeeperOptions extends RootStoreOptions {
  /** `ROOT_CA_DIR`. */
  readonly pluggedInDir: string;
  readonly checkMs: number;
  readonly settleMs?: number;
}

export interface SignerKeeper {
  current(): Signer;
  onChange(run: () => void): void;
}

const SETTLE_MS = 100;
const LOOK_MS = 60_000;

/** @throws MeshError CERTIFICATE_INVALID when what is there cannot be used */
export async function keepSigner(
  deps: SignerKeeperDeps,
  options: SignerKeeperOptions,
): Promise<SignerKeeper> {
  const { client, clock, log, scope } = deps;
  const { pluggedInDir } = options;
  const listeners: (() => void)[] = [];
  const pluggedIn = await pluggedInSigner();
  let current = pluggedIn ?? (await deps.untilAnswered(() => loadOrCreateRoot(deps, options)));
  report(current);
  let lastComplaint = '';

  async function pluggedInSigner(): Promise<Signer | undefined> {
    const material = await readPluggedIn(pluggedInDir, clock.now());
    if (material === undefined) return undefined;
    for (const warning of material.warnings) log.warn(warning);
    return signerOf('plugged-in', material, clock);
  }

  function report({ source, title, notAfter, rootsPem, chainPem }: Signer): void {
    log.info('the authority signs with', {
      source,
      title,
      notAfter: notAfter.toISOString(),
      intermediates: chainPem.length,
      roots: rootsOf(rootsPem).size,
    });
  }

  function take(next: Signer): void {
    lastComplaint = '';
    if (isSameSigner(current, next)) return;
    current = next;
    report(next);
    for (const run of listeners) run();
  }

  /** Once for each cause, not with every look. */
  function complain(error: unknown): void {
    const why = reasonOf(error);
    if (why === lastComplaint || scope.closed) return;
    lastComplaint = why;
    log.error('the authority could not be looked at again; what it signs with stays', { error: why });
  }

  async function lookAtFiles(): Promise<void> {
    const next = await pluggedInSigner();
    if (next === undefined) {
      if (current.source === 'self-signed') return;
      throw new MeshError(
        'CERTIFICATE_INVALID',
        `the plugged-in authority is gone from ${pluggedInDir}; it stays in use until a restart, which would start a self-signed root`,
      );
    }
    if (!overlap(current, next))
      throw new MeshError(
        'CERTIFICATE_INVALID',
        `the roots in ${pluggedInDir} neither contain those that the mesh trusts now nor are a part of them: every connection would break; put the old roots beside the new ones first (culvert ca rehearse shows the steps), or restart the control plane to use them as they are`,
      );
    if (current.crlPem !== undefined && next.crlPem === undefined)
      log.warn('the revocation lists are gone from the plugged-in authority; those published stay in force');
    take(next);
  }

  async function lookAtSecret(): Promise<void> {
    if (current.source === 'plugged-in') return;
    const next = await refreshRoot(current, deps, options);
    // The Secret is all that replicas have in common: better one root for all of them than each its own.
    if (!overlap(current, next))
      log.error('the root in the Secret has nothing in common with the one before: connections will break', {
        secret: CA_SECRET_NAME,
      });
    take(next);
  }

  /** One at a time: a look at the files may end what a look at the Secret is about. */
  let turn: Promise<void> = Promise.resolve();
  const inTurn = (look: () => Promise<void>): Promise<void> => {
    turn = turn.then(async () => {
      if (!scope.closed) await look().catch(complain);
    });
    return turn;
  };

  const checkNow = (): void => {
    inTurn(lookAtSecret).catch(complain);
  };
  const checkLater = (): void => {
    scope.timeout(options.checkMs, () => {
      checkNow();
      checkLater();
    });
  };
  checkLater();
  followSecret();
  await followFolder(
    {
      log,
      scope,
      random: deps.random,
      look: () => inTurn(lookAtFiles),
      // A folder that is not there is one without files.
      failed: (error) => {
        if (current.source === 'plugged-in') complain(error);
      },
    },
    { folder: pluggedInDir, settleMs: options.settleMs ?? SETTLE_MS, lookMs: LOOK_MS },
  );

  /** Told of changes at once; without the right to watch, the check by the clock remains. */
  function followSecret(): void {
    if (current.source === 'plugged-in') return;
    const secrets = deps.startInformer({ client, log }, SECRETS, {
      namespace: options.namespace,
      fieldSelector: `metadata.name=${CA_SECRET_NAME}`,
    });
    scope.onClose(() => secrets.close());
    secrets.addHandlers({ upsert: checkNow, remove: checkNow });
  }

  return { current: () => current, onChange: (run) => void listeners.push(run) };
}

const rootsOf = (pem: string): Set<string> =>
  new Set(readCertificates(pem, 'the roots').map((root) => rootId(root)));

/** Nobody who trusts the one is left without a root of the other. */
function overlap(one: Signer, other: Signer): boolean {
  const [ours, theirs] = [rootsOf(one.rootsPem), rootsOf(other.rootsPem)];
  return isSubset(ours, theirs) || isSubset(theirs, ours);
}

const isSubset = (one: ReadonlySet<string>, other: ReadonlySet<string>): boolean =>
  [...one].every((id) => other.has(id));
