// Certificates of the node's workloads: fetched when needed, refreshed at half-life, kept while valid whatever the
// authority does (ztunnel.md §4.4). One entry per identity; one queue ordered by priority, then by due time; a bounded
// number of requests at once. A new key for every request.

import { Backoff } from '#base/backoff.ts';
import type { Clock, Random } from '#base/clock.ts';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { SpiffeId } from '#model/identity.ts';
import { bare, type Logger } from '#telemetry/log.ts';
import { requestFor } from './csr.ts';
import { DEFAULT_TLS_POLICY, type TlsPolicy } from './options.ts';
import type { CertificateAuthorityClient, SecretManager, SecretState, WorkloadSecret } from './secret.ts';
import { readSecretMaterial, type SecretMaterial, secretOf } from './workload-certificate.ts';

export interface SecretManagerDeps {
  readonly ca: CertificateAuthorityClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: Random;
  readonly scope: Scope;
  /** Told of every certificate before anybody gets it, and of those that are given up. */
  readonly onChange?: ((identity: SpiffeId, material: SecretMaterial | undefined) => void) | undefined;
}

export interface SecretManagerOptions {
  readonly ttlSeconds?: number;
  readonly maxConcurrent?: number;
  readonly tls?: TlsPolicy;
}

const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 150_000;
/** From here on the delay is constant. */
const LONG_FAILURE_MS = 15 * 60_000;
/** A certificate that is past its half-life on arrival must not make a loop of requests. */
const MIN_REFRESH_MS = 1000;
/** Half-life ± a twentieth: certificates fetched together at the start would all be refreshed in one second. */
const REFRESH_JITTER = 0.1;
/** setTimeout overflows at 2^31 ms; long waits are slept in parts. */
const MAX_TIMER_MS = 86_400_000;

/** Higher goes first: a connection waits; a guess; a scheduled refresh. */
const REAL_TIME = 2;
const WARMUP = 1;
const BACKGROUND = 0;

interface Entry {
  readonly identity: SpiffeId;
  /** What callers wait for while there is nothing to give. */
  first: PromiseWithResolvers<WorkloadSecret>;
  readonly backoff: Backoff;
  state: SecretState;
  priority: number;
  dueAtMs: number;
  inFlight: boolean;
  failingSinceMs: number | undefined;
}

export function createSecretManager(
  deps: SecretManagerDeps,
  options: SecretManagerOptions = {},
): SecretManager {
  const { ca, clock, log, random, onChange } = deps;
  const { ttlSeconds = 86_400, maxConcurrent = 8, tls = DEFAULT_TLS_POLICY } = options;
  const scope = deps.scope.child('secrets');
  const entries = new Map<SpiffeId, Entry>();
  let inFlight = 0;
  let stopTimer = (): void => {};

  const demand = (identity: SpiffeId, priority: number): Entry => {
    let entry = entries.get(identity);
    if (entry === undefined) {
      entry = newEntry(identity, priority, clock.now(), random);
      entries.set(identity, entry);
    } else if (entry.state.state === 'Initializing') {
      entry.priority = Math.max(entry.priority, priority);
    }
    pump();
    return entry;
  };

  /** Starts what is due, then sleeps until the next is. */
  const pump = (): void => {
    if (scope.closed) return;
    stopTimer();
    const nowMs = clock.now();
    while (inFlight < maxConcurrent) {
      const next = mostUrgent(entries.values(), nowMs);
      if (next === undefined) break;
      next.inFlight = true;
      inFlight += 1;
      fetchFor(next).catch((error) => log.error('secret manager failed', { error: reasonOf(error) }));
    }
    // With every place taken, the end of a request pumps again.
    if (inFlight >= maxConcurrent) return;
    const dueAtMs = earliestDue(entries.values());
    if (dueAtMs === undefined) return;
    stopTimer = scope.timeout(Math.min(Math.max(dueAtMs - nowMs, 1), MAX_TIMER_MS), pump);
  };

  const fetchFor = async (entry: Entry): Promise<void> => {
    try {
      const { csrPem, privateKey } = await requestFor(entry.identity);
      const answer = await ca.sign(entry.identity, csrPem, ttlSeconds);
      const material = readSecretMaterial(entry.identity, privateKey, answer, log);
      const secret = secretOf(material, tls);
      // Forgotten meanwhile: the answer is discarded.
      if (entries.get(entry.identity) !== entry) return;
      onChange?.(entry.identity, material);
      succeed(entry, secret);
    } catch (error) {
      if (entries.get(entry.identity) === entry) fail(entry, error);
    } finally {
      entry.inFlight = false;
      inFlight -= 1;
      pump();
    }
  };

  const isValid = (secret: WorkloadSecret): boolean => secret.notAfter.getTime() > clock.now();

  /**
   * The machine slept over the refresh: whoever comes first waits for a new certificate. If the authority failed before,
   * or does not answer, they hear of that instead.
   */
  const expire = (entry: Entry, { notAfter }: WorkloadSecret): void => {
    if (entry.failingSinceMs !== undefined || entry.inFlight)
      throw unavailable(entry.identity, `it expired at ${notAfter.toISOString()}`);
    entry.state = { state: 'Initializing' };
    entry.first = newFirst();
    entry.dueAtMs = clock.now();
  };

  const succeed = (entry: Entry, secret: WorkloadSecret): void => {
    const { notBefore, notAfter } = secret;
    const halfLifeMs =
      ((notAfter.getTime() - notBefore.getTime()) / 2) * (1 + REFRESH_JITTER * (random() - 0.5));
    entry.state = { state: 'Available', secret };
    entry.priority = BACKGROUND;
    entry.dueAtMs = Math.max(notBefore.getTime() + halfLifeMs, clock.now() + MIN_REFRESH_MS);
    entry.failingSinceMs = undefined;
    entry.backoff.reset();
    entry.first.resolve(secret);
    log.debug('certificate issued', {
      identity: bare(entry.identity),
      not_after: bare(notAfter.toISOString()),
    });
  };

  const fail = (entry: Entry, error: unknown): void => {
    const nowMs = clock.now();
    entry.failingSinceMs ??= nowMs;
    const grownMs = entry.backoff.next();
    const delayMs = nowMs - entry.failingSinceMs >= LONG_FAILURE_MS ? MAX_RETRY_MS : grownMs;
    entry.dueAtMs = nowMs + delayMs;
    entry.priority = BACKGROUND;
    const reason = reasonOf(error);
    const valid = entry.state.state === 'Available' && isValid(entry.state.secret);
    if (entry.state.state === 'Available' && valid) {
      entry.dueAtMs = Math.min(entry.dueAtMs, entry.state.secret.notAfter.getTime());
    } else {
      entry.state = { state: 'Unavailable', error: reason };
      entry.first.reject(unavailable(entry.identity, reason, error));
    }
    log.warn(valid ? 'certificate refresh failed, the present one is kept' : 'certificate fetch failed', {
      identity: bare(entry.identity),
      error: reason,
      retry_ms: Math.round(delayMs),
    });
  };

  scope.onClose(() => {
    for (const entry of entries.values()) entry.first.reject(unavailable(entry.identity, 'shutting down'));
    entries.clear();
  });

  return {
    async get(identity) {
      if (scope.closed) throw unavailable(identity, 'shutting down');
      const known = entries.get(identity);
      // Asked for every new session: with many identities the queue must not be looked through each time.
      if (known?.state.state === 'Available' && isValid(known.state.secret)) return known.state.secret;
      if (known?.state.state === 'Available') expire(known, known.state.secret);
      const { state, first } = demand(identity, REAL_TIME);
      if (state.state === 'Unavailable') throw unavailable(identity, state.error);
      return state.state === 'Available' ? state.secret : first.promise;
    },
    prefetch(identity) {
      if (!scope.closed) demand(identity, WARMUP);
    },
    forget(identity) {
      const entry = entries.get(identity);
      if (entry === undefined) return;
      entries.delete(identity);
      onChange?.(identity, undefined);
      entry.first.reject(unavailable(identity, 'it is no longer needed'));
    },
    entries: () => new Map([...entries].map(([identity, { state }]) => [identity, state])),
    close: () => scope.close(),
  };
}

function newEntry(identity: SpiffeId, priority: number, nowMs: number, random: Random): Entry {
  return {
    identity,
    first: newFirst(),
    backoff: new Backoff({ initialMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS, jitter: 0.2, random }),
    state: { state: 'Initializing' },
    priority,
    dueAtMs: nowMs,
    inFlight: false,
    failingSinceMs: undefined,
  };
}

function newFirst(): PromiseWithResolvers<WorkloadSecret> {
  const first = Promise.withResolvers<WorkloadSecret>();
  // A prefetch has nobody waiting; the failure stands in the entry's state and in the log.
  first.promise.catch(() => {});
  return first;
}

function mostUrgent(entries: Iterable<Entry>, nowMs: number): Entry | undefined {
  let best: Entry | undefined;
  for (const entry of entries) {
    if (entry.inFlight || entry.dueAtMs > nowMs) continue;
    if (
      best === undefined ||
      entry.priority > best.priority ||
      (entry.priority === best.priority && entry.dueAtMs < best.dueAtMs)
    ) {
      best = entry;
    }
  }
  return best;
}

function earliestDue(entries: Iterable<Entry>): number | undefined {
  let earliest: number | undefined;
  for (const entry of entries) {
    if (!entry.inFlight && (earliest === undefined || entry.dueAtMs < earliest)) earliest = entry.dueAtMs;
  }
  return earliest;
}

function unavailable(identity: SpiffeId, why: string, cause?: unknown): MeshError {
  return new MeshError('IDENTITY_UNAVAILABLE', `no certificate for ${identity}: ${why}`, {
    ...(cause === undefined ? {} : { cause }),
  });
}
