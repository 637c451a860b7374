import assert from 'node:assert/strict';
import { PEER_AUTHENTICATIONS, PODS } from '#k8s/objects.ts';
import { formatHostPort } from '#net/host-port.ts';
import { isReady } from '../../../src/cli/screen/map.ts';
import type { Mesh } from '../harness.ts';
import { type Evidence, getScript, now, podNamed, runInPod, waitForRecord } from './evidence.ts';
import { setMeshPortTrap } from './mesh-port-trap.ts';
import { askFromOutside, secondAddress, showSecondFamily } from './second-family.ts';
import { showUncapturedPods } from './uncaptured-pods.ts';

export const evidence: Evidence = {
  id: 'R6',
  title:
    'kubelet probes pass under STRICT, plaintext from outside the mesh is refused with a reason; a NetworkPolicy must open 15008',
  async show(mesh, say) {
    const trap = await setMeshPortTrap(mesh, say);
    try {
      // What the trap holds is given up after ten seconds; the rest happens meanwhile.
      await showStrict(mesh, say);
      await trap.spring();
    } finally {
      await trap.remove();
    }
  },
};

async function showStrict(mesh: Mesh, say: (text: string) => void): Promise<void> {
  const catalog = await podNamed(mesh, 'shop', 'catalog');
  const outsider = {
    name: 'outsider',
    namespace: 'default',
    node: 'n1',
    script: getScript(`http://${formatHostPort(catalog.status?.podIP ?? '', 8080)}/`),
  };
  assert.match(await runInPod(mesh, outsider), /^200 /);
  const second = secondAddress(catalog);
  if (second !== undefined) assert.match(await askFromOutside(mesh, second), /^200 /);
  say('PERMISSIVE: a pod outside the mesh is answered');
  await mesh.apply(`
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: shop }
spec: { mtls: { mode: STRICT } }
`);
  try {
    const since = now();
    let answer = '';
    for (let attempt = 0; attempt < 20 && !answer.startsWith('error'); attempt++)
      answer = await runInPod(mesh, outsider);
    assert.match(answer, /^error /);
    const refused = await waitForRecord(
      mesh,
      'n2',
      since,
      'the refusal',
      (fields) => fields.has('error') && fields.get('direction') === 'inbound' && !fields.has('src.identity'),
    );
    say(`STRICT: refused: ${refused.fields.get('error')}`);
    if (second !== undefined) await showSecondFamily(mesh, say, second);
    // Probes run every second; one period later the pods would be unready if these were refused.
    await new Promise((resolve) => setTimeout(resolve, 4000));
    const { items } = await mesh.client.list(PODS, { namespace: 'shop' });
    // Callers are pods of their own, which come and go.
    const ofTheShop = items.filter(({ metadata }) => metadata.ownerReferences !== undefined);
    assert.ok(ofTheShop.length >= 5 && ofTheShop.every(isReady), 'every pod of the shop is still ready');
    say('and the kubelet still finds every pod of the shop ready');
    await showUncapturedPods(mesh, say);
  } finally {
    await mesh.client.delete(PEER_AUTHENTICATIONS, 'strict', { namespace: 'shop' });
  }
}
