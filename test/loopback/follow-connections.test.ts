// Following the access logs of all node proxies: new pods are found, a log that ended is opened again, nothing is told twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { followConnections } from '#cli/screen/live.ts';
import { NAMESPACES, PODS, type Pod } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { until } from '../lib/until.ts';
import { withApiServer } from './apiserver-rig.ts';

const proxy = (name: string, app = 'ztunnel'): Pod =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'istio-system', labels: { app } },
    spec: { containers: [{ name: 'istio-proxy', image: 'local/ztunnel' }] },
  }) as Pod;

const line = (time: string): string =>
  `2026-01-01T00:00:${time}.000000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.2:40000 direction="inbound"\n`;

test('logs of proxies that come later are followed, and an ended log is opened again without repeating itself', async (t) => {
  const opened: string[] = [];
  const logs = {
    async *open(
      { metadata: { name } }: Pod,
      _container: string,
      { signal }: { readonly signal: AbortSignal },
    ) {
      opened.push(name);
      const times = { early: ['01', '02'], late: ['05'], other: ['09'] }[name] ?? [];
      // The second time the log begins with its last line, as the overlap has it.
      const again = opened.filter((each) => each === name).length > 1;
      for (const time of again ? [...times.slice(-1), '07'] : times) yield Buffer.from(line(time));
      if (name === 'early' && !again) return;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    },
  };
  await withApiServer(
    async ({ server, url }) => {
      const client = createRestClient({
        server: url,
        connect: () => server.connect('t', ['system:masters']),
      });
      t.after(() => client.close());
      await client.create(NAMESPACES, {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: 'istio-system' },
      });
      const run = async (pod: Pod): Promise<void> => {
        const made = await client.create(PODS, pod);
        await client.updateStatus(PODS, { ...made, status: { ...made.status, phase: 'Running' } });
      };
      const ending = new AbortController();
      const times: string[] = [];
      await run(proxy('early'));
      await client.create(PODS, proxy('waiting'));
      const following = followConnections(
        client,
        ending.signal,
        ({ time }) => times.push(time.slice(17, 19)),
        { accept: () => true },
      );
      // A line at the very moment of the newest one may be another connection: it is told again rather than lost.
      await until('four lines', () => times.length >= 4);
      assert.deepEqual(times, ['01', '02', '02', '07']);
      await run(proxy('other', 'waypoint'));
      await run(proxy('late'));
      await until('a fifth', () => times.length >= 5);
      assert.deepEqual(times.slice(4), ['05']);
      ending.abort();
      await following;
      assert.deepEqual(opened, ['early', 'early', 'late']);
    },
    { podLogs: logs },
  );
});
