// The same over IPv6 (part of R6): enrolled pods speak HBONE to an IPv6 address and through a service that has one; a pod outside the
// mesh gets its plaintext refused there as well.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type Pod, SERVICES } from '#k8s/objects.ts';
import { type Mesh, until } from '../harness.ts';
import { getScript, now, runInPod, startsWith, waitForRecord } from './evidence.ts';

const DUAL_SERVICE = `
apiVersion: v1
kind: Service
metadata: { name: catalog-dual, namespace: shop }
spec:
  ipFamilyPolicy: RequireDualStack
  selector: { app: catalog }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
`;

/** The pod's IPv6 address beside the one that counts; undefined only where the kernel or the cluster has one family. */
export function secondAddress(pod: Pod): string | undefined {
  const [first, second] = (pod.status?.podIPs ?? []).map(({ ip }) => ip);
  if (first?.includes(':') === true) return undefined; // a cluster with IPv6 alone
  assert.equal(
    second?.includes(':') === true,
    existsSync('/proc/sys/net/ipv6/conf'),
    'a new cluster has both families',
  );
  return second;
}

/** What a pod outside the mesh gets from the address. */
export const askFromOutside = (mesh: Mesh, address: string): Promise<string> =>
  runInPod(mesh, {
    name: 'outsider6',
    namespace: 'default',
    node: 'n1',
    script: getScript(`http://[${address}]:8080/`),
  });

/** Under STRICT. */
export async function showSecondFamily(
  mesh: Mesh,
  say: (text: string) => void,
  address: string,
): Promise<void> {
  const since = now();
  assert.match(await askFromOutside(mesh, address), /^error /);
  const refused = await waitForRecord(
    mesh,
    'n2',
    since,
    'the refusal over IPv6',
    (fields) =>
      fields.has('error') &&
      fields.get('dst.addr') === `[${address}]:8080` &&
      fields.get('direction') === 'inbound' &&
      !fields.has('src.identity'),
  );
  say(`STRICT over IPv6: refused: ${refused.fields.get('error')}`);

  await mesh.apply(DUAL_SERVICE);
  try {
    const service = await mesh.client.get(SERVICES, 'catalog-dual', 'shop');
    const vip = service.spec.clusterIPs?.[1] ?? '';
    assert.match(vip, /^fd00:10:96::/);
    const name = 'catalog-dual.shop.svc.cluster.local';
    for (const [what, url] of [
      ['the pod', `http://[${address}]:8080/`],
      ['the service', `http://[${vip}]/`],
    ] as const) {
      const asked = now();
      let answer = '';
      await until(async () => {
        answer = await runInPod(mesh, {
          name: 'insider6',
          namespace: 'shop',
          node: 'n1',
          script: getScript(url),
        });
        return answer.startsWith('200 ');
      }, `an answer from ${what} over IPv6 (last: ${answer})`);
      const arrived = await waitForRecord(
        mesh,
        'n2',
        asked,
        `the tunnel to ${what}, itself over IPv6`,
        (fields) =>
          fields.get('direction') === 'inbound' &&
          /^\[fd00:10:244:.*\]:15008$/.test(fields.get('dst.addr') ?? '') &&
          startsWith(fields.get('dst.hbone_addr'), '[fd00:10:244:') &&
          fields.has('src.identity'),
      );
      say(`${what} at ${url}: through HBONE, as ${arrived.fields.get('src.identity')}`);
    }
    const resolved = await runInPod(mesh, {
      name: 'resolver6',
      namespace: 'shop',
      node: 'n1',
      script: `require('node:dns').resolve6('${name}',(e,a)=>console.log(e?e.code:a.join()))`,
    });
    assert.equal(resolved.trim(), vip);
    say(`and ${name} has the AAAA record ${vip}`);
  } finally {
    await mesh.client.delete(SERVICES, 'catalog-dual', { namespace: 'shop' });
  }
}
