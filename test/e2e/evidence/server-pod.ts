// Pods that answer every HTTP request with their own name, for as long as something is shown.

import { PODS, type Pod } from '#k8s/objects.ts';
import { isReady } from '../../../src/cli/screen/map.ts';
import { type Mesh, until } from '../harness.ts';

export interface ServerPod {
  readonly name: string;
  readonly namespace: string;
  readonly node: string;
  readonly port: number;
  readonly hostNetwork?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

function manifest({ name, namespace, node, port, hostNetwork = false, labels, annotations }: ServerPod) {
  const script = `require('node:http').createServer((_, r) => r.end('${name}')).listen(${port}, '::')`;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name, ...labels }, annotations: { ...annotations } },
    spec: {
      hostNetwork,
      nodeSelector: { 'kubernetes.io/hostname': node },
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'server',
          image: 'local/shell',
          command: [process.execPath, '-e', script],
          ports: [{ name: 'answers', containerPort: port }],
          readinessProbe: { tcpSocket: { port }, periodSeconds: 1 },
        },
      ],
    },
  };
}

/** Removes them afterwards, also when `work` fails. */
export async function withServerPods(
  mesh: Mesh,
  servers: readonly ServerPod[],
  work: (pods: readonly Pod[]) => Promise<void>,
): Promise<void> {
  await mesh.apply(JSON.stringify({ apiVersion: 'v1', kind: 'List', items: servers.map(manifest) }));
  try {
    let pods: Pod[] = [];
    await until(
      async () => {
        pods = await Promise.all(
          servers.map(({ name, namespace }) => mesh.client.get(PODS, name, namespace)),
        );
        return pods.every(isReady);
      },
      `the servers ${servers.map(({ name }) => name).join(', ')} to be ready`,
    );
    await work(pods);
  } finally {
    for (const { name, namespace } of servers)
      await mesh.client.delete(PODS, name, { namespace, gracePeriodSeconds: 0 });
  }
}
