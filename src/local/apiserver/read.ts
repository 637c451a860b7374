// Reading over HTTP: lists, watches, single objects, in the form the client asked for.

import { acceptedForm } from './accept.ts';
import { type ApiAnswer, type ApiRequest, json } from './exchange.ts';
import type { Kind } from './kind.ts';
import { chunkOf } from './list-chunk.ts';
import type { JsonObject } from './object.ts';
import { type ObjectsDeps, render } from './objects.ts';
import { selectorFilter } from './selectors.ts';
import { badRequest } from './status.ts';
import type { Stored } from './store.ts';
import { type IncludeObject, partialMetadata, tableOf } from './table.ts';
import { refusal, startWatch } from './watch.ts';

const MIN_WATCH_MS = 1_800_000;

export function selected(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  request: ApiRequest,
): Stored[] {
  const filter = selectorFilter(kind, request.query);
  return deps.store.list(kind.resource, namespace).filter(({ object }) => filter(object));
}

export const listOf = (deps: ObjectsDeps, kind: Kind, stored: readonly Stored[]): JsonObject => ({
  kind: kind.listKind,
  apiVersion: kind.apiVersion,
  metadata: { resourceVersion: String(deps.store.rev) },
  items: stored.map((each) => render(kind, each)),
});

export function list(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  request: ApiRequest,
): ApiAnswer {
  const { items: chosen, metadata } = chunkOf(deps, kind, namespace, request.query);
  switch (acceptedForm(request.accept).form) {
    case 'table':
      return json(
        200,
        tableOf(
          kind,
          chosen.map((each) => render(kind, each)),
          {
            metadata,
            include: includeOf(request),
            nowMs: deps.clock.now(),
          },
        ),
      );
    case 'metadata':
      return json(200, {
        kind: 'PartialObjectMetadataList',
        apiVersion: 'meta.k8s.io/v1',
        metadata,
        items: chosen.map(({ object }) => partialMetadata(object)),
      });
    case 'object': {
      const items = chosen.map((each) => {
        const shown = render(kind, each);
        return shown === each.object ? each.json : JSON.stringify(shown);
      });
      const head = JSON.stringify({
        kind: kind.listKind,
        apiVersion: kind.apiVersion,
        metadata,
      });
      return { kind: 'json', code: 200, text: `${head.slice(0, -1)},"items":[${items.join(',')}]}` };
    }
  }
}

export function watch(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  request: ApiRequest,
): ApiAnswer {
  const { query } = request;
  const initial = query.get('sendInitialEvents');
  const sendInitialEvents = initial === null ? undefined : isTrue(initial);
  const match = query.get('resourceVersionMatch');
  if (sendInitialEvents !== undefined && match !== 'NotOlderThan')
    throw badRequest('sendInitialEvents needs resourceVersionMatch=NotOlderThan');
  if (sendInitialEvents === undefined && match !== null)
    throw badRequest('resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided');
  const resourceVersion = query.get('resourceVersion') ?? undefined;
  if (resourceVersion !== undefined && resourceVersion !== '' && !/^\d{1,15}$/.test(resourceVersion))
    throw badRequest(`invalid resource version ${JSON.stringify(resourceVersion)}`);
  if (Number(resourceVersion ?? 0) > deps.store.rev)
    throw refusal('future', Number(resourceVersion), deps.store);
  const seconds = Number(query.get('timeoutSeconds') ?? 0);
  if (!(seconds >= 0))
    throw badRequest(
      `timeoutSeconds must be a number of seconds, not ${JSON.stringify(query.get('timeoutSeconds'))}`,
    );
  const filter = selectorFilter(kind, query);
  return {
    kind: 'watch',
    start: (sink) =>
      startWatch(
        deps,
        {
          kind,
          namespace,
          filter,
          form: acceptedForm(request.accept).form,
          include: includeOf(request),
          resourceVersion,
          sendInitialEvents,
          allowBookmarks: isTrue(query.get('allowWatchBookmarks')),
          // Spread, so that clients of one moment do not all come back at one moment.
          timeoutMs: seconds > 0 ? Math.min(seconds, 86_400) * 1000 : MIN_WATCH_MS * (1 + deps.random()),
        },
        sink,
      ),
  };
}

export function single(
  deps: ObjectsDeps,
  kind: Kind,
  stored: Stored,
  request: ApiRequest,
  code = 200,
  warnings: readonly string[] = [],
): ApiAnswer {
  const shown = render(kind, stored);
  switch (acceptedForm(request.accept).form) {
    case 'table':
      return json(
        code,
        tableOf(kind, [shown], {
          metadata: { resourceVersion: shown.metadata.resourceVersion ?? '' },
          include: includeOf(request),
          nowMs: deps.clock.now(),
        }),
        warnings,
      );
    case 'metadata':
      return json(code, partialMetadata(shown), warnings);
    case 'object':
      return shown === stored.object
        ? { kind: 'json', code, text: stored.json, warnings }
        : json(code, shown, warnings);
  }
}

function includeOf(request: ApiRequest): IncludeObject {
  const include = request.query.get('includeObject') ?? '';
  if (include === 'None' || include === 'Object') return include;
  if (include === '' || include === 'Metadata') return 'Metadata';
  throw badRequest(`includeObject must be one of None, Metadata, Object, not ${JSON.stringify(include)}`);
}

export const isTrue = (value: string | null): boolean => value === 'true' || value === '1';
