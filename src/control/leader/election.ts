// Which of several replicas writes: the holder of a Lease (coordination.k8s.io/v1), as client-go's leader election does
// it, so that replicas of other makes take part. All replicas serve; only writers ask for this.
//
// No replica's wall clock is compared with another's: a candidate waits for as long as the lease says since *it* saw
// the lease change last. A leader believes itself only until its own renewal would be late, which is before anybody
// else may take over, also when the process stood still meanwhile.

import { type Clock, type Random, sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import { LEASES, type Lease } from '#k8s/objects.ts';
import { isAlreadyExists, isConflict, isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';

export interface ElectionDeps {
  readonly client: Pick<KubeClient, 'get' | 'create' | 'update'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly scope: Scope;
  /** Called at the beginning of each term; the scope closes when the term ends. */
  readonly lead: (term: Scope) => void;
}

export interface ElectionOptions {
  readonly namespace: string;
  /** Of the Lease. */
  readonly name: string;
  /** Unique among the replicas; one that comes back under its old name leads on at once. */
  readonly identity: string;
  readonly leaseMs: number;
  /** A leader that could not renew for this long stops leading; less than `leaseMs`. */
  readonly renewDeadlineMs: number;
  readonly retryMs: number;
}

/** A dead leader is replaced after 10 to 13 s; one that ends orderly gives the lease back at once. */
export const ELECTION_TIMES = { leaseMs: 10_000, renewDeadlineMs: 7000, retryMs: 2000 } as const;

/** What a shutdown waits for at most: the next leader comes by itself when the lease runs out. */
const RELEASE_LIMIT_MS = 3000;

export interface Election {
  /** Exact at the moment of asking: a writer asks before each write. */
  readonly isLeader: boolean;
  /** Who holds the lease as far as is known. */
  readonly holder: string;
  /** Ends the candidacy, and gives the lease back when it is ours. Never rejects. */
  release(): Promise<void>;
}

export function startElection(deps: ElectionDeps, options: ElectionOptions): Election {
  const candidate = new Candidate(deps, options);
  const running = candidate.run();
  const ended = running.catch((error: unknown) => {
    // Failures of the API server are dealt with; what arrives here is a defect.
    deps.log.error('the election stopped', { lease: options.name, error: reasonOf(error) });
  });
  return {
    get isLeader() {
      return candidate.isLeader;
    },
    get holder() {
      return candidate.holder;
    },
    release: async () => {
      candidate.stop();
      const inTime = new AbortController();
      const givenBack = ended.then(() => candidate.giveBack()).finally(() => inTime.abort());
      await Promise.race([givenBack, sleep(RELEASE_LIMIT_MS, inTime.signal)]);
    },
  };
}

/** One replica's part in the election. `attempt` is one step; `run` takes steps until it is stopped. */
export class Candidate {
  readonly #deps: ElectionDeps;
  readonly #options: ElectionOptions;
  readonly #stopped = new AbortController();
  #term: Scope | undefined;
  #heldUntilMs = 0;
  /** The lease as it was seen last, and when that was news. */
  #seen: Lease | undefined;
  #seenAtMs = 0;
  #reported = '';

  constructor(deps: ElectionDeps, options: ElectionOptions) {
    this.#deps = deps;
    this.#options = options;
    deps.scope.onClose(() => this.stop());
  }

  get isLeader(): boolean {
    return this.#term !== undefined && this.#deps.clock.monotonicMs() < this.#heldUntilMs;
  }

  get holder(): string {
    return this.#seen?.spec?.holderIdentity ?? '';
  }

  stop(): void {
    this.#stopped.abort();
    this.#endTerm();
  }

  async run(): Promise<void> {
    const { signal } = this.#stopped;
    const { retryMs } = this.#options;
    while (!signal.aborted) {
      await this.attempt();
      // Candidates spread out, so that they do not all write in the moment a lease runs out.
      await sleep(this.isLeader ? retryMs : retryMs * (1 + 0.2 * this.#deps.random()), signal);
    }
  }

  /** Renews the lease, takes it over when it has run out, or learns who holds it. */
  async attempt(): Promise<void> {
    const { clock, log } = this.#deps;
    const { name } = this.#options;
    const startedMs = clock.monotonicMs();
    if (this.#term !== undefined && startedMs >= this.#heldUntilMs) this.#endTerm();
    try {
      const lease = await this.#read();
      if (lease === undefined) this.#won(await this.#create(), startedMs);
      else {
        this.#look(lease);
        if (this.#mayTake(lease)) this.#won(await this.#write(lease), startedMs);
        else this.#endTerm();
      }
      this.#reported = '';
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      // Another replica was faster: its lease is seen at the next step.
      if (isConflict(error) || isAlreadyExists(error)) return;
      const reason = reasonOf(error);
      if (reason !== this.#reported) log.warn('no lease; trying again', { lease: name, error: reason });
      this.#reported = reason;
    }
  }

  /** So that the next one need not wait. */
  async giveBack(): Promise<void> {
    const lease = this.#seen;
    if (lease?.spec?.holderIdentity !== this.#options.identity) return;
    const now = this.#now();
    const spec = {
      holderIdentity: '',
      leaseDurationSeconds: 1,
      acquireTime: now,
      renewTime: now,
      leaseTransitions: lease.spec.leaseTransitions ?? 0,
    };
    try {
      this.#seen = await this.#deps.client.update(LEASES, { ...lease, spec });
    } catch (error) {
      this.#deps.log.info('the lease was not given back; it runs out', {
        lease: this.#options.name,
        error: reasonOf(error),
      });
    }
  }

  async #read(): Promise<Lease | undefined> {
    const { name, namespace } = this.#options;
    try {
      return await this.#deps.client.get(LEASES, name, namespace);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  #create(): Promise<Lease> {
    const { name, namespace } = this.#options;
    return this.#deps.client.create(LEASES, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name, namespace },
      spec: this.#specOf(undefined),
    });
  }

  /** The version that was read guards the write: of several candidates one succeeds. */
  #write(lease: Lease): Promise<Lease> {
    return this.#deps.client.update(LEASES, { ...lease, spec: this.#specOf(lease) });
  }

  #specOf(lease: Lease | undefined): NonNullable<Lease['spec']> {
    const { identity, leaseMs } = this.#options;
    const now = this.#now();
    const { holderIdentity, acquireTime = now, leaseTransitions = 0 } = lease?.spec ?? {};
    const isRenewal = lease === undefined || holderIdentity === identity;
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseMs / 1000),
      acquireTime: isRenewal ? acquireTime : now,
      renewTime: now,
      leaseTransitions: isRenewal ? leaseTransitions : leaseTransitions + 1,
    };
  }

  #look(lease: Lease): void {
    const isNews =
      lease.metadata.uid !== this.#seen?.metadata.uid ||
      JSON.stringify(lease.spec) !== JSON.stringify(this.#seen?.spec);
    this.#seen = lease;
    if (isNews) this.#seenAtMs = this.#deps.clock.monotonicMs();
  }

  #mayTake({ spec }: Lease): boolean {
    const { identity, leaseMs } = this.#options;
    const { holderIdentity = '', leaseDurationSeconds } = spec ?? {};
    if (holderIdentity === '' || holderIdentity === identity) return true;
    const validMs = leaseDurationSeconds === undefined ? leaseMs : leaseDurationSeconds * 1000;
    return this.#deps.clock.monotonicMs() >= this.#seenAtMs + validMs;
  }

  /** Counted from before the request: that is the earliest moment from which others may count. */
  #won(lease: Lease, startedMs: number): void {
    this.#look(lease);
    const { clock, scope, log, lead } = this.#deps;
    const { name, identity, renewDeadlineMs } = this.#options;
    if (this.#stopped.signal.aborted || scope.closed) return;
    this.#heldUntilMs = startedMs + renewDeadlineMs;
    if (this.#term !== undefined || clock.monotonicMs() >= this.#heldUntilMs) return;
    log.info('leading', { lease: name, identity });
    this.#term = scope.child(`term of ${name}`);
    this.#watchTerm(this.#term);
    lead(this.#term);
  }

  /** Ends the term in time even while a request hangs. */
  #watchTerm(term: Scope): void {
    const leftMs = this.#heldUntilMs - this.#deps.clock.monotonicMs();
    if (leftMs <= 0) this.#endTerm();
    else
      term.timeout(Math.ceil(leftMs), () => {
        if (this.#term === term) this.#watchTerm(term);
      });
  }

  #endTerm(): void {
    const term = this.#term;
    if (term === undefined) return;
    this.#term = undefined;
    this.#deps.log.info('leading no more', { lease: this.#options.name });
    term.close();
  }

  /** The API's MicroTime. */
  #now(): string {
    return new Date(this.#deps.clock.now()).toISOString().replace(/Z$/, '000Z');
  }
}
