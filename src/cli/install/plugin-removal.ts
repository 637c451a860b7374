// Before the CNI agents go, their plugin must go from the nodes' CNI chain: it fails closed, and without an agent no new
// pod could start. The agents take it out when they end, if they are told so beforehand.

import type { KubeClient } from '#k8s/client.ts';
import { DAEMON_SETS, type KubeObject } from '#k8s/objects.ts';
import { type WaitOptions, waitUntilReady } from './readiness.ts';
import type { Workload } from './render.ts';

const AGENT = 'istio-cni-node';

/** For the agent's DaemonSet: every agent will take its plugin out when it ends. Nothing for other objects. */
export async function prepareAgentRemoval(
  client: KubeClient,
  object: KubeObject,
  wait: WaitOptions,
): Promise<void> {
  const { name, namespace = '' } = object.metadata;
  if (object.kind !== 'DaemonSet' || name !== AGENT) return;
  const agent = object as Workload;
  const told = await client.patch(
    DAEMON_SETS,
    name,
    'strategic',
    {
      spec: {
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '100%' } },
        template: {
          spec: {
            containers: agent.spec.template.spec.containers.map((container) => ({
              name: container.name,
              env: [{ name: 'CULVERT_CNI_REMOVE_ON_EXIT', value: 'true' }],
            })),
          },
        },
      },
    },
    { namespace, fieldManager: 'culvert-install' },
  );
  await waitUntilReady(client, [told], wait);
}
