// Part of R6: pods of the mesh's namespace that are captured in part or not at all, by their own word. Runs under STRICT.

import assert from 'node:assert/strict';
import { formatHostPort } from '#net/host-port.ts';
import type { Mesh } from '../harness.ts';
import { getScript, runInPod } from './evidence.ts';
import { type ServerPod, withServerPods } from './server-pod.ts';

const REDIRECTION = 'ambient.istio.io/redirection';

const pod = (name: string, more: Partial<ServerPod>): ServerPod => ({
  name,
  namespace: 'shop',
  node: 'n2',
  port: 18_081,
  ...more,
});

const SERVERS: readonly ServerPod[] = [
  pod('on-the-node', { hostNetwork: true }),
  pod('stays-out', { labels: { 'istio.io/dataplane-mode': 'none' } }),
  pod('open-inbound', { annotations: { 'ambient.istio.io/bypass-inbound-capture': 'true' } }),
];

/** Enrolled is only the last: what it sends is captured, what it is sent is not. */
const IN_THE_MESH = [undefined, undefined, 'enabled'];

export async function showUncapturedPods(mesh: Mesh, say: (text: string) => void): Promise<void> {
  await withServerPods(mesh, SERVERS, async (pods) => {
    const urls = pods.map(({ status }) => `http://${formatHostPort(status?.podIP ?? '', 18_081)}/`);
    const answers = await runInPod(mesh, {
      name: 'outsider-of-all',
      namespace: 'default',
      node: 'n1',
      script: urls.map(getScript).join(';'),
    });
    assert.deepEqual(answers.trim().split('\n').sort(), SERVERS.map(({ name }) => `200 ${name}`).sort());
    assert.deepEqual(
      pods.map(({ metadata }) => metadata.annotations?.[REDIRECTION]),
      IN_THE_MESH,
    );
  });
  say(
    'in the same namespace a pod of the host network, one with istio.io/dataplane-mode=none and one with bypass-inbound-capture are answered: nothing of what they are sent is captured',
  );
}
