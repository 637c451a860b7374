// One client's subscription to one type: which requests deserve an answer, and what the next response carries
// (control-plane.md §4.2–4.5). No sockets, no time: the server calls `take` when the client can take more.

import { type DeltaRequest, type DeltaResource, NO_VERSIONS } from '#proto/discovery.ts';
import { nodeKey, type ResourceSource, type XdsResource } from './source.ts';

export interface SubscriptionInfo {
  readonly typeUrl: string;
  readonly wildcard: boolean;
  /** Names subscribed to on demand. */
  readonly names: number;
  /** Names waiting to be sent. */
  readonly pending: number;
  readonly sentNonce: string;
  readonly ackedNonce: string;
  readonly rejected: { readonly nonce: string; readonly message: string } | undefined;
}

export interface Delta {
  readonly resources: readonly DeltaResource[];
  readonly removed: readonly string[];
}

export type RequestOutcome = 'respond' | 'ack' | 'nack' | 'stale' | 'nothing';

export class Subscription {
  readonly source: ResourceSource;
  #started = false;
  #wildcard = false;
  /** On demand only: what the client asked for or was sent. */
  readonly #names = new Set<string>();
  #sentNonce = '';
  #ackedNonce = '';
  #rejected: { nonce: string; message: string } | undefined;

  // What the next response must carry; bounded by the number of distinct names.
  /** Everything: versions the client has, and names it asked for that may not exist. */
  #everything: { versions: ReadonlyMap<string, string>; asked: Set<string> } | undefined;
  /** On demand: keys to look up. */
  #asked = new Set<string>();
  /** On demand: what a client that came back has of them, for its first response. */
  #versions = NO_VERSIONS;
  #changed = new Set<string>();
  #mustAnswer = false;

  constructor(source: ResourceSource) {
    this.source = source;
  }

  /** The client has asked for this type. */
  get started(): boolean {
    return this.#started;
  }

  get pending(): number {
    return this.#changed.size + this.#asked.size;
  }

  info(): SubscriptionInfo {
    return {
      typeUrl: this.source.typeUrl,
      wildcard: this.#wildcard,
      names: this.#names.size,
      pending: this.pending,
      sentNonce: this.#sentNonce,
      ackedNonce: this.#ackedNonce,
      rejected: this.#rejected,
    };
  }

  onRequest(request: DeltaRequest): RequestOutcome {
    if (request.error !== undefined) {
      this.#rejected = { nonce: request.responseNonce, message: request.error.message };
      return 'nack';
    }
    if (!this.#started) return this.#start(request);
    const { responseNonce, subscribe, unsubscribe } = request;
    if (responseNonce !== '' && responseNonce !== this.#sentNonce) return 'stale';
    if (responseNonce !== '') {
      this.#ackedNonce = responseNonce;
      this.#rejected = undefined;
    }
    if (subscribe.length === 0 && unsubscribe.length === 0) return responseNonce === '' ? 'nothing' : 'ack';
    if (this.#wildcard) {
      // Names mean nothing to a wildcard subscriber; asking for any is asking for all (control-plane.md §4.3).
      this.#everything = { versions: new Map(), asked: new Set(subscribe.filter((name) => name !== '*')) };
    } else {
      for (const name of subscribe) this.#ask(name);
      for (const name of unsubscribe) this.#forget(name);
    }
    this.#mustAnswer = true;
    return 'respond';
  }

  /** Names that changed at the source. */
  onChange(names: ReadonlySet<string>): void {
    if (!this.#started) return;
    for (const name of names) if (this.#wildcard || this.#concerns(name)) this.#changed.add(name);
  }

  /** It was asked for or sent, or belongs to what was: a new endpoint of a service, a new workload of the node. */
  #concerns(name: string): boolean {
    if (this.#names.has(name)) return true;
    const resource = this.source.get(name);
    return [...(resource?.follows ?? []), ...(resource?.aliases ?? [])].some((key) => this.#names.has(key));
  }

  /** The next response, with nothing left pending; undefined when there is nothing to say. */
  take(): Delta | undefined {
    if (!this.#started) return undefined;
    const resources = new Map<string, DeltaResource>();
    const removed = new Set<string>();
    if (this.#everything !== undefined) {
      const { versions, asked } = this.#everything;
      for (const resource of this.source.list()) this.#add(resources, resource, versions.get(resource.name));
      for (const name of [...asked, ...versions.keys()])
        if (this.source.get(name) === undefined) removed.add(name);
    } else {
      this.#takeAsked(resources, removed);
      for (const name of this.#changed) {
        const resource = this.source.get(name);
        if (resource === undefined) removed.add(name);
        else {
          if (!this.#wildcard) this.#names.add(name);
          this.#add(resources, resource, undefined);
        }
      }
    }
    const answer = this.#mustAnswer || resources.size > 0 || removed.size > 0;
    this.#everything = undefined;
    this.#asked = new Set();
    this.#versions = NO_VERSIONS;
    this.#changed = new Set();
    this.#mustAnswer = false;
    return answer ? { resources: [...resources.values()], removed: [...removed] } : undefined;
  }

  sent(nonce: string): void {
    this.#sentNonce = nonce;
  }

  #start(request: DeltaRequest): RequestOutcome {
    const { node, subscribe, unsubscribe, initialResourceVersions: versions } = request;
    this.#started = true;
    const wanted = new Set([...subscribe, ...versions.keys()]);
    for (const name of unsubscribe) wanted.delete(name);
    this.#wildcard = wanted.has('*') || subscribe.length === 0;
    wanted.delete('*');
    if (this.#wildcard) this.#everything = { versions, asked: wanted };
    else {
      this.#versions = versions;
      for (const name of wanted) this.#ask(name);
      const nodeName = node?.metadata.NODE_NAME;
      if (typeof nodeName === 'string' && nodeName !== '') this.#ask(nodeKey(nodeName));
    }
    this.#mustAnswer = true;
    return 'respond';
  }

  #ask(name: string): void {
    if (name === '*') return;
    this.#names.add(name);
    this.#asked.add(name);
  }

  #forget(name: string): void {
    this.#names.delete(name);
    this.#asked.delete(name);
    this.#changed.delete(name);
  }

  #takeAsked(resources: Map<string, DeltaResource>, removed: Set<string>): void {
    for (const key of this.#asked) {
      let found = false;
      for (const resource of this.#resolve(key)) {
        found = true;
        this.#names.add(resource.name);
        this.#add(resources, resource, this.#versions.get(resource.name));
      }
      if (!found && !key.startsWith('\0')) removed.add(key);
    }
  }

  #resolve(key: string): Iterable<XdsResource> {
    if (this.source.resolve !== undefined) return this.source.resolve(key);
    const resource = this.source.get(key);
    return resource === undefined ? [] : [resource];
  }

  #add(into: Map<string, DeltaResource>, resource: XdsResource, heldVersion: string | undefined): void {
    const { name, version, bytes, aliases } = resource;
    if (version !== '' && version === heldVersion) return;
    const sent = { name, version, typeUrl: this.source.typeUrl, value: bytes };
    into.set(name, this.#wildcard || aliases === undefined ? sent : { ...sent, aliases });
  }
}
