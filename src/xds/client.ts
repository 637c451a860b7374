// The delta xDS client of a node proxy (ztunnel.md §3.1–3.5): subscribes to every workload, service and policy, applies
// what it can read to the store, answers each response, and reconnects for ever. State outlives every connection.

import { reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { Address } from '#model/address.ts';
import type { Policy } from '#model/policy.ts';
import type { Store } from '#model/store.ts';
import { AUTHORIZATION_TYPE_URL, decodeAuthorization } from '#proto/authorization.ts';
import {
  type DeltaResource,
  type DeltaResponse,
  decodeDeltaResponse,
  deltaRequest,
  encodeDeltaRequest,
  NO_VERSIONS,
  type XdsNode,
} from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL, decodeAddress } from '#proto/workload.ts';
import type { Logger } from '#telemetry/log.ts';
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
    message(typeUrl: string, bytes: number): void;
  };
}

export interface XdsClientOptions {
  readonly node: XdsNode;
}

export interface XdsClient {
  /** Every type has had one response that was accepted whole. Never goes back. */
  readonly ready: boolean;
  /** Resolves when `ready` becomes true; never when the scope closes first. */
  whenReady(): Promise<void>;
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
}

/** Node id and metadata as ztunnel forms them (ztunnel.md §3.2). */
export function ztunnelNode(facts: {
  readonly instanceIp: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly nodeName: string;
  readonly metadata?: XdsNode['metadata'];
}): XdsNode {
  const { instanceIp, podName, podNamespace, nodeName } = facts;
  return {
    id: `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
    metadata: {
      NAME: podName,
      NAMESPACE: podNamespace,
      INSTANCE_IPS: instanceIp,
      NODE_NAME: nodeName,
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
  #stream: XdsStream | undefined;
  #heard = false;
  #backoffMs = RECONNECT_INITIAL_MS;
  #lastEnd: string | undefined;
  #ready = false;
  #waiting: (() => void)[] = [];

  constructor(deps: XdsClientDeps, options: XdsClientOptions) {
    this.#deps = deps;
    this.#node = options.node;
    this.#types = [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL].map((typeUrl) => ({
      typeUrl,
      held: new Map<string, string>(),
      accepted: false,
      rejected: undefined,
    }));
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
    for (const { typeUrl, held } of this.#types) {
      const request = deltaRequest(typeUrl, {
        node: this.#node,
        initialResourceVersions: held.size === 0 ? NO_VERSIONS : held,
      });
      stream.send(encodeDeltaRequest(request));
    }
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
    const { log, observe } = this.#deps;
    let response: DeltaResponse;
    try {
      response = decodeDeltaResponse(bytes);
    } catch (error) {
      stream.close();
      this.#onEnd({ kind: 'status', code: 13, message: reasonOf(error) });
      return;
    }
    observe?.message(response.typeUrl, bytes.length);
    if (!this.#heard) {
      this.#heard = true;
      log.info('xDS stream established');
    }
    const state = this.#types.find(({ typeUrl }) => typeUrl === response.typeUrl);
    if (state === undefined) log.warn(`xDS response of an unknown type: ${response.typeUrl}`);
    const problems = state === undefined ? [] : this.#apply(state, response);
    const error = problems.length === 0 ? undefined : { code: 0, message: problems.join('; ') };
    const { typeUrl, nonce } = response;
    stream.send(encodeDeltaRequest(deltaRequest(typeUrl, { responseNonce: nonce, error })));
    if (state === undefined) return;
    state.rejected = error?.message;
    if (error === undefined) this.#accepted(state);
    else log.error(`xDS: rejected resources of ${typeUrl}: ${error.message}`);
  }

  /** Applies all that can be read; the reasons for the rest are the NACK. */
  #apply(state: TypeState, response: DeltaResponse): string[] {
    const { log, store } = this.#deps;
    const problems: string[] = [];
    const accepted: DeltaResource[] = [];
    const read = <T>(decode: (resource: DeltaResource) => T): T[] => {
      const values: T[] = [];
      for (const resource of response.resources) {
        try {
          values.push(decode(resource));
          accepted.push(resource);
        } catch (error) {
          problems.push(`${resource.name}: ${reasonOf(error)}`);
        }
      }
      return values;
    };
    if (state.typeUrl === ADDRESS_TYPE_URL) {
      const addresses = read<Address>((resource) => decodeAddress(resource.value));
      store.apply({ addresses, removedAddresses: response.removed });
    } else {
      const policies = read<Policy>((resource) =>
        decodeAuthorization(resource.value, (what) =>
          log.warn(`policy ${resource.name}: ${what} cannot be read and is ignored`),
        ),
      );
      store.apply({ policies, removedPolicies: response.removed });
    }
    for (const name of response.removed) state.held.delete(name);
    for (const { name, version } of accepted) state.held.set(name, version);
    return problems;
  }

  #accepted(state: TypeState): void {
    state.accepted = true;
    // The stream works: the next failure starts from the beginning.
    this.#backoffMs = RECONNECT_INITIAL_MS;
    if (this.#ready || !this.#types.every(({ accepted }) => accepted)) return;
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
