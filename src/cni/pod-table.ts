// The pods that are (being) enrolled, with the descriptor of each one's namespace. Owns the descriptors: a namespace is
// held until its removal has succeeded, because without it the rules could not be taken out again.

import { closeFd, type NetnsId, netnsId, sameNetns } from '#linux/netns.ts';
import type { IpAddress } from '#net/ip.ts';
import type { ZdsWorkloadInfo } from '#proto/zds.ts';
import type { RedirectionStatus } from './decision.ts';
import type { ZdsPod, ZdsPods } from './zds-server.ts';

export interface TableEntry {
  readonly uid: string;
  readonly info: ZdsWorkloadInfo;
  netnsFd: number | undefined;
  netnsId: NetnsId | undefined;
  /** `draining`: new connections are no longer redirected, older ones may still pass through ztunnel. */
  stage: 'partial' | 'done' | 'draining' | 'removing';
  /** Monotonic time at which draining ends whatever is still open. */
  drainUntilMs: number;
  ips: readonly IpAddress[];
  /** New connections are redirected, as far as we know. */
  isCaptured: boolean;
  /** Connections older than the enrolment may still be open. */
  mayHaveOlder: boolean;
  /** What this agent last wrote or read, so that a retry does not write it again. */
  annotation: RedirectionStatus;
}

/** Told of each namespace that is held from now on, and no longer. */
export interface NetnsHolder {
  hold(uid: string, netnsFd: number): void;
  release(uid: string): void;
}

export class PodTable implements ZdsPods {
  readonly #entries = new Map<string, TableEntry>();
  readonly #holder: NetnsHolder | undefined;

  constructor(holder?: NetnsHolder) {
    this.#holder = holder;
  }

  entry(uid: string): TableEntry | undefined {
    return this.#entries.get(uid);
  }

  entries(): IterableIterator<TableEntry> {
    return this.#entries.values();
  }

  /** For snapshots: a pod that is being removed is not named any more. */
  uids(): readonly string[] {
    return [...this.#entries.values()].filter(({ stage }) => stage !== 'removing').map(({ uid }) => uid);
  }

  get(uid: string): ZdsPod | undefined {
    const entry = this.#entries.get(uid);
    return entry === undefined || entry.stage === 'removing' ? undefined : entry;
  }

  ensure(uid: string, info: ZdsWorkloadInfo, annotation: RedirectionStatus): TableEntry {
    const present = this.#entries.get(uid);
    if (present !== undefined) return present;
    const entry: TableEntry = {
      uid,
      info,
      netnsFd: undefined,
      netnsId: undefined,
      stage: 'partial',
      drainUntilMs: 0,
      ips: [],
      isCaptured: false,
      mayHaveOlder: true,
      annotation,
    };
    this.#entries.set(uid, entry);
    return entry;
  }

  /**
   * Takes over the descriptor. The same namespace again: the old one is kept and `fd` closed. Another one (the
   * runtime made a new sandbox): replaced, and the pod has to be set up anew.
   */
  setNetns(entry: TableEntry, fd: number): 'same' | 'changed' {
    const id = netnsId(fd);
    if (entry.netnsFd !== undefined && entry.netnsId !== undefined) {
      if (sameNetns(entry.netnsId, id)) {
        closeFd(fd);
        return 'same';
      }
      this.#holder?.release(entry.uid);
      closeFd(entry.netnsFd);
    }
    entry.netnsFd = fd;
    entry.netnsId = id;
    entry.stage = 'partial';
    entry.isCaptured = false;
    this.#holder?.hold(entry.uid, fd);
    return 'changed';
  }

  drop(uid: string): void {
    const entry = this.#entries.get(uid);
    if (entry === undefined) return;
    this.#entries.delete(uid);
    if (entry.netnsFd === undefined) return;
    this.#holder?.release(uid);
    closeFd(entry.netnsFd);
  }

  close(): void {
    for (const uid of [...this.#entries.keys()]) this.drop(uid);
  }
}
