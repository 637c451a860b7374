import assert from 'node:assert/strict';
import { NAMESPACES, PODS } from '#k8s/objects.ts';
import { isEnrolled } from '../../../src/cli/screen/map.ts';
import { type Mesh, until } from '../harness.ts';
import { type HeldConnection, holdConnection } from '../lib/held-connection.ts';
import { type Evidence, logOf, now, podNamed, startsWith, waitForRecord } from './evidence.ts';

const PROGRAMS = ['shop-web', 'shop-catalog', 'shop-cart', 'shop-ledger', 'shop-visitor'];

async function everyPod(mesh: Mesh, enrolled: boolean): Promise<boolean> {
  const { items } = await mesh.client.list(PODS, { namespace: 'shop' });
  return items.every((pod) => isEnrolled(pod) === enrolled);
}

export const evidence: Evidence = {
  id: 'R1',
  title: 'enrol and un-enrol by the label of a namespace, without a restart',
  async show(mesh, say, { keepsConnections } = { keepsConnections: true }) {
    const pids = PROGRAMS.map((program) => mesh.pidOf(program));
    const catalog = await podNamed(mesh, 'shop', 'catalog');
    const caller = await podNamed(mesh, 'shop', 'visitor');
    const hold = (): Promise<HeldConnection> =>
      holdConnection(mesh, caller.spec.nodeName ?? '', caller, {
        host: catalog.status?.podIP ?? '',
        port: 8080,
      });
    const held = keepsConnections ? [await hold()] : [];
    await mesh.kubectl('label', 'namespace', 'shop', 'istio.io/dataplane-mode-', '--overwrite');
    try {
      await until(() => everyPod(mesh, false), 'the pods to leave the mesh');
      const pages = async (): Promise<number> =>
        (await logOf(mesh, 'shop', catalog.metadata.name)).split('GET /').length;
      const before = await pages();
      await until(async () => (await pages()) > before + 1, 'pages to be served without the mesh');
      say('label removed: the annotation is gone, pages go on as plain TCP');
      // One more that begins outside the mesh.
      if (keepsConnections) held.push(await hold());
    } finally {
      await mesh.client.patch(NAMESPACES, 'shop', 'merge', {
        metadata: { labels: { 'istio.io/dataplane-mode': 'ambient' } },
      });
    }
    await until(() => everyPod(mesh, true), 'the pods to be enrolled again');
    await waitForRecord(
      mesh,
      'n2',
      now(),
      'a page over mTLS',
      (fields) => startsWith(fields.get('dst.workload'), 'catalog') && fields.has('src.identity'),
    );
    say('label set: enrolled again, pages over mTLS');
    for (const connection of held) await connection.goesOn();
    for (const connection of held) connection.close();
    if (keepsConnections)
      say('a connection from before the label went, and one from before it came back, are still open');
    assert.deepEqual(
      PROGRAMS.map((program) => mesh.pidOf(program)),
      pids,
      'no process was restarted',
    );
    say(
      `same processes throughout: ${PROGRAMS.map((program, index) => `${program} ${pids[index]}`).join(', ')}`,
    );
  },
};
