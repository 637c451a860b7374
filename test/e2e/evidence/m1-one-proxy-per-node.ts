import assert from 'node:assert/strict';
import { type Evidence, now, startsWith, waitForRecord } from './evidence.ts';

export const evidence: Evidence = {
  id: 'M1',
  title: 'one L4 proxy per node carries every TCP connection of its pods, a server-first protocol included',
  async show(mesh, say) {
    const proxies = ['n1', 'n2'].map((node) => mesh.pidOf('ztunnel', node));
    say(`ztunnel runs once per node: pid ${proxies[0]} on n1, pid ${proxies[1]} on n2`);
    assert.notEqual(proxies[0], proxies[1]);
    const since = now();
    const order = await waitForRecord(
      mesh,
      'n1',
      since,
      'an order booked in the ledger',
      (fields) =>
        startsWith(fields.get('dst.workload'), 'ledger') &&
        fields.get('direction') === 'inbound' &&
        !fields.has('error'),
    );
    say(
      `the ledger greets before its client speaks; carried all the same: ${order.fields.get('src.workload')} → ${order.fields.get('dst.workload')}`,
    );
    assert.ok(
      Number(order.fields.get('bytes_sent')) > 'ledger ready\n'.length,
      'greeting and receipt came through',
    );
    const page = await waitForRecord(
      mesh,
      'n2',
      since,
      'a catalog page',
      (fields) => startsWith(fields.get('dst.workload'), 'catalog') && fields.get('direction') === 'inbound',
    );
    say(`HTTP by the same proxies: ${page.fields.get('src.workload')} → ${page.fields.get('dst.workload')}`);
  },
};
