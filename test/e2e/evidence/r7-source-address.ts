import assert from 'node:assert/strict';
import { until } from '../harness.ts';
import { type Evidence, logOf, podNamed } from './evidence.ts';

export const evidence: Evidence = {
  id: 'R7',
  title: "the application sees its client's own address",
  async show(mesh, say) {
    const [web, catalog] = await Promise.all([
      podNamed(mesh, 'shop', 'web'),
      podNamed(mesh, 'shop', 'catalog'),
    ]);
    const address = web.status?.podIP ?? '';
    assert.notEqual(address, '');
    let line: string | undefined;
    await until(async () => {
      line = (await logOf(mesh, 'shop', catalog.metadata.name))
        .split('\n')
        .findLast((text) => text.includes(`${address}:`));
      return line !== undefined;
    }, `the catalog to print ${address} as its client`);
    say(`web is ${address}; the catalog prints: ${line}`);
  },
};
