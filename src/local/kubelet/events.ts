// Kubernetes Events about pods, nodes, services and policies, as `kubectl describe` shows them. Repeated ones are counted, not written again each time.

import type { Clock } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { EVENTS, type KubeObject, type Resource } from '#k8s/objects.ts';
import { groupVersionOf } from '#k8s/path.ts';
import type { Logger } from '#telemetry/log.ts';

export interface EventSink {
  record(object: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void;
}

interface Held {
  readonly name: string;
  count: number;
  writtenAtMs: number;
}

/** A repeated event is counted at most so often. */
const REPEAT_MS = 10_000;
const MAX_HELD = 500;

export interface EventSource {
  /** `kubelet`, `default-scheduler`. */
  readonly component: string;
  /** The node it speaks for, if any. */
  readonly host?: string;
}

/** Events about objects of one kind. */
export function createEvents(
  deps: { readonly client: KubeClient; readonly log: Logger; readonly clock: Clock },
  source: EventSource,
  resource: Resource,
): EventSink {
  const { client, log, clock } = deps;
  const held = new Map<string, Held>();
  let sequence = 0;

  const failed = (error: unknown): void =>
    log.debug('an event could not be written', { error: reasonOf(error) });

  return {
    record(object, type, reason, message) {
      // Those of objects without a namespace are kept in `default`.
      const { namespace = 'default', name, uid = '' } = object.metadata;
      const key = `${uid} ${reason} ${message}`;
      const now = clock.now();
      const timestamp = new Date(now).toISOString();
      const known = held.get(key);
      if (known !== undefined) {
        known.count++;
        if (now - known.writtenAtMs < REPEAT_MS) return;
        known.writtenAtMs = now;
        const body = { count: known.count, lastTimestamp: timestamp };
        client.patch(EVENTS, known.name, 'merge', body, { namespace }).catch(failed);
        return;
      }
      if (held.size >= MAX_HELD) held.delete(held.keys().next().value as string);
      const eventName = `${name}.${now.toString(16)}${(sequence++).toString(16)}`;
      held.set(key, { name: eventName, count: 1, writtenAtMs: now });
      const event: KubeObject & Record<string, unknown> = {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: eventName, namespace },
        involvedObject: {
          kind: resource.kind,
          ...(resource.namespaced ? { namespace } : {}),
          name,
          uid,
          apiVersion: groupVersionOf(resource),
        },
        reason,
        message,
        type,
        count: 1,
        firstTimestamp: timestamp,
        lastTimestamp: timestamp,
        source,
        reportingComponent: source.component,
        reportingInstance: source.host ?? '',
      };
      client.create<KubeObject>(EVENTS, event, namespace).catch(failed);
    },
  };
}
