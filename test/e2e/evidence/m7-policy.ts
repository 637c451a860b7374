import assert from 'node:assert/strict';
import { join } from 'node:path';
import { AUTHORIZATION_POLICIES } from '#k8s/objects.ts';
import { projectDir, until } from '../harness.ts';
import { type Evidence, logOf, now, podNamed, scriptPod, startsWith, waitForRecord } from './evidence.ts';

const HOLD = 'MARKER-HOLD';

export const evidence: Evidence = {
  id: 'M7',
  title:
    'L4 authorization: a refusal names its policy, and a live connection is closed when a policy turns against it',
  async show(mesh, say) {
    const policy = join(projectDir, 'examples/shop/deny-orders.yaml');
    const ledger = await podNamed(mesh, 'shop', 'ledger');
    // A connection that is held open to the ledger under the cart's account would need its image; the caller's own
    // account is what the second policy names.
    await mesh.apply(
      scriptPod({
        name: 'holder',
        namespace: 'shop',
        node: 'n2',
        script: `const s=require('node:net').connect({host:'${ledger.status?.podIP}',port:7000});s.on('data',d=>console.log('got '+d.toString().trim()));s.on('close',()=>{console.log('${HOLD} closed');process.exit(0)});s.on('error',e=>console.log('error '+e.code))`,
      }),
    );
    await until(
      async () => (await logOf(mesh, 'shop', 'holder').catch(() => '')).includes('got ledger ready'),
      'the held connection to be greeted',
    );
    try {
      const since = now();
      await mesh.kubectl('apply', '-f', policy);
      const refused = await waitForRecord(
        mesh,
        'n2',
        since,
        'a refused order',
        (fields) =>
          startsWith(fields.get('dst.workload'), 'cart') &&
          // An order on its way when the policy came is closed by the change, not refused.
          /policy rejection/.test(fields.get('error') ?? '') &&
          fields.get('direction') === 'inbound',
      );
      assert.match(refused.fields.get('error') ?? '', /shop\/no-orders/);
      assert.equal(refused.fields.get('src.identity'), 'spiffe://cluster.local/ns/shop/sa/web');
      say(`refused, and it says why: ${refused.fields.get('error')}`);

      assert.ok(
        !(await logOf(mesh, 'shop', 'holder')).includes(HOLD),
        'the held connection is not touched by a policy on the cart',
      );
      // For the whole namespace: only then do other node proxies look at live connections again (docs/DIFFERENCES.md).
      await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: no-holder, namespace: shop }
spec:
  action: DENY
  rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/default"] } }] }]
`);
      await until(
        async () => (await logOf(mesh, 'shop', 'holder')).includes(`${HOLD} closed`),
        'the live connection to be closed',
      );
      const closed = await waitForRecord(mesh, 'n1', since, 'the closed connection', (fields) =>
        /policy change/.test(fields.get('error') ?? ''),
      );
      say(`the live connection was closed: ${closed.fields.get('error')}`);
    } finally {
      await mesh.client.delete(AUTHORIZATION_POLICIES, 'no-orders', { namespace: 'shop' }).catch(() => {});
      await mesh.client.delete(AUTHORIZATION_POLICIES, 'no-holder', { namespace: 'shop' }).catch(() => {});
      await mesh.kubectl('delete', 'pod', 'holder', '-n', 'shop', '--wait=false');
    }
    const since = now();
    await waitForRecord(
      mesh,
      'n2',
      since,
      'an order again',
      (fields) =>
        startsWith(fields.get('dst.workload'), 'cart') &&
        !fields.has('error') &&
        fields.get('direction') === 'inbound',
    );
    say('policies deleted: orders go through again');
  },
};
