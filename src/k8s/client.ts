// What Culvert asks of a Kubernetes API server. `rest-client.ts` is the one implementation; tests may write others.

import type { KubeObject, Resource } from './objects.ts';

export interface ListOptions {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export interface List<T> {
  readonly items: readonly T[];
  readonly resourceVersion: string;
}

export type PatchKind = 'merge' | 'json' | 'strategic' | 'apply';

export type WatchEvent<T> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: T }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly initialEventsEnd: boolean };

/**
 * Failures are MeshError: `API_UNREACHABLE` when no answer came (retry), `API_STATUS` with details `{status, reason}`
 * when the server refused (404, 409, 410, 422, …).
 */
export interface KubeClient {
  get<T extends KubeObject>(resource: Resource<T>, name: string, namespace?: string): Promise<T>;
  list<T extends KubeObject>(resource: Resource<T>, options?: ListOptions): Promise<List<T>>;
  create<T extends KubeObject>(resource: Resource<T>, object: T, namespace?: string): Promise<T>;
  update<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T>;
  updateStatus<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T>;
  /** `subresource` is `status` or `scale`. For `apply`, `fieldManager` is required and conflicts are forced. */
  patch<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    kind: PatchKind,
    body: unknown,
    options?: { readonly namespace?: string; readonly subresource?: string; readonly fieldManager?: string },
  ): Promise<T>;
  delete<T extends KubeObject>(
    resource: Resource<T>,
    name: string,
    options?: {
      readonly namespace?: string;
      readonly gracePeriodSeconds?: number;
      readonly uid?: string;
      readonly propagation?: 'Background' | 'Foreground' | 'Orphan';
    },
  ): Promise<void>;
  /** One watch stream; ends when the server ends it or the signal aborts. Reflectors build on it. */
  watch<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions & {
      readonly resourceVersion?: string;
      readonly sendInitialEvents?: boolean;
      readonly signal?: AbortSignal;
    },
  ): AsyncIterable<WatchEvent<T>>;
  /** Any other call: TokenReview, TokenRequest, logs. `path` begins with `/api` or `/apis`. JSON in, JSON out. */
  request<Answer>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<Answer>;
  /** A text stream (pod logs). Ends when the server ends it or the signal aborts. */
  stream(path: string, signal?: AbortSignal): AsyncIterable<string>;
  /** Closes kept-alive connections. */
  close(): void;
}
