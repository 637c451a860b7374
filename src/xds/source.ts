// What the xDS server serves: one source per type, and who asks for it.

import type { SpiffeId } from '#model/identity.ts';

export interface XdsResource {
  readonly name: string;
  /** Changes exactly when the bytes do. A client that holds this version is not sent it again; '' means always. */
  readonly version: string;
  /** The value inside the Any, encoded once for all clients. */
  readonly bytes: Uint8Array;
  /** Other names under which an on-demand subscriber may have asked for it (control-plane.md §2.2). */
  readonly aliases?: readonly string[];
  /** Keys whose on-demand subscribers get this unasked: services that a workload belongs to, its node (`nodeKey`). */
  readonly follows?: readonly string[];
}

/** What the proxy of a node is subscribed to from the beginning. NUL keeps it apart from every name. */
export const nodeKey = (node: string): string => `\0node/${node}`;

export interface ResourceSource {
  readonly typeUrl: string;
  list(): Iterable<XdsResource>;
  get(name: string): XdsResource | undefined;
  /** What an on-demand subscriber means by a key: by name, by alias, and what follows it; `get` alone when absent. */
  resolve?(key: string): Iterable<XdsResource>;
  /**
   * What of a resource goes out under this type: all of it when absent. Undefined for what the type does not carry; its
   * name is in use nevertheless, so nobody is told that it is gone, and what follows it is sent.
   */
  carry?(resource: XdsResource): Uint8Array | undefined;
  /** The type whose changes are all that there are of this one too, for another view of the same resources. */
  readonly changesWith?: string;
  /** Names that were added, changed or removed. Returns how to stop. */
  onChange(handler: (names: ReadonlySet<string>) => void): () => void;
}

/** Who opened a stream, as the authentication hook found. */
export interface Caller {
  readonly identity: SpiffeId;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod?: { readonly name: string; readonly uid: string };
}

/** Types that ask for the state of the control plane itself, as istioctl does (control-plane.md §10.1). */
const DEBUG_TYPE = 'istio.io/debug';

export const isDebugType = (typeUrl: string): boolean =>
  typeUrl === DEBUG_TYPE || typeUrl.startsWith(`${DEBUG_TYPE}/`);

export interface DebugRequest {
  readonly typeUrl: string;
  readonly names: readonly string[];
  readonly caller: Caller;
}

/** Throws `statusError` for whom the answer is not meant. */
export type AnswerDebug = (request: DebugRequest) => readonly (XdsResource & { readonly typeUrl: string })[];
