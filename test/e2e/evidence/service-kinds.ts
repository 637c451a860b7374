// Part of M8: one request to each kind of service, and to what stands outside the mesh behind a WorkloadEntry.

import assert from 'node:assert/strict';
import { SERVICE_ENTRIES, WORKLOAD_ENTRIES } from '#k8s/mesh-objects.ts';
import { SERVICES } from '#k8s/objects.ts';
import type { Mesh } from '../harness.ts';
import { now, runInPod, waitForRecord } from './evidence.ts';
import { withServerPods } from './server-pod.ts';

const HOST_PORT = 18_080;

const SERVERS = [
  { name: 'server', namespace: 'shop', node: 'n2', port: 8080 },
  { name: 'old-machine', namespace: 'default', node: 'n2', port: HOST_PORT, hostNetwork: true },
];

const services = (nodeAddress: string): string => `
apiVersion: v1
kind: Service
metadata: { name: by-port-name, namespace: shop }
spec: { selector: { app: server }, ports: [{ port: 80, targetPort: answers }] }
---
apiVersion: v1
kind: Service
metadata: { name: headless, namespace: shop }
spec: { clusterIP: None, selector: { app: server }, ports: [{ port: 8080 }] }
---
apiVersion: v1
kind: Service
metadata: { name: alias, namespace: shop }
spec: { type: ExternalName, externalName: by-port-name.shop.svc.cluster.local }
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: old-machine, namespace: shop }
spec: { address: "${nodeAddress}", labels: { app: old-machine } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: old-machine, namespace: shop }
spec:
  hosts: [old-machine.example.com]
  addresses: ["240.0.7.7", "fd00:240::7:7"]
  resolution: STATIC
  workloadSelector: { labels: { app: old-machine } }
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: ${HOST_PORT} }]
`;

/** What is asked, who answers, and the service that the access log of the caller's node names. */
const KINDS = [
  ['by-port-name.shop:80', 'server', 'by-port-name.shop.svc.cluster.local', 'a port by its name'],
  ['headless.shop:8080', 'server', undefined, 'a headless service'],
  ['alias.shop:80', 'server', 'by-port-name.shop.svc.cluster.local', 'an ExternalName'],
  ['old-machine.example.com:80', 'old-machine', 'old-machine.example.com', 'a WorkloadEntry'],
] as const;

const SCRIPT = `
const ask = async (url) => {
  let seen = 'nothing';
  for (const until = Date.now() + 20_000; Date.now() < until; await new Promise((r) => setTimeout(r, 200))) {
    try {
      return await (await fetch(url, { signal: AbortSignal.timeout(2000) })).text();
    } catch (error) {
      seen = 'error ' + (error.cause?.code ?? error.name);
    }
  }
  return seen;
};
Promise.all(${JSON.stringify(KINDS.map(([url]) => `http://${url}/`))}.map(ask)).then((all) => console.log(all.join('\\n')));`;

export async function showServiceKinds(mesh: Mesh, say: (text: string) => void): Promise<void> {
  await withServerPods(mesh, SERVERS, async ([, oldMachine]) => {
    await mesh.apply(services(oldMachine?.status?.hostIP ?? ''));
    try {
      await showEach(mesh, say);
    } finally {
      for (const name of ['by-port-name', 'headless', 'alias'])
        await mesh.client.delete(SERVICES, name, { namespace: 'shop' });
      await mesh.client.delete(WORKLOAD_ENTRIES, 'old-machine', { namespace: 'shop' });
      await mesh.client.delete(SERVICE_ENTRIES, 'old-machine', { namespace: 'shop' });
    }
  });
}

async function showEach(mesh: Mesh, say: (text: string) => void): Promise<void> {
  const since = now();
  const output = await runInPod(mesh, { name: 'm8-kinds', namespace: 'shop', node: 'n1', script: SCRIPT });
  const answers = output.trim().split('\n');
  for (const [index, [asked, server, service, kind]] of KINDS.entries()) {
    assert.equal(answers[index], server, `${kind}: http://${asked}/`);
    const inTunnel = server === 'server';
    const { fields } = await waitForRecord(
      mesh,
      'n1',
      since,
      `the call of ${asked}`,
      (fields) =>
        fields.get('dst.service') === service &&
        !fields.has('error') &&
        (fields.get('dst.identity') ?? '').endsWith('/ns/shop/sa/default') === inTunnel,
    );
    if (!inTunnel) assert.match(fields.get('dst.addr') ?? '', new RegExp(`:${HOST_PORT}$`));
    say(
      `${kind}: ${asked} is answered ${inTunnel ? 'in the tunnel' : 'in plaintext, as it is outside the mesh'}`,
    );
  }
}
