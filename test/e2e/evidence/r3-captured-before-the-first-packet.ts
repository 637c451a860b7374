import assert from 'node:assert/strict';
import { PODS } from '#k8s/objects.ts';
import { until } from '../harness.ts';
import {
  type Evidence,
  getScript,
  logOf,
  now,
  podNamed,
  runInPod,
  scriptPod,
  waitForRecord,
} from './evidence.ts';

export const evidence: Evidence = {
  id: 'R3',
  title: 'a new pod is captured before its first packet; while the agent is away it does not start',
  async show(mesh, say) {
    const catalog = await podNamed(mesh, 'shop', 'catalog');
    const script = getScript(`http://${catalog.status?.podIP}:8080/`);
    const since = now();
    assert.match(await runInPod(mesh, { name: 'eager', namespace: 'shop', node: 'n1', script }), /^200 /);
    const first = await waitForRecord(
      mesh,
      'n2',
      since,
      "the new pod's first request",
      (fields) => fields.get('src.workload') === 'eager' && fields.get('direction') === 'inbound',
    );
    assert.equal(first.fields.get('src.identity'), 'spiffe://cluster.local/ns/shop/sa/default');
    say('a pod whose first act is a request: it arrives with its identity');

    const agent = mesh.pidOf('cni', 'n1');
    process.kill(agent, 'SIGSTOP');
    try {
      await mesh.apply(scriptPod({ name: 'unlucky', namespace: 'shop', node: 'n1', script }));
      await until(async () => {
        const pod = await mesh.client.get(PODS, 'unlucky', 'shop');
        return pod.status?.containerStatuses?.[0]?.state?.waiting !== undefined;
      }, 'the pod to wait for its network');
      assert.equal(await logOf(mesh, 'shop', 'unlucky').catch(() => ''), '', 'nothing of it has run');
      say('the agent stopped: the pod waits, nothing of it runs');
    } finally {
      process.kill(agent, 'SIGCONT');
    }
    await until(
      async () => (await mesh.client.get(PODS, 'unlucky', 'shop')).status?.phase === 'Succeeded',
      'the pod to run',
    );
    await mesh.client.delete(PODS, 'unlucky', { namespace: 'shop', gracePeriodSeconds: 0 });
    say('the agent back: the pod starts by itself');
  },
};
