// One connected xDS client: reads its requests, keeps a subscription per type, and sends one response at a time. The next
// is built only when the client's window has taken the last, so a slow client costs its set of pending names and no more.

import { randomUUID } from 'node:crypto';
import { MeshError, reasonOf } from '#base/errors.ts';
import type { CallStatus, ServerCall } from '#grpc/server-call.ts';
import {
  GRPC_INVALID_ARGUMENT,
  GRPC_PERMISSION_DENIED,
  GRPC_UNAVAILABLE,
  statusError,
  statusOf,
} from '#grpc/status.ts';
import { type DeltaRequest, decodeDeltaRequest, type XdsNode } from '#proto/discovery.ts';
import { encodeResourceField, encodeResponseHead } from '#proto/discovery-parts.ts';
import type { Logger } from '#telemetry/log.ts';
import type { SharedSource } from './shared-source.ts';
import { type AnswerDebug, type Caller, isDebugType, type XdsResource } from './source.ts';
import { Subscription, type SubscriptionInfo } from './subscription.ts';

export interface XdsClientInfo {
  readonly id: number;
  readonly node: string | undefined;
  /** What the client says of itself. */
  readonly metadata: XdsNode['metadata'];
  readonly caller: Caller;
  readonly peer: string;
  readonly connectedAt: Date;
  readonly subscriptions: readonly SubscriptionInfo[];
}

export interface XdsObserver {
  rejected?(typeUrl: string): void;
  /** A response was handed to the client's window: how much, and how long after the push that called for it. */
  sent?(typeUrl: string, resources: number, bytes: number, queuedSeconds: number | undefined): void;
  /** The client accepted what a push told it, this long after the first change in it. */
  converged?(typeUrl: string, seconds: number): void;
}

export interface ClientStreamDeps {
  readonly sources: readonly SharedSource[];
  readonly log: Logger;
  /** Grows with every push; part of nonces and versions. */
  readonly version: () => string;
  /** Who answers: the identifier of the control plane, JSON. */
  readonly controlPlane: string;
  readonly answerDebug: AnswerDebug | undefined;
  /** Resets a stream whose client does not even take the status that ends it. */
  readonly cutOff: (stream: ClientStream) => void;
  readonly observe: XdsObserver;
}

export interface ClientStreamOptions {
  /** A client this far behind is cut off; it comes back with the versions it has. */
  readonly maxPendingNames: number;
  /** The identity must be of the namespace that the node id claims (`PILOT_ENABLE_XDS_IDENTITY_CHECK`). */
  readonly identityCheck: boolean;
}

/** When, in `performance.now()`, the first change of a push came, and when the push was made. */
export interface PushTimes {
  readonly changedAt: number;
  readonly pushedAt: number;
}

interface TypeState {
  readonly subscription: Subscription;
  readonly shared: SharedSource;
  /** Of the earliest push that has not been sent yet. */
  waiting: PushTimes | undefined;
  /** Of the response that has not been answered yet. */
  unanswered: { readonly nonce: string; readonly changedAt: number } | undefined;
}

type ClientCall = Pick<ServerCall, 'peer' | 'read' | 'send' | 'end' | 'reset'>;

/** A reconnecting client sends a name and version for everything it holds. */
const MAX_REQUEST_BYTES = 64 << 20;

export class ClientStream {
  readonly #id: number;
  readonly #caller: Caller;
  readonly #call: ClientCall;
  readonly #deps: ClientStreamDeps;
  readonly #options: ClientStreamOptions;
  readonly #connectedAt = new Date();
  /** In the order of the sources, which is the order of pushing. */
  readonly #types: readonly TypeState[];
  /** Debug requests that have not been answered yet, by type. */
  readonly #debug = new Map<string, readonly string[]>();
  #debugNonce = '';
  #node: XdsNode | undefined;
  #busy = false;
  #ended = false;

  constructor(
    id: number,
    caller: Caller,
    call: ClientCall,
    deps: ClientStreamDeps,
    options: ClientStreamOptions,
  ) {
    this.#id = id;
    this.#caller = caller;
    this.#call = call;
    this.#deps = deps;
    this.#options = options;
    this.#types = deps.sources.map((shared) => ({
      subscription: new Subscription(shared),
      shared,
      waiting: undefined,
      unanswered: undefined,
    }));
  }

  start(): void {
    this.#call.read(
      MAX_REQUEST_BYTES,
      (bytes) => this.#onRequest(decodeDeltaRequest(bytes)),
      () => this.end(),
    );
  }

  get id(): number {
    return this.#id;
  }

  info(): XdsClientInfo {
    return {
      id: this.#id,
      node: this.#node?.id,
      metadata: this.#node?.metadata ?? {},
      caller: this.#caller,
      peer: this.#call.peer,
      connectedAt: this.#connectedAt,
      subscriptions: this.#types
        .filter(({ subscription }) => subscription.started)
        .map(({ subscription }) => subscription.info()),
    };
  }

  /** What the client is to have of the type; nothing of one that it has not asked for. */
  resources(typeUrl: string): Iterable<XdsResource> {
    const state = this.#types.find(({ subscription }) => subscription.source.typeUrl === typeUrl);
    return state?.subscription.resources() ?? [];
  }

  onPush(changed: ReadonlyMap<string, ReadonlySet<string>>, times: PushTimes): void {
    if (this.#ended) return;
    for (const state of this.#types) {
      const { subscription } = state;
      const { typeUrl, changesWith = typeUrl } = subscription.source;
      const names = changed.get(changesWith);
      if (names === undefined) continue;
      subscription.onChange(names);
      if (subscription.pending > 0) state.waiting ??= times;
      if (subscription.pending > this.#options.maxPendingNames) {
        const message = `the client is ${subscription.pending} changes behind; reconnect to catch up`;
        this.#deps.log.warn('xDS client cut off', { node: this.#node?.id ?? '', why: message });
        this.end({ code: GRPC_UNAVAILABLE, message });
        this.#deps.cutOff(this);
        return;
      }
    }
    this.#sendNext();
  }

  /** Without a status: cleanly. */
  end(status?: CallStatus): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#call.end(status);
  }

  reset(): void {
    this.#call.reset();
  }

  #onRequest(request: DeltaRequest): void {
    if (this.#ended) return;
    this.#node ??= admitted(request.node, this.#caller, this.#options.identityCheck);
    const { log, observe, answerDebug } = this.#deps;
    const { typeUrl } = request;
    const fields = { node: this.#node.id, type: typeUrl };
    if (answerDebug !== undefined && isDebugType(typeUrl)) {
      if (
        request.error !== undefined ||
        (request.responseNonce !== '' && request.responseNonce === this.#debugNonce)
      )
        return;
      this.#debug.set(typeUrl, request.subscribe);
      this.#sendNext();
      return;
    }
    const state = this.#types.find(({ subscription }) => subscription.source.typeUrl === typeUrl);
    if (state === undefined) {
      log.debug('xDS request for a type that is not served', fields);
      return;
    }
    const outcome = state.subscription.onRequest(request);
    const { unanswered } = state;
    if (unanswered !== undefined && unanswered.nonce === request.responseNonce) {
      state.unanswered = undefined;
      if (outcome !== 'nack') observe.converged?.(typeUrl, (performance.now() - unanswered.changedAt) / 1000);
    }
    if (outcome === 'nack') {
      observe.rejected?.(typeUrl);
      log.warn('xDS client rejected resources', { ...fields, error: request.error?.message ?? '' });
    } else if (outcome === 'stale' || outcome === 'nothing')
      log.debug(`xDS request ignored: ${outcome}`, fields);
    else if (outcome === 'respond') this.#sendNext();
  }

  #sendNext(): void {
    if (this.#busy || this.#ended) return;
    for (const state of this.#types) {
      const { subscription, shared } = state;
      const delta = subscription.take();
      if (delta === undefined) {
        // What was pushed is of no interest under this type.
        state.waiting = undefined;
        continue;
      }
      const { typeUrl } = subscription.source;
      const body = shared.body(delta);
      const nonce = this.#nonce();
      subscription.sent(nonce);
      const { waiting } = state;
      state.waiting = undefined;
      state.unanswered = waiting === undefined ? undefined : { nonce, changedAt: waiting.changedAt };
      this.#send(typeUrl, nonce, body, () => {
        const queuedSeconds =
          waiting === undefined ? undefined : (performance.now() - waiting.pushedAt) / 1000;
        const { resources, removed } = delta;
        this.#deps.observe.sent?.(typeUrl, resources.length + removed.length, body.length, queuedSeconds);
      });
      return;
    }
    this.#answerDebug();
  }

  #answerDebug(): void {
    const { answerDebug, log } = this.#deps;
    const [request] = this.#debug;
    if (request === undefined || answerDebug === undefined) return;
    const [typeUrl, names] = request;
    this.#debug.delete(typeUrl);
    let resources: readonly (XdsResource & { readonly typeUrl: string })[];
    try {
      resources = answerDebug({ typeUrl, names, caller: this.#caller });
    } catch (error) {
      if (!(error instanceof MeshError)) log.error('an xDS debug request failed', { error: reasonOf(error) });
      this.end(statusOf(error));
      return;
    }
    this.#debugNonce = this.#nonce();
    const body = Buffer.concat(resources.map((it) => encodeResourceField(it.typeUrl, it, [])));
    this.#send(typeUrl, this.#debugNonce, body, () => {});
  }

  #nonce(): string {
    return `${this.#deps.version()}/${randomUUID()}`;
  }

  #send(typeUrl: string, nonce: string, body: Uint8Array, taken: () => void): void {
    const { version, controlPlane } = this.#deps;
    this.#busy = true;
    const head = encodeResponseHead({ systemVersionInfo: version(), typeUrl, nonce, controlPlane });
    this.#call.send([head, body], () => {
      this.#busy = false;
      taken();
      this.#sendNext();
    });
  }
}

/** The first request says who the client is (control-plane.md §4.1); a token proves a namespace and an account (§4.6). */
export function admitted(node: XdsNode | undefined, caller: Caller, identityCheck: boolean): XdsNode {
  if (node === undefined || node.id === '')
    throw statusError(GRPC_INVALID_ARGUMENT, 'the first request must carry a node id');
  if (identityCheck) checkIdentity(node, caller);
  return node;
}

function checkIdentity(node: XdsNode, caller: Caller): void {
  const { NAMESPACE: namespace, SERVICE_ACCOUNT: serviceAccount } = node.metadata;
  const claimed = typeof namespace === 'string' ? namespace : (node.id.split('~')[3] ?? '').split('.')[0];
  if (claimed !== caller.namespace) {
    const why = `node ${node.id} claims namespace ${JSON.stringify(claimed)}, its token is of ${caller.identity}`;
    throw statusError(GRPC_PERMISSION_DENIED, why);
  }
  if (
    typeof serviceAccount === 'string' &&
    serviceAccount !== '' &&
    serviceAccount !== caller.serviceAccount
  ) {
    const why = `node ${node.id} claims service account ${serviceAccount}, its token is of ${caller.identity}`;
    throw statusError(GRPC_PERMISSION_DENIED, why);
  }
}
