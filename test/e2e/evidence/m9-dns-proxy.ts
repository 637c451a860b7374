import assert from 'node:assert/strict';
import { SERVICES } from '#k8s/objects.ts';
import { type Evidence, fetchInZtunnel, runInPod } from './evidence.ts';

const HEADLESS = `
apiVersion: v1
kind: Service
metadata: { name: catalog-each, namespace: shop }
spec: { clusterIP: None, selector: { app: catalog }, ports: [{ name: tcp, port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: outside, namespace: shop }
spec: { type: ExternalName, externalName: www.example.org }
`;

/** The cluster's own DNS server says 5 seconds: whose answer it was shows in the TTL. */
const ZTUNNEL_TTL_S = 30;

const SCRIPT = `
const dns = require('node:dns').promises;
const ask = async (what, run) => console.log(what + ' ' + JSON.stringify(await run().catch((e) => e.code)));
(async () => {
  for (let round = 0; round < 100; round++) {
    const each = await dns.resolve4('catalog-each.shop.svc.cluster.local', { ttl: true }).catch(() => []);
    if (each[0]?.ttl === ${ZTUNNEL_TTL_S}) break;
    await new Promise((r) => setTimeout(r, 200));
  }
  await ask('service', () => dns.resolve4('catalog.shop.svc.cluster.local', { ttl: true }));
  await ask('lookup', () => dns.lookup('catalog', { family: 4 }));
  await ask('headless', () => dns.resolve4('catalog-each.shop.svc.cluster.local', { ttl: true }));
  await ask('no-ipv6', () => dns.resolve6('catalog.shop.svc.cluster.local'));
  await ask('forwarded', () => dns.resolveCname('outside.shop.svc.cluster.local'));
  await ask('nowhere', () => dns.resolve4('nowhere.example.org'));
})();`;

export const evidence: Evidence = {
  id: 'M9',
  title:
    "a captured pod's DNS is answered by its node's ztunnel, and by the cluster's server for other names",
  async show(mesh, say) {
    await mesh.apply(HEADLESS);
    try {
      const catalog = await mesh.client.get(SERVICES, 'catalog', 'shop');
      const output = await runInPod(mesh, {
        name: 'm9-asker',
        namespace: 'shop',
        node: 'n1',
        script: SCRIPT,
      });
      const answers = new Map(
        output
          .trim()
          .split('\n')
          .map(
            (line) => [line.slice(0, line.indexOf(' ')), JSON.parse(line.slice(line.indexOf(' ')))] as const,
          ),
      );
      const address = catalog.spec.clusterIP;
      assert.deepEqual(answers.get('service'), [{ address, ttl: ZTUNNEL_TTL_S }], output);
      say(
        `catalog.shop: ${address}, for ${ZTUNNEL_TTL_S} s: ztunnel's answer (the cluster's own server says 5 s)`,
      );
      assert.deepEqual(answers.get('lookup'), { address, family: 4 });
      const each = answers.get('headless') as { address: string; ttl: number }[];
      assert.ok(each.length > 0 && each.every(({ ttl }) => ttl === ZTUNNEL_TTL_S), output);
      say(`headless: the endpoints themselves, ${each.map((one) => one.address).join(', ')}`);
      assert.equal(answers.get('no-ipv6'), 'ENODATA');
      assert.deepEqual(answers.get('forwarded'), ['www.example.org']);
      say('an ExternalName service is unknown to ztunnel: forwarded, CNAME www.example.org');
      assert.equal(answers.get('nowhere'), 'ENOTFOUND');
      say('nowhere.example.org: forwarded, NXDOMAIN');
      const metrics = await fetchInZtunnel(mesh, 'n1', 'http://127.0.0.1:15020/metrics');
      const count = (family: string): number =>
        metrics
          .split('\n')
          .filter((line) => line.startsWith(`${family}{`) && line.includes('"m9-asker"'))
          .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
      const [all, forwarded] = [
        count('istio_dns_requests_total'),
        count('istio_dns_upstream_requests_total'),
      ];
      assert.ok(forwarded >= 2 && all > forwarded, metrics);
      say(`counted for m9-asker: ${all} queries, ${forwarded} of them forwarded`);
    } finally {
      for (const name of ['catalog-each', 'outside'])
        await mesh.client.delete(SERVICES, name, { namespace: 'shop' });
    }
  },
};
