// The trap of port 15008, part of R6: a NetworkPolicy that opens the application's port only stops the mesh.

import assert from 'node:assert/strict';
import { EVENTS, type KubeObject, NETWORK_POLICIES } from '#k8s/objects.ts';
import { type Mesh, until } from '../harness.ts';
import { now, podNamed, runInPod, waitForRecord } from './evidence.ts';

const POLICY = 'only-the-ledger-port';
const manifest = (ports: string): string => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${POLICY}, namespace: shop }
spec:
  podSelector: { matchLabels: { app: ledger } }
  ingress: [{ ports: [${ports}] }]
`;

export interface MeshPortTrap {
  /** What became of the blocked connection, and that one comes through when the policy is mended. */
  spring(): Promise<void>;
  remove(): Promise<void>;
}

/** The policy stands, is explained, and a connection runs into it: ztunnel gives it up after ten seconds. */
export async function setMeshPortTrap(mesh: Mesh, say: (text: string) => void): Promise<MeshPortTrap> {
  const ledger = await podNamed(mesh, 'shop', 'ledger');
  // Each caller is a new pod: its tunnel cannot be one that was there before the policy.
  const call = (name: string): Promise<string> =>
    runInPod(mesh, {
      name,
      namespace: 'shop',
      node: 'n2',
      script: `const s=require('node:net').connect({host:'${ledger.status?.podIP}',port:7000});s.setTimeout(30000,()=>s.destroy(new Error('timeout')));s.on('data',d=>{console.log('got '+d.toString().trim());s.destroy()});s.on('error',e=>console.log('error '+(e.code??e.message)));s.on('close',()=>process.exit(0))`,
    });
  const remove = async (): Promise<void> => {
    await mesh.client.delete(NETWORK_POLICIES, POLICY, { namespace: 'shop' });
  };
  await mesh.apply(manifest('{ port: 7000 }'));
  try {
    let message = '';
    await until(async () => {
      const { items } = await mesh.client.list<KubeObject & { reason?: string; message?: string }>(EVENTS, {
        namespace: 'shop',
        fieldSelector: `involvedObject.name=${POLICY}`,
      });
      message = items.find(({ reason }) => reason === 'MeshPortBlocked')?.message ?? '';
      return message !== '';
    }, 'the event that explains the trap');
    assert.match(message, /port 15008 \(HBONE\).*"- port: 15008"/);
    say(`kubectl describe networkpolicy ${POLICY}: ${message}`);
    const onScreen = `BLOCKED by NetworkPolicy shop/${POLICY}: `;
    await until(async () => mesh.screen().includes(onScreen), 'the same on the first screen');
  } catch (error) {
    await remove();
    throw error;
  }

  const since = now();
  const blocked = call('caller-blocked');
  blocked.catch(() => {}); // told when the trap is sprung
  return {
    remove,
    async spring() {
      assert.doesNotMatch(await blocked, /^got /m);
      const record = await waitForRecord(mesh, 'n2', since, 'the tunnel that was not answered', (fields) =>
        (fields.get('error') ?? '').includes('NetworkPolicy'),
      );
      say(`and the caller's node proxy: ${record.fields.get('error')}`);
      await mesh.apply(manifest('{ port: 7000 }, { port: 15008 }'));
      // The rules follow the object within a moment; a tunnel that is not answered takes ten seconds to fail.
      let tries = 0;
      await until(
        async () => /^got ledger ready/m.test(await call(`caller-open-${tries++}`)),
        'an answer again',
      );
      say('with 15008 opened beside it, connections come through');
    },
  };
}
