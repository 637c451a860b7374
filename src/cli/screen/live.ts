// Follows the access log of every ztunnel through the Kubernetes API, as `kubectl logs -f daemonset/ztunnel` would, and
// hands out the records worth showing. A restarted ztunnel or API server is followed again.

import { sleep } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import { objectKey } from '#k8s/informer.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { startInformer } from '#k8s/reflector.ts';
import { silentLogger } from '#telemetry/log.ts';
import { listZtunnels } from '../mesh-pods.ts';
import { type AccessRecord, parseAccessLine } from './access-line.ts';
import { isWorthShowing } from './connection-line.ts';

/** After a log's end. It is asked for again with some overlap in time, so no connection is missed. */
const RETRY_MS = 500;
export const OVERLAP_S = 3;

export interface FollowOptions {
  /** How far back each log is read at first; a moment unless told otherwise. */
  readonly sinceSeconds?: number | undefined;
  /** Which records are handed out; one per connection unless told otherwise. */
  readonly accept?: (record: AccessRecord) => boolean;
}

export async function followConnections(
  client: KubeClient,
  signal: AbortSignal,
  onRecord: (record: AccessRecord) => void,
  { sinceSeconds = OVERLAP_S, accept = isWorthShowing }: FollowOptions = {},
): Promise<void> {
  const followed = new Set<string>();
  /** By pod: when its newest record was logged. What a stream repeats of an earlier one is not shown again. */
  const newest = new Map<string, string>();
  const following = new Set<Promise<void>>();
  const pods = startInformer<Pod>({ client, log: silentLogger }, PODS, {
    namespace: 'istio-system',
    labelSelector: 'app=ztunnel',
  });
  const follow = (pod: Pod | undefined): void => {
    const uid = pod?.metadata.uid;
    if (uid === undefined || pod?.status?.phase !== 'Running' || followed.has(uid) || signal.aborted) return;
    followed.add(uid);
    const onNew = (record: AccessRecord): void => {
      if (record.time < (newest.get(uid) ?? '')) return;
      newest.set(uid, record.time);
      if (accept(record)) onRecord(record);
    };
    const stream = followPod(client, pod, signal, newest.has(uid) ? OVERLAP_S : sinceSeconds, onNew);
    const ended = stream.finally(() => {
      following.delete(ended);
      followed.delete(uid);
      follow(pods.get(objectKey(pod)));
    });
    following.add(ended);
  };
  pods.addHandlers({
    upsert: follow,
    remove: ({ metadata }) => void newest.delete(metadata.uid ?? ''),
  });
  if (!signal.aborted)
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  pods.close();
  await Promise.all(following);
}

async function followPod(
  client: KubeClient,
  pod: Pod,
  signal: AbortSignal,
  sinceSeconds: number,
  onRecord: (record: AccessRecord) => void,
): Promise<void> {
  const path = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}/log?follow=true&sinceSeconds=${sinceSeconds}`;
  let unfinished = '';
  try {
    for await (const text of client.stream(path, signal)) {
      const lines = (unfinished + text).split('\n');
      unfinished = lines.pop() ?? '';
      for (const line of lines) {
        const record = parseAccessLine(line);
        if (record !== undefined) onRecord(record);
      }
    }
  } catch {
    // The stream ended with its server or its pod; followConnections opens the next one.
  }
  await sleep(RETRY_MS, signal);
}

/** What the proxies have logged so far, in the order of time. */
export async function readConnections(
  client: KubeClient,
  { sinceSeconds, accept = isWorthShowing }: FollowOptions,
): Promise<AccessRecord[]> {
  const records: AccessRecord[] = [];
  await Promise.all(
    (await listZtunnels(client)).map(async ({ metadata }) => {
      const since = sinceSeconds === undefined ? '' : `?sinceSeconds=${sinceSeconds}`;
      const path = `/api/v1/namespaces/${metadata.namespace}/pods/${metadata.name}/log${since}`;
      let unfinished = '';
      for await (const text of client.stream(path)) {
        const lines = (unfinished + text).split('\n');
        unfinished = lines.pop() ?? '';
        for (const line of lines) {
          const record = parseAccessLine(line);
          if (record !== undefined && accept(record)) records.push(record);
        }
      }
    }),
  );
  return records.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
}
