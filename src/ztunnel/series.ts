// The series that count a connection, found again for every connection between the same parties: their label text is
// twenty-five labels long, and writing it for each connection was the largest part of what one leaves to the collector.

import type { SpiffeId } from '#model/identity.ts';
import type { Service } from '#model/service.ts';
import type { Workload } from '#model/workload.ts';
import {
  type ConnectionLabelFacts,
  connectionLabels,
  type ResponseFlag,
} from '#telemetry/connection-labels.ts';
import { type Cell, type Family, type Labels, labelText } from '#telemetry/metrics.ts';

/** The families that count connections; `metrics.ts` registers them. */
export interface TrafficFamilies {
  readonly opened: Family;
  readonly closed: Family;
  readonly failed: Family;
  readonly received: Family;
  readonly sent: Family;
}

/** Whose labels are the same as long as these are: records are replaced as a whole, never changed. */
export interface Parties {
  readonly direction: 'inbound' | 'outbound';
  readonly source: Workload | undefined;
  readonly sourceIdentity: SpiffeId | undefined;
  readonly destination: Workload | undefined;
  readonly destinationIdentity: SpiffeId | undefined;
  readonly service: Service | undefined;
  readonly isSecured: boolean;
}

/** What counts the connections between some parties. */
export class Series {
  readonly opened: Cell;
  readonly received: Cell;
  readonly sent: Cell;
  readonly #traffic: TrafficFamilies;
  readonly #labels: Labels;
  #closed: Cell | undefined;

  constructor(traffic: TrafficFamilies, facts: ConnectionLabelFacts) {
    this.#traffic = traffic;
    this.#labels = connectionLabels(facts);
    const text = labelText(this.#labels);
    this.opened = traffic.opened.cell(text);
    this.received = traffic.received.cell(text);
    this.sent = traffic.sent.cell(text);
  }

  countEnd(flag: ResponseFlag): void {
    const { closed, failed } = this.#traffic;
    if (flag === '-') {
      this.#closed ??= closed.cell(this.#labels);
      this.#closed.value += 1;
      return;
    }
    const labels = labelText({ ...this.#labels, response_flags: flag });
    closed.cell(labels).value += 1;
    failed.cell(labels).value += 1;
  }
}

/** Of one workload; a pod that talks to more parties than this at once writes its labels again. */
const MAX_KNOWN = 64;

export class SeriesCache {
  readonly #traffic: TrafficFamilies;
  /** Forgotten with the record of the workload. */
  readonly #known = new WeakMap<Workload, { readonly parties: Parties; readonly series: Series }[]>();

  constructor(traffic: TrafficFamilies) {
    this.#traffic = traffic;
  }

  /** `facts` are asked for only when the parties are new. */
  of(parties: Parties, facts: () => ConnectionLabelFacts): Series {
    const keeper = parties.destination ?? parties.source;
    if (keeper === undefined) return this.fresh(facts());
    let known = this.#known.get(keeper);
    if (known === undefined) {
      known = [];
      this.#known.set(keeper, known);
    }
    for (const entry of known) if (areSame(entry.parties, parties)) return entry.series;
    const series = this.fresh(facts());
    if (known.length >= MAX_KNOWN) known.length = 0;
    known.push({ parties: partiesOf(parties), series });
    return series;
  }

  /** For parties that are known by their own word, and so to nobody else. */
  fresh(facts: ConnectionLabelFacts): Series {
    return new Series(this.#traffic, facts);
  }
}

function areSame(one: Parties, other: Parties): boolean {
  return (
    one.destination === other.destination &&
    one.source === other.source &&
    one.service === other.service &&
    one.direction === other.direction &&
    one.isSecured === other.isSecured &&
    one.sourceIdentity === other.sourceIdentity &&
    one.destinationIdentity === other.destinationIdentity
  );
}

/** Without what else the caller's object holds. */
function partiesOf(from: Parties): Parties {
  const { direction, source, sourceIdentity, destination, destinationIdentity, service, isSecured } = from;
  return { direction, source, sourceIdentity, destination, destinationIdentity, service, isSecured };
}
