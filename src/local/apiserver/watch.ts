// One watch: which changes of a resource a client is told of, in what form. Writes to a sink; the sink is the HTTP
// answer. Several clients of one object share its JSON text.

import type { Clock } from '#base/clock.ts';
import type { AnswerForm } from './accept.ts';
import type { Kind } from './kind.ts';
import type { ApiObject } from './object.ts';
import { render } from './objects.ts';
import type { Filter } from './selectors.ts';
import { expired, StatusError } from './status.ts';
import type { Change, ChangeType, Store, Stored } from './store.ts';
import { type IncludeObject, partialMetadata, tableOf } from './table.ts';

export interface WatchSink {
  /** One event as a line of JSON with its newline. False when the reader has fallen too far behind: the watch ends. */
  write(line: string): boolean;
  end(): void;
}

export interface WatchRequest {
  readonly kind: Kind;
  readonly namespace: string | undefined;
  readonly filter: Filter;
  readonly form: AnswerForm;
  readonly include: IncludeObject;
  /** `0` and undefined mean "from now, after showing what there is". */
  readonly resourceVersion: string | undefined;
  readonly sendInitialEvents: boolean | undefined;
  readonly allowBookmarks: boolean;
  readonly timeoutMs: number;
}

const BOOKMARK_EVERY_MS = 60_000;

/** Starts at once; the returned function stops without a word. */
export function startWatch(
  deps: { readonly store: Store; readonly clock: Clock },
  request: WatchRequest,
  sink: WatchSink,
): () => void {
  const { store, clock } = deps;
  const { kind } = request;
  const matches = (object: ApiObject): boolean =>
    (request.namespace === undefined || object.metadata.namespace === request.namespace) &&
    request.filter(object);
  let stopped = false;
  let rows = 0;

  const stop = (): void => {
    if (stopped) return;
    stopped = true;
    unsubscribe();
    clearTimeout(timeout);
    clearInterval(bookmarks);
  };
  const emit = (line: string): void => {
    if (!stopped && !sink.write(line)) stop();
  };
  const send = (type: ChangeType, stored: Stored): void => {
    if (request.form === 'object') {
      const shown = render(kind, stored);
      const json = shown === stored.object ? stored.json : JSON.stringify(shown);
      emit(`{"type":"${type}","object":${json}}\n`);
      return;
    }
    const object =
      request.form === 'metadata'
        ? partialMetadata(stored.object)
        : tableOf(kind, [render(kind, stored)], {
            metadata: { resourceVersion: stored.object.metadata.resourceVersion ?? '' },
            include: request.include,
            nowMs: clock.now(),
            columns: rows++ === 0,
          });
    emit(`${JSON.stringify({ type, object })}\n`);
  };
  const bookmark = (initialEventsEnd: boolean): void => {
    const metadata = {
      resourceVersion: String(store.rev),
      ...(initialEventsEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
    };
    const object =
      request.form === 'table'
        ? {
            ...tableOf(kind, [], {
              metadata: { resourceVersion: String(store.rev) },
              include: 'None',
              nowMs: clock.now(),
            }),
            // Tables carry the marks of a bookmark on a row of their own.
            rows: [
              {
                cells: [],
                object: { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata },
              },
            ],
          }
        : request.form === 'metadata'
          ? { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }
          : { kind: kind.kind, apiVersion: kind.apiVersion, metadata };
    emit(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
  };
  const onChange = (change: Change): void => {
    const type = seenAs(change, matches);
    if (type !== undefined) send(type, change.stored);
  };

  const unsubscribe = store.subscribe(kind.resource, onChange);
  const timeout = setTimeout(() => {
    stop();
    sink.end();
  }, request.timeoutMs);
  timeout.unref();
  const bookmarks = setInterval(() => {
    if (request.allowBookmarks) bookmark(false);
  }, BOOKMARK_EVERY_MS);
  bookmarks.unref();

  const from = startingVersion(request);
  if (from === 'state' || request.sendInitialEvents === true) {
    for (const stored of store.list(kind.resource, request.namespace))
      if (matches(stored.object)) send('ADDED', stored);
    if (request.sendInitialEvents === true) bookmark(true);
  } else if (from !== 'now') {
    const changes = store.since(kind.resource, from);
    if (typeof changes === 'string') {
      emit(`${JSON.stringify({ type: 'ERROR', object: refusal(changes, from, store).body })}\n`);
      stop();
      sink.end();
    } else for (const change of changes) onChange(change);
  }
  return stop;
}

function startingVersion(request: WatchRequest): number | 'state' | 'now' {
  const { resourceVersion, sendInitialEvents } = request;
  if (resourceVersion === undefined || resourceVersion === '' || resourceVersion === '0')
    return sendInitialEvents === false ? 'now' : 'state';
  return Number(resourceVersion);
}

/** A version that cannot be resumed from. */
export function refusal(why: 'expired' | 'future', rev: number, store: Store): StatusError {
  if (why === 'expired') return expired(`too old resource version: ${rev} (${store.compactedRev})`);
  return new StatusError(504, 'Timeout', `Too large resource version: ${rev}, current: ${store.rev}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });
}

/** An object that comes into or leaves the selection looks new or deleted to this client. */
function seenAs(change: Change, matches: (object: ApiObject) => boolean): ChangeType | undefined {
  const now = matches(change.stored.object);
  if (change.type === 'ADDED') return now ? 'ADDED' : undefined;
  // After a restart the state before the first logged change is not known: the client may have it.
  const before = change.previous === undefined || matches(change.previous.object);
  if (change.type === 'DELETED') return before ? 'DELETED' : undefined;
  if (now) return before ? 'MODIFIED' : 'ADDED';
  return before ? 'DELETED' : undefined;
}
