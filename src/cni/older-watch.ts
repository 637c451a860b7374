// Watches over the connections that are older than their pod's enrolment: which there are, and which may not go on,
// because mutual TLS is required of them by now or because the pod asks for a clean start.

import { reasonOf } from '#base/errors.ts';
import type { Informer } from '#k8s/informer.ts';
import { refusesPlaintext } from '#k8s/mutual-tls.ts';
import type { PeerAuthentication, Pod } from '#k8s/objects.ts';
import type { FlowEnd } from '#linux/conntrack.ts';
import type { IpAddress } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { OLDER_CONNECTIONS_ANNOTATION } from './constants.ts';
import { podRuleOptions, type RuleDefaults } from './pod-overrides.ts';
import type { PodTable, TableEntry } from './pod-table.ts';
import {
  closeOlderConnections,
  cutCarriedConnections,
  forgetEndedConnections,
  forgetFormerEnrolment,
  forgetLostConnections,
  keepOlderConnections,
  type OlderConnection,
  olderConnections,
  servedConnections,
} from './rules/older-connections.ts';

/** The kernel's view of a pod's connections; replaced in unit tests. */
export interface OlderConnectionCalls {
  forgetFormer(netnsFd: number): number;
  forgetEnded(netnsFd: number): number;
  forgetLost(netnsFd: number, podIps: readonly IpAddress[]): number;
  keep(netnsFd: number): number;
  list(netnsFd: number): OlderConnection[];
  close(netnsFd: number, connections: readonly OlderConnection[]): void;
  served(netnsFd: number): number;
  cut(netnsFd: number): number;
}

export const kernelOlderConnections: OlderConnectionCalls = {
  forgetFormer: forgetFormerEnrolment,
  forgetEnded: forgetEndedConnections,
  forgetLost: forgetLostConnections,
  keep: keepOlderConnections,
  list: olderConnections,
  close: closeOlderConnections,
  served: servedConnections,
  cut: cutCarriedConnections,
};

export interface OlderWatchDeps {
  readonly calls: OlderConnectionCalls;
  readonly table: PodTable;
  readonly pod: (uid: string) => Pod | undefined;
  readonly peerAuthentications: Informer<PeerAuthentication>;
  readonly log: Logger;
}

export interface OlderWatchOptions extends RuleDefaults {
  readonly rootNamespace: string;
  readonly closeByDefault: boolean;
}

export interface PodOlderConnections {
  readonly namespace: string;
  readonly pod: string;
  readonly connections: readonly OlderConnection[];
}

/** As `/debug/older-connections` shows them: `kind` is what such a connection is called wherever connections are listed. */
export function describeOlder(pods: readonly PodOlderConnections[]): unknown {
  const text = ({ ip, port }: FlowEnd): string => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`);
  return pods.flatMap(({ namespace, pod, connections }) =>
    connections.map(({ direction, local, remote }) => ({
      kind: 'pre-enrolment',
      namespace,
      pod,
      direction,
      local: text(local),
      remote: text(remote),
    })),
  );
}

interface Older {
  readonly pod: Pod;
  readonly netnsFd: number;
  readonly connections: readonly OlderConnection[];
}

export interface OlderWatch {
  /** Closes what may not go on in this pod, and forgets what nobody holds. */
  review(uid: string): void;
  /** In every pod that still has older connections. */
  reviewAll(): void;
  list(): PodOlderConnections[];
}

export function createOlderWatch(deps: OlderWatchDeps, options: OlderWatchOptions): OlderWatch {
  const { calls, table, peerAuthentications, log } = deps;

  /** Undefined when the pod has none for certain, or when they cannot be read. Changes nothing. */
  function olderOf(entry: TableEntry): Older | undefined {
    const pod = deps.pod(entry.uid);
    if (entry.stage !== 'done' || !entry.mayHaveOlder || entry.netnsFd === undefined || pod === undefined)
      return undefined;
    const { bypassInbound } = podRuleOptions(pod.metadata.annotations, options).options;
    let listed: OlderConnection[];
    try {
      listed = calls.list(entry.netnsFd);
    } catch (error) {
      // Asked again later; other pods, and whoever reads the metrics, are not to suffer from it.
      log.error('the connections of a pod cannot be read: older ones may go on in plaintext', {
        ns: pod.metadata.namespace ?? 'default',
        name: pod.metadata.name,
        error: reasonOf(error),
      });
      return undefined;
    }
    const connections = listed.filter(({ direction }) => direction === 'outbound' || !bypassInbound);
    return { pod, netnsFd: entry.netnsFd, connections };
  }

  function mustEnd(pod: Pod): (connection: OlderConnection) => boolean {
    const wish = pod.metadata.annotations?.[OLDER_CONNECTIONS_ANNOTATION];
    if (wish === 'close' || (wish === undefined && options.closeByDefault)) return () => true;
    const { namespace = 'default', labels } = pod.metadata;
    const isStrict = refusesPlaintext([...peerAuthentications.all()], options.rootNamespace, {
      namespace,
      labels,
    });
    return ({ direction, local }) => direction === 'inbound' && isStrict(local.port);
  }

  /** After the last of them the pod is not asked again. */
  function forgetLost(entry: TableEntry, { pod, netnsFd, connections }: Older): void {
    try {
      calls.forgetLost(netnsFd, entry.ips);
      entry.mayHaveOlder = connections.length > 0;
    } catch (error) {
      log.error(
        'connections that no process of a pod holds cannot be forgotten: new ones with their ports are dropped',
        {
          ns: pod.metadata.namespace ?? 'default',
          name: pod.metadata.name,
          error: reasonOf(error),
        },
      );
    }
  }

  function review(entry: TableEntry): void {
    const older = olderOf(entry);
    if (older === undefined) return;
    forgetLost(entry, older);
    const { namespace = 'default', name } = older.pod.metadata;
    const ending = older.connections.filter(mustEnd(older.pod));
    if (ending.length === 0) return;
    try {
      calls.close(older.netnsFd, ending);
      log.info('connections older than the enrolment were closed', {
        ns: namespace,
        name,
        closed: ending.length,
        kept: older.connections.length - ending.length,
      });
    } catch (error) {
      log.error('connections older than the enrolment could not be closed and go on in plaintext', {
        ns: namespace,
        name,
        connections: ending.length,
        error: reasonOf(error),
      });
    }
  }

  const reviewAll = (): void => {
    for (const entry of table.entries()) review(entry);
  };

  return {
    review(uid) {
      const entry = table.entry(uid);
      if (entry !== undefined) review(entry);
    },
    reviewAll,
    list: () =>
      [...table.entries()].flatMap((entry) => {
        const older = olderOf(entry);
        if (older === undefined || older.connections.length === 0) return [];
        const { namespace = 'default', name } = older.pod.metadata;
        return [{ namespace, pod: name, connections: older.connections }];
      }),
  };
}
