// The parts of the control plane that write on behalf of all replicas, each under its own lease with the name that it
// has in Istio, so that during a migration the two do not write against each other.

import { randomBytes } from 'node:crypto';
import type { Clock } from '#base/clock.ts';
import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Logger } from '#telemetry/log.ts';
import type { ControlPlaneOptions } from '../config.ts';
import type { Informers } from '../informers.ts';
import type { Mesh } from '../mesh.ts';
import { createUntainter } from '../nodes/untaint.ts';
import { StatusView } from '../status/view.ts';
import { createStatusWriter } from '../status/writer.ts';
import { ELECTION_TIMES, type Election, startElection } from './election.ts';

const STATUS_LEASE = 'istio-status-leader';
const UNTAINT_LEASE = 'istio-node-untaint';

export interface WritersDeps {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly scope: Scope;
  readonly informers: Informers;
  readonly mesh: Pick<Mesh, 'config' | 'sees' | 'isOurs'>;
  readonly onStatusWrite: (result: 'written' | 'failed') => void;
}

export interface Writers {
  /** Names of the leases that this replica holds. */
  leading(): readonly string[];
  /** Gives the leases back, so that another replica goes on at once. */
  release(): Promise<void>;
}

export function startWriters(deps: WritersDeps, options: ControlPlaneOptions): Writers {
  const { client, clock, scope, informers, mesh } = deps;
  const { systemNamespace, rootNamespace, trustDomain, dryRunPolicies } = options;
  const identity = options.podName === '' ? `control-${randomBytes(6).toString('hex')}` : options.podName;
  const elections = new Map<string, Election>();

  /** Without an election everybody leads: that is for who runs one replica and wants no lease renewed. */
  const elect = (name: string, log: Logger, lead: (term: Scope) => void): void => {
    if (!options.leaderElection) {
      lead(scope.child(name));
      return;
    }
    elections.set(
      name,
      startElection(
        { client, clock, random: Math.random, log, scope, lead },
        { namespace: systemNamespace, name, identity, ...ELECTION_TIMES },
      ),
    );
  };
  const isLeader = (name: string) => (): boolean =>
    options.leaderElection ? elections.get(name)?.isLeader === true : !scope.closed;

  if (options.statuses) {
    const log = deps.log.scoped('status');
    const view = new StatusView({ informers, ...mesh, rootNamespace });
    const writer = createStatusWriter(
      { client, informers, view, clock, log, isLeader: isLeader(STATUS_LEASE), onWrite: deps.onStatusWrite },
      // No condition speaks of trust domains.
      { rootNamespace, dryRun: dryRunPolicies, trustDomains: [trustDomain] },
    );
    elect(STATUS_LEASE, log, (term) => writer.lead(term));
  }
  if (options.untaint !== undefined) {
    const log = deps.log.scoped('nodes');
    const untainter = createUntainter(
      {
        client,
        nodes: informers.nodes,
        pods: informers.pods,
        log,
        isLeader: isLeader(UNTAINT_LEASE),
      },
      { namespace: systemNamespace, taint: options.untaint },
    );
    elect(UNTAINT_LEASE, log, (term) => untainter.lead(term));
  }
  return {
    leading: () => [...elections].filter(([, { isLeader: leads }]) => leads).map(([name]) => name),
    release: async () => {
      await Promise.all([...elections.values()].map((election) => election.release()));
    },
  };
}
