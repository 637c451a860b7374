// One connected xDS client: reads its requests, keeps a subscription per type, and hands out responses one at a time.
// A response is built only when the last one has been taken, so a slow client costs its set of pending names and no more.

import { randomUUID } from 'node:crypto';
import { Code, ConnectError } from '@connectrpc/connect';
import type { DeltaRequest, DeltaResponse, XdsNode } from '#proto/discovery.ts';
import type { Logger } from '#telemetry/log.ts';
import type { Caller, ResourceSource } from './source.ts';
import { Subscription, type SubscriptionInfo } from './subscription.ts';

export interface XdsClientInfo {
  readonly id: number;
  readonly node: string | undefined;
  readonly caller: Caller;
  readonly connectedAt: Date;
  readonly subscriptions: readonly SubscriptionInfo[];
}

export interface ClientStreamDeps {
  readonly sources: readonly ResourceSource[];
  readonly log: Logger;
  /** Grows with every push; part of nonces and versions. */
  readonly version: () => string;
  /** Resets a stream whose client does not even take the status that ends it. */
  readonly cutOff: (stream: ClientStream) => void;
  readonly observe?: {
    rejected(typeUrl: string): void;
    sent(typeUrl: string, resources: number): void;
  };
}

export interface ClientStreamOptions {
  /** A client this far behind is cut off; it comes back with the versions it has. */
  readonly maxPendingNames: number;
  /** The identity must be of the namespace that the node id claims (`PILOT_ENABLE_XDS_IDENTITY_CHECK`). */
  readonly identityCheck: boolean;
}

export class ClientStream {
  readonly #deps: ClientStreamDeps;
  readonly #options: ClientStreamOptions;
  readonly #id: number;
  readonly #caller: Caller;
  readonly #connectedAt = new Date();
  /** In the order of the sources, which is the order of pushing. */
  readonly #subscriptions: readonly Subscription[];
  #node: XdsNode | undefined;
  #end: { readonly error: ConnectError | undefined } | undefined;
  #wake: (() => void) | undefined;

  constructor(id: number, caller: Caller, deps: ClientStreamDeps, options: ClientStreamOptions) {
    this.#id = id;
    this.#caller = caller;
    this.#deps = deps;
    this.#options = options;
    this.#subscriptions = deps.sources.map((source) => new Subscription(source));
  }

  info(): XdsClientInfo {
    return {
      id: this.#id,
      node: this.#node?.id,
      caller: this.#caller,
      connectedAt: this.#connectedAt,
      subscriptions: this.#subscriptions
        .filter((subscription) => subscription.started)
        .map((subscription) => subscription.info()),
    };
  }

  onChange(changed: ReadonlyMap<string, ReadonlySet<string>>): void {
    if (this.#end !== undefined) return;
    for (const subscription of this.#subscriptions) {
      const names = changed.get(subscription.source.typeUrl);
      if (names === undefined) continue;
      subscription.onChange(names);
      if (subscription.pending > this.#options.maxPendingNames) {
        const why = `the client is ${subscription.pending} changes behind; reconnect to catch up`;
        this.end(new ConnectError(why, Code.Unavailable));
        this.#deps.cutOff(this);
      }
    }
    this.#wakeUp();
  }

  /** Without an error: cleanly, after what is pending. */
  end(error?: ConnectError): void {
    this.#end ??= { error };
    this.#wakeUp();
  }

  onRequest(request: DeltaRequest): void {
    if (this.#end !== undefined) return;
    this.#node ??= this.#admit(request.node);
    const subscription = this.#subscriptions.find(({ source }) => source.typeUrl === request.typeUrl);
    const { log, observe } = this.#deps;
    if (subscription === undefined) {
      log.debug('xDS request for a type that is not served', { node: this.#node.id, type: request.typeUrl });
      return;
    }
    const outcome = subscription.onRequest(request);
    if (outcome === 'nack') {
      observe?.rejected(request.typeUrl);
      const error = request.error?.message ?? '';
      log.warn('xDS client rejected resources', { node: this.#node.id, type: request.typeUrl, error });
    } else if (outcome === 'stale' || outcome === 'nothing') {
      log.debug(`xDS request ignored: ${outcome}`, { node: this.#node.id, type: request.typeUrl });
    } else if (outcome === 'respond') this.#wakeUp();
  }

  /** Ends when the client does; throws the ConnectError that the client is to see. */
  async *responses(): AsyncGenerator<DeltaResponse> {
    for (;;) {
      if (this.#end?.error !== undefined) throw this.#end.error;
      const response = this.#next();
      if (response !== undefined) yield response;
      else if (this.#end !== undefined) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  #next(): DeltaResponse | undefined {
    for (const subscription of this.#subscriptions) {
      const delta = subscription.take();
      if (delta === undefined) continue;
      const { typeUrl } = subscription.source;
      const version = this.#deps.version();
      const nonce = `${version}/${randomUUID()}`;
      subscription.sent(nonce);
      this.#deps.observe?.sent(typeUrl, delta.resources.length + delta.removed.length);
      return { systemVersionInfo: version, typeUrl, nonce, ...delta };
    }
    return undefined;
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #admit(node: XdsNode | undefined): XdsNode {
    if (node === undefined || node.id === '')
      throw new ConnectError('the first request must carry a node id', Code.InvalidArgument);
    if (this.#options.identityCheck) checkIdentity(node, this.#caller);
    return node;
  }
}

/** A token proves a namespace and a service account; a node may not claim others (control-plane.md §4.6). */
function checkIdentity(node: XdsNode, caller: Caller): void {
  const { NAMESPACE: namespace, SERVICE_ACCOUNT: serviceAccount } = node.metadata;
  const claimed = typeof namespace === 'string' ? namespace : (node.id.split('~')[3] ?? '').split('.')[0];
  if (claimed !== caller.namespace) {
    const why = `node ${node.id} claims namespace ${JSON.stringify(claimed)}, its token is of ${caller.identity}`;
    throw new ConnectError(why, Code.PermissionDenied);
  }
  if (
    typeof serviceAccount === 'string' &&
    serviceAccount !== '' &&
    serviceAccount !== caller.serviceAccount
  ) {
    const why = `node ${node.id} claims service account ${serviceAccount}, its token is of ${caller.identity}`;
    throw new ConnectError(why, Code.PermissionDenied);
  }
}
