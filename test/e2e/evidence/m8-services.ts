import assert from 'node:assert/strict';
import { SERVICE_ENTRIES } from '#k8s/mesh-objects.ts';
import { cidrContains, parseCidr } from '#net/cidr.ts';
import { parseIp } from '#net/ip.ts';
import { until } from '../harness.ts';
import { type Evidence, runInPod, waitForRecord } from './evidence.ts';

/** A name that Kubernetes does not know, served by pods that have another service, too. */
const ENTRY = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: goods, namespace: shop }
spec:
  hosts: [goods.example.com]
  resolution: STATIC
  workloadSelector: { labels: { app: catalog } }
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: 8080 }]
`;

const SCRIPT = `
(async () => {
  const { lookup } = require('node:dns').promises;
  let seen = 'nothing';
  for (const until = Date.now() + 15_000; Date.now() < until; ) {
    try {
      const { address } = await lookup('goods.example.com', { family: 4 });
      const answer = await fetch('http://goods.example.com/', { signal: AbortSignal.timeout(2000) });
      seen = address + ' ' + answer.status;
      await answer.text();
      if (answer.ok) break;
    } catch (error) {
      seen = String(error.code ?? error.cause?.code ?? error);
    }
    await new Promise((r) => setTimeout(r, 200));
  }
  console.log(seen);
})();`;

const POOL = parseCidr('240.240.0.0/16')!;

export const evidence: Evidence = {
  id: 'M8',
  title: 'a name that Kubernetes does not know: a ServiceEntry is given addresses, resolved, and served',
  async show(mesh, say) {
    const since = new Date().toISOString();
    await mesh.apply(ENTRY);
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
      assert.equal(output.trim(), `${ip} 200`);
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
    } finally {
      await mesh.client.delete(SERVICE_ENTRIES, 'goods', { namespace: 'shop' });
    }
  },
};
