// One proxied connection from its registration to its end. It can be ended from outside in every phase, and its end is
// recorded exactly once. Who may connect and where to is decided by outbound.ts, inbound.ts and inbound-plain.ts.

import type { MeshError } from '#base/errors.ts';
import type { HboneStream } from '#hbone/hbone.ts';
import type { Connections, ConnectionView, InboundSubject, LiveConnection } from './connections.ts';
import { type CopyResult, copy, type LiveCopy } from './copy.ts';
import type { ConnectionRecord } from './record.ts';

export interface ProxiedFacts {
  readonly podUid: string;
  readonly direction: 'inbound' | 'outbound';
  readonly view: () => ConnectionView;
  readonly subject?: InboundSubject;
  readonly judgedUnder: number;
}

/**
 * opening: `undo` takes back what was begun so far (a dial, an unanswered request).
 * copying: bytes flow until both directions end, or `close`.
 * over: recorded and released; nothing more happens.
 */
type Phase =
  | { readonly kind: 'opening'; readonly undo: (((error: MeshError) => void) | undefined)[] }
  | { readonly kind: 'copying'; readonly copy: LiveCopy }
  | { readonly kind: 'over' };

export class ProxiedConnection implements LiveConnection {
  readonly podUid: string;
  readonly direction: 'inbound' | 'outbound';
  view: () => ConnectionView;
  readonly subject?: InboundSubject;
  judgedUnder: number;
  place: number | undefined;
  readonly #connections: Connections;
  readonly #record: ConnectionRecord;
  #phase: Phase = { kind: 'opening', undo: [] };

  constructor(connections: Connections, record: ConnectionRecord, facts: ProxiedFacts) {
    this.podUid = facts.podUid;
    this.direction = facts.direction;
    this.view = facts.view;
    if (facts.subject !== undefined) this.subject = facts.subject;
    this.judgedUnder = facts.judgedUnder;
    this.#connections = connections;
    this.#record = record;
    connections.open(this);
  }

  get isOver(): boolean {
    return this.#phase.kind === 'over';
  }

  /** Registers what to take back if the connection ends before bytes flow; at once if it is over already. */
  undo(run: (error?: MeshError) => void): () => void {
    if (this.#phase.kind === 'over') run();
    if (this.#phase.kind !== 'opening') return () => {};
    const { undo } = this.#phase;
    const at = undo.push(run) - 1;
    return () => {
      undo[at] = undefined;
    };
  }

  /** Bytes flow from now on, until both directions have come to their end. */
  start(opener: HboneStream, server: HboneStream): void {
    if (this.#phase.kind !== 'opening') {
      opener.reset('CANCEL');
      server.reset('CANCEL');
      return;
    }
    let isOver = false;
    const live = copy(opener, server, this.#record, (result) => {
      isOver = true;
      this.#finish(result);
    });
    if (!isOver) this.#phase = { kind: 'copying', copy: live };
  }

  close(error: MeshError): void {
    const phase = this.#phase;
    if (phase.kind === 'over') return;
    if (phase.kind === 'copying') {
      phase.copy.close(error);
      return;
    }
    this.#finish({ forwardBytes: 0, backwardBytes: 0, error });
    for (const run of phase.undo) run?.(error);
  }

  #finish(result: CopyResult): void {
    this.#phase = { kind: 'over' };
    this.#connections.release(this);
    this.#record.close(result);
  }
}
