// Follows the access log of every ztunnel through the Kubernetes API, as `kubectl logs -f daemonset/ztunnel` would, and
// hands out the records worth showing. A restarted ztunnel or API server is followed again.

import { sleep } from '#base/clock.ts';
import type { KubeClient } from '#k8s/client.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { type AccessRecord, parseAccessLine } from './access-line.ts';
import { isWorthShowing } from './connection-line.ts';

const RETRY_MS = 500;

export async function followConnections(
  client: KubeClient,
  signal: AbortSignal,
  onRecord: (record: AccessRecord) => void,
): Promise<void> {
  const followed = new Set<string>();
  const following: Promise<void>[] = [];
  while (!signal.aborted) {
    for (const pod of await ztunnelPods(client)) {
      const uid = pod.metadata.uid ?? pod.metadata.name;
      if (followed.has(uid)) continue;
      followed.add(uid);
      following.push(followPod(client, pod, signal, onRecord).finally(() => followed.delete(uid)));
    }
    await sleep(RETRY_MS, signal);
  }
  await Promise.all(following);
}

async function ztunnelPods(client: KubeClient): Promise<readonly Pod[]> {
  try {
    const { items } = await client.list(PODS, { namespace: 'istio-system', labelSelector: 'app=ztunnel' });
    return items.filter((pod) => pod.status?.phase === 'Running');
  } catch {
    // The API server is away for a moment; the next round asks again.
    return [];
  }
}

async function followPod(
  client: KubeClient,
  pod: Pod,
  signal: AbortSignal,
  onRecord: (record: AccessRecord) => void,
): Promise<void> {
  const path = `/api/v1/namespaces/${pod.metadata.namespace}/pods/${pod.metadata.name}/log?follow=true&sinceSeconds=1`;
  let unfinished = '';
  try {
    for await (const text of client.stream(path, signal)) {
      const lines = (unfinished + text).split('\n');
      unfinished = lines.pop() ?? '';
      for (const line of lines) {
        const record = parseAccessLine(line);
        if (record !== undefined && isWorthShowing(record)) onRecord(record);
      }
    }
  } catch {
    // The stream ended with its server; followConnections opens the next one.
  }
  await sleep(RETRY_MS, signal);
}
