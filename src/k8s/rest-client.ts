// The one KubeClient that speaks to a real API server: JSON over HTTPS (HTTP/1.1, kept alive), watches as long streams.
// The connection itself is rest-transport.ts; retrying is the business of reflectors and work queues.

import { StringDecoder } from 'node:string_decoder';
import type { Random } from '#base/clock.ts';
import type { KubeClient, List, ListOptions, PatchKind } from './client.ts';
import { type ListPage, listInPages } from './list-pages.ts';
import type { KubeObject, Resource } from './objects.ts';
import { collectionPath, groupVersionOf, objectPath } from './path.ts';
import { type ApiEndpoint, createTransport } from './rest-transport.ts';
import { decodeWatchStream } from './watch-stream.ts';

export interface RestClientOptions {
  /** How long an ordinary request may take. */
  readonly requestTimeoutMs?: number;
  /** How long the server is asked to hold a watch, before jitter. */
  readonly watchSeconds?: number;
  /** After how long without any byte a watch is taken for dead. */
  readonly watchSilenceMs?: number;
  readonly random?: Random;
}

const REQUEST_TIMEOUT_MS = 30_000;
/** Under the five minutes at which many proxies cut a connection. */
const WATCH_SECONDS = 290;
/** A watch that outlives its own timeoutSeconds by this much hangs on a dead connection. */
const WATCH_OVERTIME_MS = 15_000;
/**
 * API servers send a bookmark a minute. Where one does not, a quiet watch is opened anew a little more often: cheap, and
 * the price of noticing a connection that is open but carries nothing any more.
 */
const WATCH_SILENCE_MS = 90_000;

const PATCH_TYPES: Readonly<Record<PatchKind, string>> = {
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

type Query = Readonly<Record<string, string | undefined>>;

function withQuery(path: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const name in query) {
    const value = query[name];
    if (value !== undefined && value !== '') parameters.append(name, value);
  }
  const text = parameters.toString();
  return text === '' ? path : `${path}?${text}`;
}

const selectors = (options: ListOptions): Query => ({
  labelSelector: options.labelSelector,
  fieldSelector: options.fieldSelector,
});

export function createRestClient(endpoint: ApiEndpoint, options: RestClientOptions = {}): KubeClient {
  const {
    requestTimeoutMs = REQUEST_TIMEOUT_MS,
    watchSeconds = WATCH_SECONDS,
    watchSilenceMs: silenceLimitMs = WATCH_SILENCE_MS,
    random = Math.random,
  } = options;
  const transport = createTransport(endpoint, requestTimeoutMs);
  const { json } = transport;

  const write = <T extends KubeObject>(resource: Resource<T>, object: T, subresource?: string): Promise<T> =>
    json<T>({
      method: 'PUT',
      path: objectPath(resource, object.metadata.name, object.metadata.namespace, subresource),
      body: object,
    });

  return {
    get: (resource, name, namespace) => json({ method: 'GET', path: objectPath(resource, name, namespace) }),

    async list<T extends KubeObject>(resource: Resource<T>, listOptions: ListOptions = {}): Promise<List<T>> {
      const { items, resourceVersion } = await listInPages((page) =>
        json<ListPage<T>>({
          method: 'GET',
          path: withQuery(collectionPath(resource, listOptions.namespace), {
            ...selectors(listOptions),
            ...page,
          }),
        }),
      );
      // Servers may leave the type out of list items.
      const apiVersion = groupVersionOf(resource);
      for (const item of items) {
        item.apiVersion ??= apiVersion;
        item.kind ??= resource.kind;
      }
      return { items, resourceVersion };
    },

    create: (resource, object, namespace) =>
      json({
        method: 'POST',
        path: collectionPath(
          resource,
          resource.namespaced ? (namespace ?? object.metadata.namespace) : undefined,
        ),
        body: object,
      }),

    update: (resource, object) => write(resource, object),
    updateStatus: (resource, object) => write(resource, object, 'status'),

    patch: (resource, name, kind, body, patchOptions = {}) =>
      json({
        method: 'PATCH',
        path: withQuery(objectPath(resource, name, patchOptions.namespace, patchOptions.subresource), {
          fieldManager: patchOptions.fieldManager,
          force: kind === 'apply' ? 'true' : undefined,
        }),
        body,
        contentType: PATCH_TYPES[kind],
      }),

    async delete(resource, name, deleteOptions = {}) {
      const { gracePeriodSeconds, uid, propagation } = deleteOptions;
      await json({
        method: 'DELETE',
        path: objectPath(resource, name, deleteOptions.namespace),
        body: {
          apiVersion: 'v1',
          kind: 'DeleteOptions',
          ...(gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
          ...(uid === undefined ? {} : { preconditions: { uid } }),
          ...(propagation === undefined ? {} : { propagationPolicy: propagation }),
        },
      });
    },

    async *watch(resource, watchOptions) {
      const seconds = Math.round(watchSeconds * (0.9 + 0.2 * random()));
      const path = withQuery(collectionPath(resource, watchOptions.namespace), {
        watch: 'true',
        allowWatchBookmarks: 'true',
        timeoutSeconds: String(seconds),
        resourceVersion: watchOptions.resourceVersion,
        ...(watchOptions.sendInitialEvents === true
          ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }
          : {}),
        ...selectors(watchOptions),
      });
      const { signal } = watchOptions;
      const streamLimitMs = seconds * 1000 + WATCH_OVERTIME_MS;
      const chunks = transport.chunks({ method: 'GET', path, signal, streamLimitMs, silenceLimitMs });
      yield* untilAborted(signal, decodeWatchStream(chunks, resource));
    },

    request: (method, path, body) => json({ method, path, ...(body === undefined ? {} : { body }) }),

    stream: (path, signal) =>
      untilAborted(signal, decodeText(transport.chunks({ method: 'GET', path, accept: '*/*', signal }))),

    close: () => transport.close(),
  };
}

async function* decodeText(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  for await (const chunk of chunks) {
    const text = decoder.write(chunk);
    if (text !== '') yield text;
  }
  const rest = decoder.end();
  if (rest !== '') yield rest;
}

/** An abort is the caller's wish, not a failure: the stream just ends. */
async function* untilAborted<T>(
  signal: AbortSignal | undefined,
  source: AsyncIterable<T>,
): AsyncGenerator<T> {
  const aborted = (): boolean => signal?.aborted === true;
  if (aborted()) return;
  try {
    yield* source;
  } catch (error) {
    if (!aborted()) throw error;
  }
}
