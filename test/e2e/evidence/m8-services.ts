import assert from 'node:assert/strict';
import { SERVICE_ENTRIES } from '#k8s/mesh-objects.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { parseIp } from '#net/ip.ts';
import { until } from '../harness.ts';
import { type Evidence, runInPod, waitForRecord } from './evidence.ts';

/** Two names that Kubernetes does not know: one served by pods, one by what another name stands for. */
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
metadata: { name: mirror, namespace: shop }
spec:
  hosts: [mirror.example.com]
  resolution: DNS
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }]
  endpoints: [{ address: catalog.shop.svc.cluster.local }]
`;

const SCRIPT = `
(async () => {
  const { lookup } = require('node:dns').promises;
  for (const host of ['goods.example.com', 'mirror.example.com']) {
    let seen = 'nothing';
    for (let round = 0; round < 150; round++) {
      try {
        const { address } = await lookup(host, { family: 4 });
        const answer = await fetch('http://' + host + '/', { signal: AbortSignal.timeout(2000) });
        seen = address + ' ' + answer.status;
        if (answer.ok) break;
      } catch (error) {
        seen = String(error.code ?? error.cause?.code ?? error);
      }
      await new Promise((r) => setTimeout(r, 200));
    }
    console.log(host + ' ' + seen);
  }
})();`;

const POOL = parseCidr('240.240.0.0/16')!;

export const evidence: Evidence = {
  id: 'M8',
  title: 'names that Kubernetes does not know: ServiceEntries are given addresses, resolved, and served',
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
      const [goods = '', mirror = ''] = output.trim().split('\n');
      assert.equal(goods, `goods.example.com ${ip} 200`, output);
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
      assert.match(mirror, /^mirror\.example\.com 240\.240\.\d+\.\d+ 200$/, output);
      say('mirror.example.com is looked up as catalog.shop.svc.cluster.local, and reached');
    } finally {
      for (const name of ['goods', 'mirror'])
        await mesh.client.delete(SERVICE_ENTRIES, name, { namespace: 'shop' });
    }
  },
};
