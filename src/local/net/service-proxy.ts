// Keeps the service table of every node current: from Services and EndpointSlices, at most one write per node in 50 ms,
// none when nothing changed.

import { Backoff } from '#base/backoff.ts';
import { reasonOf } from '#base/errors.ts';
import type { Informer } from '#k8s/informer.ts';
import type { EndpointSlice, Service } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import type { Logger } from '#telemetry/log.ts';
import { renderServiceTable, serviceTargets } from './service-rules.ts';

const BATCH_MS = 50;

export interface ServiceProxyDeps {
  readonly nodes: readonly EmulatedNode[];
  readonly services: Informer<Service>;
  readonly slices: Informer<EndpointSlice>;
  readonly log: Logger;
}

/** Resolves when every node has its first table. */
export async function startServiceProxy(deps: ServiceProxyDeps): Promise<{ close(): void }> {
  await Promise.all([deps.services.synced, deps.slices.synced]);
  const writers = deps.nodes.map((node) => new TableWriter(node, deps));
  const changed = (): void => {
    for (const writer of writers) writer.changed();
  };
  await Promise.all(writers.map((writer) => writer.write()));
  deps.services.addHandlers({ upsert: changed, remove: changed });
  deps.slices.addHandlers({ upsert: changed, remove: changed });
  return {
    close: () => {
      for (const writer of writers) writer.close();
    },
  };
}

class TableWriter {
  readonly #node: EmulatedNode;
  readonly #deps: ServiceProxyDeps;
  readonly #backoff = new Backoff({ initialMs: 200, maxMs: 5000 });
  #written = '';
  #timer: NodeJS.Timeout | undefined;
  #writing = false;
  #again = false;
  #closed = false;

  constructor(node: EmulatedNode, deps: ServiceProxyDeps) {
    this.#node = node;
    this.#deps = deps;
  }

  changed(): void {
    this.#schedule(BATCH_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async write(): Promise<void> {
    const { plan } = this.#node;
    const { services, slices } = this.#deps;
    const text = renderServiceTable(serviceTargets(services.all(), slices.all(), plan.name), plan.address);
    if (text === this.#written) return;
    await this.#node.nft(text, `writing the service rules of node ${plan.name}`);
    this.#written = text;
  }

  #schedule(delayMs: number): void {
    if (this.#closed || this.#timer !== undefined) return;
    if (this.#writing) {
      this.#again = true;
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = true;
      this.write().then(
        () => this.#done(0),
        (error: unknown) => {
          this.#deps.log.error('service rules could not be written', {
            node: this.#node.plan.name,
            error: reasonOf(error),
          });
          this.#again = true;
          this.#done(this.#backoff.next());
        },
      );
    }, delayMs);
  }

  #done(failureDelayMs: number): void {
    this.#writing = false;
    if (failureDelayMs === 0) this.#backoff.reset();
    if (!this.#again) return;
    this.#again = false;
    this.#schedule(Math.max(BATCH_MS, failureDelayMs));
  }
}
