// Every live connection of the data plane: who it is, and how to end it. Policy and workload changes, removal of a pod
// and drain close exactly the right ones from here. Copying, logging and counting are their owners' matter.

import { MeshError } from '#base/errors.ts';
import { type Member, Roster } from '#base/roster.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { SocketAddress } from '#net/host-port.ts';

/** What an inbound connection is judged by, again and again while it lives. */
export interface InboundSubject {
  readonly podUid: string;
  /** Undefined for plaintext. */
  readonly sourceIdentity: SpiffeId | undefined;
  readonly source: SocketAddress;
  /** The resolved target: pod address and application port. */
  readonly destination: SocketAddress;
}

/** What the config dump shows of a connection (ztunnel.md §11.3). */
export interface ConnectionView {
  readonly src: string;
  /** Outbound: original destination; inbound: the forwarded host, if any. */
  readonly originalDst: string | null;
  readonly actualDst: string;
  readonly protocol: 'TCP' | 'HBONE' | 'DOUBLEHBONE';
}

export interface PodConnections {
  readonly inbound: ConnectionView[];
  readonly outbound: ConnectionView[];
}

export interface LiveConnection extends Member {
  readonly podUid: string;
  readonly direction: 'inbound' | 'outbound';
  /** Asked for by the config dump only. */
  readonly view: () => ConnectionView;
  /** Inbound connections only. */
  readonly subject?: InboundSubject;
  /** Configuration version of the last verdict. */
  judgedUnder: number;
  /** Ends the connection at once and records the reason. */
  close(error: MeshError): void;
}

/** Undefined: allowed. Otherwise why not, as an operator's sentence naming policy and rule. */
export type Judge = (subject: InboundSubject) => Denial | undefined;

export interface Denial {
  readonly explain: string;
  readonly where: { readonly policy?: string; readonly rule?: number; readonly clause?: number };
}

/** The field's words, so that log searches keep working (ztunnel.md §8.4, §11.2). */
export const POLICY_CHANGE = 'connection closed due to policy change';
export const CONNECTION_DRAIN = 'connection closed due to connection drain';

export class Connections {
  readonly #judge: Judge;
  readonly #configVersion: () => number;
  readonly #live = new Roster<LiveConnection>();

  constructor(judge: Judge, configVersion: () => number) {
    this.#judge = judge;
    this.#configVersion = configVersion;
  }

  get size(): number {
    return this.#live.size;
  }

  /** Registers before the first verdict, so that no change falls between verdict and registration. */
  open(connection: LiveConnection): void {
    this.#live.add(connection);
  }

  /** Forgets a connection that has come to its end. */
  release(connection: LiveConnection): void {
    this.#live.delete(connection);
  }

  /**
   * Judges live inbound connections again, all or one pod's, and closes those now denied; returns how many.
   * The workload record is looked up afresh, so selector-scoped policies attached later count too.
   */
  rejudge(podUid?: string): number {
    const version = this.#configVersion();
    let closed = 0;
    for (const connection of this.#live.all()) {
      if (connection.subject === undefined) continue;
      if (podUid !== undefined && connection.podUid !== podUid) continue;
      connection.judgedUnder = version;
      const denial = this.#judge(connection.subject);
      if (denial === undefined) continue;
      closed++;
      connection.close(policyChanged(denial));
    }
    return closed;
  }

  /** Ends the connections of one pod, or all. */
  closeAll(podUid?: string): number {
    let closed = 0;
    for (const connection of this.#live.all()) {
      if (podUid !== undefined && connection.podUid !== podUid) continue;
      closed++;
      connection.close(new MeshError('DRAINED', CONNECTION_DRAIN));
    }
    return closed;
  }

  of(podUid: string): PodConnections {
    const views = { inbound: [] as ConnectionView[], outbound: [] as ConnectionView[] };
    for (const connection of this.#live.all())
      if (connection.podUid === podUid) views[connection.direction].push(connection.view());
    return views;
  }
}

function policyChanged({ explain, where }: Denial): MeshError {
  return new MeshError('POLICY_CHANGED', `${POLICY_CHANGE}: ${explain}`, { details: where });
}
