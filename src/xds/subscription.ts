// One client's subscription to one type: which requests deserve an answer, and what the next response carries
// (control-plane.md §4.2–4.5). No sockets, no time: the server calls `take` when the client can take more.

import { type DeltaRequest, NO_VERSIONS } from '#proto/discovery.ts';
import type { Delta, SharedSource } from './shared-source.ts';
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
  /** When the last response was handed over, and the last answer to one came. */
  readonly sentAt: Date | undefined;
  readonly ackedAt: Date | undefined;
  /** The client's own words, until it accepts a response. */
  readonly rejected:
    | { readonly nonce: string; readonly code: number; readonly message: string; readonly at: Date }
    | undefined;
}

export type RequestOutcome = 'respond' | 'ack' | 'nack' | 'stale' | 'nothing';

const NOTHING: ReadonlySet<string> = new Set();

export class Subscription {
  readonly source: ResourceSource;
  readonly #shared: SharedSource;
  readonly #now: () => Date;
  #started = false;
  #wildcard = false;
  /** On demand only: what the client asked for or was sent. */
  readonly #names = new Set<string>();
  #sentNonce = '';
  #ackedNonce = '';
  #sentAt: Date | undefined;
  #ackedAt: Date | undefined;
  #rejected: SubscriptionInfo['rejected'];

  // What the next response must carry; bounded by the number of distinct names.
  /** Everything: versions the client has, and names it asked for that may not exist. */
  #everything: { versions: ReadonlyMap<string, string>; asked: Set<string> } | undefined;
  /** On demand: keys to look up. */
  #asked = new Set<string>();
  /** On demand: what a client that came back has of them, for its first response. */
  #versions = NO_VERSIONS;
  /** Shared with others while it is exactly what was pushed last; a set of our own once two pushes have met in it. */
  #changed: ReadonlySet<string> = NOTHING;
  #ownChanged: Set<string> | undefined;
  #mustAnswer = false;

  constructor(shared: SharedSource, now: () => Date = () => new Date()) {
    this.#shared = shared;
    this.source = shared.source;
    this.#now = now;
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
      sentAt: this.#sentAt,
      ackedAt: this.#ackedAt,
      rejected: this.#rejected,
    };
  }

  /** What the client is to have, sent or still to be sent, in the bytes of this type. */
  *resources(): Iterable<XdsResource> {
    if (!this.#started) return;
    const { carry } = this.source;
    const seen = new Set<string>();
    for (const resource of this.#wanted()) {
      const bytes = carry === undefined ? resource.bytes : carry(resource);
      if (bytes === undefined || seen.has(resource.name)) continue;
      seen.add(resource.name);
      yield { ...resource, bytes };
    }
  }

  *#wanted(): Iterable<XdsResource> {
    if (this.#wildcard) yield* this.source.list();
    else for (const key of this.#names) yield* this.#resolve(key);
  }

  onRequest(request: DeltaRequest): RequestOutcome {
    if (request.error !== undefined) {
      const { code, message } = request.error;
      this.#rejected = { nonce: request.responseNonce, code, message, at: this.#now() };
      return 'nack';
    }
    if (!this.#started) return this.#start(request);
    const { responseNonce, subscribe, unsubscribe } = request;
    if (responseNonce !== '' && responseNonce !== this.#sentNonce) return 'stale';
    if (responseNonce !== '') {
      this.#ackedNonce = responseNonce;
      this.#ackedAt = this.#now();
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
    // What is still to be sent whole will be sent as it is then.
    if (this.#everything !== undefined) return;
    if (this.#wildcard && this.#changed.size === 0) {
      this.#changed = names;
      return;
    }
    for (const name of names) if (this.#wildcard || this.#concerns(name)) this.#ownedChanges().add(name);
  }

  #ownedChanges(): Set<string> {
    this.#ownChanged ??= new Set(this.#changed);
    this.#changed = this.#ownChanged;
    return this.#ownChanged;
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
    const delta = this.#next();
    const answer = this.#mustAnswer || delta.resources.length > 0 || delta.removed.length > 0;
    this.#everything = undefined;
    this.#asked = new Set();
    this.#versions = NO_VERSIONS;
    this.#changed = NOTHING;
    this.#ownChanged = undefined;
    this.#mustAnswer = false;
    return answer ? delta : undefined;
  }

  #next(): Delta {
    if (this.#everything !== undefined) return this.#takeEverything(this.#everything);
    if (this.#wildcard) return this.#shared.changes(this.#changed);
    const resources = new Map<string, XdsResource>();
    const removed = new Set<string>();
    this.#takeAsked(resources, removed);
    for (const name of this.#changed) {
      const resource = this.source.get(name);
      if (resource === undefined) removed.add(name);
      else {
        this.#names.add(name);
        resources.set(name, resource);
      }
    }
    return this.#shared.delta(resources.values(), removed, true);
  }

  #takeEverything({ versions, asked }: { versions: ReadonlyMap<string, string>; asked: Set<string> }): Delta {
    if (versions.size === 0 && asked.size === 0) return this.#shared.everything();
    const resources: XdsResource[] = [];
    for (const resource of this.source.list())
      if (!isHeld(resource, versions.get(resource.name))) resources.push(resource);
    const removed = new Set<string>();
    for (const name of [...asked, ...versions.keys()])
      if (this.source.get(name) === undefined) removed.add(name);
    return this.#shared.delta(resources, removed, false);
  }

  sent(nonce: string): void {
    this.#sentNonce = nonce;
    this.#sentAt = this.#now();
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
    if (this.#changed.has(name)) this.#ownedChanges().delete(name);
  }

  #takeAsked(resources: Map<string, XdsResource>, removed: Set<string>): void {
    for (const key of this.#asked) {
      let found = false;
      for (const resource of this.#resolve(key)) {
        found = true;
        this.#names.add(resource.name);
        if (!isHeld(resource, this.#versions.get(resource.name))) resources.set(resource.name, resource);
      }
      if (!found && !key.startsWith('\0')) removed.add(key);
    }
  }

  #resolve(key: string): Iterable<XdsResource> {
    if (this.source.resolve !== undefined) return this.source.resolve(key);
    const resource = this.source.get(key);
    return resource === undefined ? [] : [resource];
  }
}

/** A client that has this version is not sent it again. */
function isHeld({ version }: XdsResource, heldVersion: string | undefined): boolean {
  return version !== '' && version === heldVersion;
}
