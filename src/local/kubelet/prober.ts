// The probes of one running container: when to try, and what a row of results means. `ProbeCount` is the pure part.

import { reasonOf } from '#base/errors.ts';
import type { Probe } from '#k8s/objects.ts';
import type { ProbeOutcome } from './probe.ts';

export type ProbeKind = 'startup' | 'readiness' | 'liveness';

/** Counts results in a row against the thresholds; the verdict changes only when one is reached. */
export class ProbeCount {
  readonly #successThreshold: number;
  readonly #failureThreshold: number;
  #verdict: 'unknown' | 'passing' | 'failing' = 'unknown';
  #last: ProbeOutcome['kind'] | undefined;
  #inRow = 0;

  constructor(probe: Probe) {
    this.#successThreshold = probe.successThreshold ?? 1;
    this.#failureThreshold = probe.failureThreshold ?? 3;
  }

  add(outcome: ProbeOutcome['kind']): 'unknown' | 'passing' | 'failing' {
    this.#inRow = outcome === this.#last ? this.#inRow + 1 : 1;
    this.#last = outcome;
    if (outcome === 'success' && this.#inRow >= this.#successThreshold) this.#verdict = 'passing';
    if (outcome === 'failure' && this.#inRow >= this.#failureThreshold) this.#verdict = 'failing';
    return this.#verdict;
  }
}

export interface ProberDeps {
  readonly run: (probe: Probe) => Promise<ProbeOutcome>;
  readonly onStarted: () => void;
  readonly onReady: (ready: boolean, message: string) => void;
  /** The container must be killed. */
  readonly onUnhealthy: (kind: ProbeKind, message: string) => void;
  readonly onFailure: (kind: ProbeKind, message: string) => void;
}

export interface Probes {
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
}

/**
 * Until a container is ready for the first time it is asked more often than its period says: a whole cluster waits for it at
 * start-up, and the threshold of failures plays no part before the first success.
 */
const EAGER_PERIOD_MS = 200;
/** Failures before the first success that are not worth an event. */
const EARLY_FAILURES = 10;

/** Starts probing; returns the function that ends it. Liveness and readiness wait for the startup probe. */
export function startProbes(deps: ProberDeps, probes: Probes): () => void {
  const timers = new Set<NodeJS.Timeout>();
  let stopped = false;
  const later = (delayMs: number, run: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      if (!stopped) run();
    }, delayMs);
    timers.add(timer);
  };

  /** `onVerdict` returns false to end this probe. */
  const loop = (
    kind: ProbeKind,
    probe: Probe,
    onVerdict: (passing: boolean, message: string) => boolean,
  ): void => {
    const count = new ProbeCount(probe);
    const periodMs = (probe.periodSeconds ?? 10) * 1000;
    let everPassed = false;
    let early = 0;
    const attempt = (): void => {
      deps.run(probe).then(
        (outcome) => {
          if (stopped) return;
          const message = outcome.kind === 'failure' ? outcome.message : '';
          if (outcome.kind === 'failure' && (everPassed || ++early > EARLY_FAILURES))
            deps.onFailure(kind, message);
          const verdict = count.add(outcome.kind);
          everPassed ||= outcome.kind === 'success';
          const eager = kind === 'readiness' && !everPassed;
          if (verdict === 'unknown' || onVerdict(verdict === 'passing', message))
            later(eager ? Math.min(periodMs, EAGER_PERIOD_MS) : periodMs, attempt);
        },
        (error: unknown) => {
          deps.onFailure(kind, reasonOf(error));
          later(periodMs, attempt);
        },
      );
    };
    later((probe.initialDelaySeconds ?? 0) * 1000, attempt);
  };

  const startOthers = (): void => {
    const { readinessProbe, livenessProbe } = probes;
    if (readinessProbe === undefined) deps.onReady(true, '');
    else {
      loop('readiness', readinessProbe, (passing, message) => {
        deps.onReady(passing, message);
        return true;
      });
    }
    if (livenessProbe !== undefined) {
      loop('liveness', livenessProbe, (passing, message) => {
        if (!passing) deps.onUnhealthy('liveness', message);
        return passing;
      });
    }
  };

  if (probes.startupProbe === undefined) {
    deps.onStarted();
    startOthers();
  } else {
    loop('startup', probes.startupProbe, (passing, message) => {
      if (passing) {
        deps.onStarted();
        startOthers();
      } else {
        deps.onUnhealthy('startup', message);
      }
      return false;
    });
  }
  return () => {
    stopped = true;
    for (const timer of timers) clearTimeout(timer);
    timers.clear();
  };
}
