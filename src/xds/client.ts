// The delta xDS client of a node proxy (ztunnel.md §3.1–3.5): subscribes to every workload, service and policy, applies
// what it can read to the store, answers each response, and reconnects for ever. State outlives every connection.

import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Store } from '#model/store.ts';
import {
  type DeltaRequest,
  type DeltaResponse,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
  NO_VERSIONS,
  type XdsNode,
} from '#proto/discovery.ts';
import { Sharing } from '#proto/sharing.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import type { Logger } from '#telemetry/log.ts';
import { APPLIED_TYPES, applyDelta } from './apply.ts';
import { type DemandOutcome, Demands } from './demands.ts';
import { nextDelay, RECONNECT_INITIAL_MS, terminationReason } from './reconnect.ts';
import type { OpenXdsStream, StreamEnd, XdsStream } from './transport.ts';

export interface XdsClientDeps {
  readonly open: OpenXdsStream;
  readonly store: Store;
  readonly log: Logger;
  readonly scope: Scope;
  /** Counts; see the metrics of ztunnel.md §11.1. */
  readonly observe?: {
    terminated(reason: 'ConnectionError' | 'Error' | 'Reconnect' | 'Complete'): void;
    /** `bytes`: of the resources alone, as the field counts; nothing resent is nothing. */
    message(typeUrl: string, bytes: number): void;
  };
  /** Resolves when whoever else keeps a copy of the store has applied what came so far; a response is answered then. */
  readonly settle?: (() => Promise<unknown>) | undefined;
}

export interface XdsClientOptions {
  readonly node: XdsNode;
  /** Addresses are sent when `demand` asks for them; policies always (ztunnel.md §3.3). */
  readonly onDemand?: boolean;
  /** How long a demand waits for its answer. */
  readonly demandLimitMs?: number;
}

/** As long as a connection waits for anything else (model of `LOCAL_WORKLOAD_WAIT_MS`). */
const DEMAND_LIMIT_MS = 5_000;

export interface XdsClient {
  /** Every type has had one response that was accepted whole. Never goes back. */
  readonly ready: boolean;
  /** Resolves when `ready` becomes true; never when the scope closes first. */
  whenReady(): Promise<void>;
  /**
   * On demand: resolves once the store has what stands under the name of an address (`network/IP`, `namespace/hostname`,
   * a workload's uid), be it nothing. At once when everything is subscribed to.
   */
  demand(name: string): Promise<DemandOutcome>;
  status(): XdsClientStatus;
}

export interface XdsClientStatus {
  readonly connected: boolean;
  /** Why the last stream ended, if one did. */
  readonly lastEnd: string | undefined;
  readonly types: readonly {
    readonly typeUrl: string;
    readonly held: number;
    readonly accepted: boolean;
    /** The last NACK's text. */
    readonly rejected: string | undefined;
  }[];
}

interface TypeState {
  readonly typeUrl: string;
  /** Resource name → the version the server gave it. */
  readonly held: Map<string, string>;
  accepted: boolean;
  rejected: string | undefined;
  readonly onDemand: boolean;
}

const NO_PROBLEMS: ReadonlyMap<string, string> = new Map();

/** Node id and metadata as ztunnel forms them (ztunnel.md §3.2). */
export function ztunnelNode(facts: {
  readonly instanceIp: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly istioVersion: string;
  readonly metadata?: XdsNode['metadata'];
}): XdsNode {
  const { instanceIp, podName, podNamespace, nodeName, clusterId, istioVersion } = facts;
  return {
    id: `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    metadata: {
      NAME: podName,
      NAMESPACE: podNamespace,
      INSTANCE_IPS: instanceIp,
      NODE_NAME: nodeName,
      // What istioctl shows of a proxy.
      CLUSTER_ID: clusterId,
      ISTIO_VERSION: istioVersion,
      ...facts.metadata,
    },
  };
}

/** Starts at once and runs until the scope closes. */
export function startXdsClient(deps: XdsClientDeps, options: XdsClientOptions): XdsClient {
  return new DeltaClient(deps, options);
}

class DeltaClient implements XdsClient {
  readonly #deps: XdsClientDeps;
  readonly #node: XdsNode;
  /** In the order in which they are subscribed. */
  readonly #types: readonly TypeState[];
  readonly #demands: Demands;
  readonly #sharing = new Sharing();
  #stream: XdsStream | undefined;
  #heard = false;
  #backoffMs = RECONNECT_INITIAL_MS;
  #lastEnd: string | undefined;
  #ready = false;
  #waiting: (() => void)[] = [];

  constructor(deps: XdsClientDeps, options: XdsClientOptions) {
    this.#deps = deps;
    this.#node = options.node;
    this.#types = APPLIED_TYPES.map((typeUrl) => ({
      typeUrl,
      held: new Map<string, string>(),
      accepted: false,
      rejected: undefined,
      onDemand: options.onDemand === true && typeUrl === ADDRESS_TYPE_URL,
    }));
    this.#demands = new Demands(deps.scope, options.demandLimitMs ?? DEMAND_LIMIT_MS);
    deps.scope.onClose(() => {
      this.#stream?.close();
      this.#stream = undefined;
    });
    this.#connect();
  }

  get ready(): boolean {
    return this.#ready;
  }

  whenReady(): Promise<void> {
    if (this.#ready) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  demand(name: string): Promise<DemandOutcome> {
    if (!this.#types.some(({ onDemand }) => onDemand)) return Promise.resolve('answered');
    // Without a stream the next one begins with the names that are waited for.
    return this.#demands.wait(name, () =>
      this.#stream?.send(encodeDeltaRequest(deltaRequest(ADDRESS_TYPE_URL, { subscribe: [name] }))),
    );
  }

  status(): XdsClientStatus {
    return {
      connected: this.#stream !== undefined && this.#heard,
      lastEnd: this.#lastEnd,
      types: this.#types.map(({ typeUrl, held, accepted, rejected }) => ({
        typeUrl,
        held: held.size,
        accepted,
        rejected,
      })),
    };
  }

  #connect(): void {
    if (this.#deps.scope.closed) return;
    this.#heard = false;
    let ended: StreamEnd | undefined;
    let stream: XdsStream | undefined;
    stream = this.#deps.open({
      message: (bytes) => {
        if (stream !== undefined && stream === this.#stream) this.#onMessage(stream, bytes);
      },
      end: (end) => {
        ended = end;
        if (stream !== undefined && stream === this.#stream) this.#onEnd(end);
      },
    });
    this.#stream = stream;
    // An end that came from within `open` found no stream to belong to.
    if (ended !== undefined) {
      this.#onEnd(ended);
      return;
    }
    for (const state of this.#types) stream.send(encodeDeltaRequest(this.#firstRequest(state)));
  }

  #firstRequest({ typeUrl, held, onDemand }: TypeState): DeltaRequest {
    const node = this.#node;
    if (!onDemand)
      return deltaRequest(typeUrl, { node, initialResourceVersions: held.size === 0 ? NO_VERSIONS : held });
    const versions = new Map(held);
    for (const name of this.#demands.names()) if (!versions.has(name)) versions.set(name, '');
    // Both at once is how "nothing yet" is said; empty lists would mean everything.
    return deltaRequest(typeUrl, {
      node,
      subscribe: ['*'],
      unsubscribe: ['*'],
      initialResourceVersions: versions,
    });
  }

  #onEnd(end: StreamEnd): void {
    const { log, scope, observe } = this.#deps;
    this.#stream = undefined;
    if (scope.closed) return;
    const { sleepMs, backoffMs } = nextDelay(end, this.#backoffMs);
    this.#backoffMs = backoffMs;
    this.#lastEnd = describe(end);
    observe?.terminated(terminationReason(end));
    const fields = { retry: `${sleepMs}ms` };
    if (end.kind === 'clean') log.debug('xDS stream complete', fields);
    else log.warn(`xDS stream ended: ${this.#lastEnd}`, fields);
    scope.timeout(sleepMs, () => this.#connect());
  }

  #onMessage(stream: XdsStream, bytes: Uint8Array): void {
    const { log, observe, settle } = this.#deps;
    let response: DeltaResponse;
    try {
      response = decodeDeltaResponse(bytes);
    } catch (error) {
      stream.close();
      this.#onEnd({ kind: 'status', code: 13, message: reasonOf(error) });
      return;
    }
    observe?.message(
      response.typeUrl,
      response.resources.reduce((sum, { value }) => sum + value.length, 0),
    );
    if (!this.#heard) {
      this.#heard = true;
      log.info('xDS stream established');
    }
    const state = this.#types.find(({ typeUrl }) => typeUrl === response.typeUrl);
    if (state === undefined) log.warn(`xDS response of an unknown type: ${response.typeUrl}`);
    const problems = state === undefined ? NO_PROBLEMS : this.#apply(state, response, bytes);
    const settled = settle?.();
    if (settled === undefined) this.#answer(stream, state, response, problems);
    else
      settled.then(
        () => this.#answer(stream, state, response, problems),
        // No acknowledgement of what is not in force everywhere; whoever failed ends the process.
        (error) => log.error('xDS: a response was not applied everywhere', { error: reasonOf(error) }),
      );
  }

  #answer(
    stream: XdsStream,
    state: TypeState | undefined,
    response: DeltaResponse,
    problems: ReadonlyMap<string, string>,
  ): void {
    const { log } = this.#deps;
    const message = [...problems].map(([name, reason]) => `${name}: ${reason}`).join('; ');
    const error = problems.size === 0 ? undefined : { code: 0, message };
    const { typeUrl, nonce } = response;
    // The stream may have ended while others applied it: what is held stands in the first request of the next.
    if (stream === this.#stream)
      stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { responseNonce: nonce, error })));
    if (state === undefined) return;
    if (state.onDemand) this.#answerDemands(response, problems);
    state.rejected = error?.message;
    if (error === undefined) this.#accepted(state);
    else log.error(`xDS: rejected resources of ${typeUrl}: ${error.message}`);
  }

  /** Applies all that can be read; the reasons for the rest are the NACK. */
  #apply(state: TypeState, response: DeltaResponse, bytes: Uint8Array): ReadonlyMap<string, string> {
    const { log, store } = this.#deps;
    const { accepted, problems } = applyDelta({ log, store, sharing: this.#sharing }, response, bytes);
    for (const name of response.removed) state.held.delete(name);
    for (const { name, version } of accepted) state.held.set(name, version);
    return problems;
  }

  /** After the store has changed: whoever waits looks there. */
  #answerDemands({ resources, removed }: DeltaResponse, problems: ReadonlyMap<string, string>): void {
    if (this.#demands.size === 0) return;
    for (const { name, aliases } of resources) {
      const outcome = problems.has(name) ? 'refused' : 'answered';
      this.#demands.settle(name, outcome);
      for (const alias of aliases ?? []) this.#demands.settle(alias, outcome);
    }
    for (const name of removed) this.#demands.settle(name, 'answered');
  }

  #accepted(state: TypeState): void {
    state.accepted = true;
    // The stream works: the next failure starts from the beginning.
    this.#backoffMs = RECONNECT_INITIAL_MS;
    if (this.#ready || !this.#types.every(({ accepted, onDemand }) => accepted || onDemand)) return;
    this.#ready = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

function describe(end: StreamEnd): string {
  switch (end.kind) {
    case 'clean':
      return 'complete';
    case 'status':
      return `gRPC status ${end.code}: ${end.message}`;
    case 'unreachable':
      return `cannot connect: ${end.message}`;
    case 'local':
      return end.message;
  }
}
