// The body of a watch: chunks of newline-delimited JSON in, typed events out.

import { MeshError } from '#base/errors.ts';
import type { WatchEvent } from './client.ts';
import { JsonLinesDecoder } from './json-lines.ts';
import type { KubeObject, Resource } from './objects.ts';
import { groupVersionOf } from './path.ts';
import { statusError } from './status.ts';

const INITIAL_EVENTS_END = 'k8s.io/initial-events-end';

/** Ends with the chunks. An `ERROR` event is thrown as API_STATUS, a broken stream as API_UNREACHABLE. */
export async function* decodeWatchStream<T extends KubeObject>(
  chunks: AsyncIterable<Uint8Array>,
  resource: Resource<T>,
): AsyncGenerator<WatchEvent<T>> {
  const decoder = new JsonLinesDecoder();
  for await (const chunk of chunks) yield* eventsOf((values) => decoder.push(chunk, values), resource);
  yield* eventsOf((values) => values.push(...decoder.end()), resource);
}

/** What came before a line that cannot be read has happened nevertheless. */
function* eventsOf<T extends KubeObject>(
  read: (values: unknown[]) => void,
  resource: Resource<T>,
): Generator<WatchEvent<T>> {
  const values: unknown[] = [];
  let failure: unknown;
  try {
    read(values);
  } catch (error) {
    failure = MeshError.from(error, 'API_UNREACHABLE', `the watch of ${resource.plural} is broken`);
  }
  for (const value of values) yield watchEvent(value, resource);
  if (failure !== undefined) throw failure;
}

/** One line of the stream as an event. */
function watchEvent<T extends KubeObject>(value: unknown, resource: Resource<T>): WatchEvent<T> {
  const { type, object } = (value ?? {}) as { type?: unknown; object?: T };
  if (typeof object !== 'object' || object === null) throw unknownEvent(value, resource);
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      if (typeof object.metadata?.name !== 'string') throw unknownEvent(value, resource);
      object.apiVersion ??= groupVersionOf(resource);
      object.kind ??= resource.kind;
      return { type, object };
    case 'BOOKMARK':
      return {
        type,
        resourceVersion: object.metadata?.resourceVersion ?? '',
        initialEventsEnd: object.metadata?.annotations?.[INITIAL_EVENTS_END] === 'true',
      };
    case 'ERROR':
      throw statusError(500, object, `the watch of ${resource.plural}`);
    default:
      throw unknownEvent(value, resource);
  }
}

const unknownEvent = (value: unknown, resource: Resource): MeshError =>
  new MeshError(
    'API_UNREACHABLE',
    `the watch of ${resource.plural} carried no event: ${JSON.stringify(value)?.slice(0, 120)}`,
  );
