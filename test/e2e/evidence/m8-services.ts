import assert from 'node:assert/strict';
import { SERVICE_ENTRIES } from '#k8s/mesh-objects.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { parseIp } from '#net/ip.ts';
import { until } from '../harness.ts';
import { type Evidence, runInPod, waitForRecord } from './evidence.ts';
import { showServiceKinds } from './service-kinds.ts';

/** Names that Kubernetes does not know: pods that have another service, too; an endpoint known by name only. */
const ENTRIES = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: goods, namespace: shop }
spec:
  hosts: [goods.example.com]
  resolution: STATIC
  workloadSelector: { labels: { app: catalog } }
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: goods-by-name, namespace: shop }
spec:
  hosts: [by-name.example.com]
  resolution: DNS
  endpoints: [{ address: catalog.shop.svc.cluster.local }]
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }]
`;

const SCRIPT = `
const ask = async (name) => {
  const { lookup } = require('node:dns').promises;
  let seen = 'nothing';
  for (const until = Date.now() + 15_000; Date.now() < until; ) {
    try {
      const { address } = await lookup(name, { family: 4 });
      const answer = await fetch('http://' + name + '/', { signal: AbortSignal.timeout(2000) });
      seen = address + ' ' + answer.status;
      await answer.text();
      if (answer.ok) break;
    } catch (error) {
      seen = String(error.code ?? error.cause?.code ?? error);
    }
    await new Promise((r) => setTimeout(r, 200));
  }
  return seen;
};
(async () => {
  console.log(await ask('goods.example.com'));
  console.log(await ask('by-name.example.com'));
})();`;

const POOL = parseCidr('240.240.0.0/16')!;

export const evidence: Evidence = {
  id: 'M8',
  title:
    'every kind of service is served; a ServiceEntry for a name that Kubernetes does not know is given addresses and resolved',
  async show(mesh, say) {
    const since = new Date().toISOString();
    await mesh.apply(ENTRIES);
    try {
      let addresses: readonly { value: string; host?: string }[] = [];
      await until(async () => {
        const entry = await mesh.client.get(SERVICE_ENTRIES, 'goods', 'shop');
        addresses = entry.status?.addresses ?? [];
        return addresses.length === 2;
      }, 'addresses in the status of ServiceEntry goods');
      const v4 = addresses.map(({ value }) => value).find((value) => value.includes('.'));
      const ip = v4 === undefined ? undefined : parseIp(v4);
      assert.ok(ip !== undefined && cidrContains(POOL, ip), JSON.stringify(addresses));
      say(`goods.example.com was given ${addresses.map(({ value }) => value).join(' and ')}`);

      const output = await runInPod(mesh, {
        name: 'm8-asker',
        namespace: 'shop',
        node: 'n1',
        script: SCRIPT,
      });
      const [bySelector, byName] = output.trim().split('\n');
      assert.equal(bySelector, `${ip} 200`);
      say('a pod that asks for it is answered by the pods that the ServiceEntry selects');
      const record = await waitForRecord(
        mesh,
        'n1',
        since,
        'the call of goods.example.com',
        (fields) => fields.get('dst.service') === 'goods.example.com',
      );
      assert.match(record.fields.get('dst.identity') ?? '', /\/ns\/shop\/sa\/catalog$/);
      say(`in the tunnel, to ${record.fields.get('dst.identity')}`);
      assert.match(byName ?? '', / 200$/, 'an endpoint that is a name was not looked up');
      const lookedUp = await waitForRecord(
        mesh,
        'n1',
        since,
        'the call of by-name.example.com',
        (fields) => fields.get('dst.service') === 'by-name.example.com' && !fields.has('error'),
      );
      say(`an endpoint known by name only was looked up, and dialled as ${lookedUp.fields.get('dst.addr')}`);
    } finally {
      for (const name of ['goods', 'goods-by-name'])
        await mesh.client.delete(SERVICE_ENTRIES, name, { namespace: 'shop' });
    }
    await showServiceKinds(mesh, say);
  },
};
