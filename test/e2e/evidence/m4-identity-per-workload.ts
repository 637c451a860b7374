import assert from 'node:assert/strict';
import { type Evidence, fetchInZtunnel, now, startsWith, waitForRecord } from './evidence.ts';

interface Dump {
  readonly certificates: readonly {
    readonly identity: string;
    readonly state: string;
    readonly certChain: readonly { readonly serialNumber: string; readonly expirationTime: string }[];
  }[];
}

export const evidence: Evidence = {
  id: 'M4',
  title: 'a SPIFFE identity per workload, in both access logs and in the certificates of its node only',
  async show(mesh, say) {
    const since = now();
    const isPage = (direction: string) => (fields: ReadonlyMap<string, string>) =>
      startsWith(fields.get('dst.workload'), 'catalog') &&
      fields.get('direction') === direction &&
      !fields.has('error');
    const near = await waitForRecord(mesh, 'n1', since, 'a page, outbound', isPage('outbound'));
    const far = await waitForRecord(mesh, 'n2', since, 'a page, inbound', isPage('inbound'));
    for (const { fields } of [near, far]) {
      assert.equal(fields.get('src.identity'), 'spiffe://cluster.local/ns/shop/sa/web');
      assert.equal(fields.get('dst.identity'), 'spiffe://cluster.local/ns/shop/sa/catalog');
    }
    say('both ends log spiffe://cluster.local/ns/shop/sa/web → spiffe://cluster.local/ns/shop/sa/catalog');
    const { certificates } = JSON.parse(
      await fetchInZtunnel(mesh, 'n2', 'http://127.0.0.1:15000/config_dump'),
    ) as Dump;
    const identities = certificates.map(({ identity }) => identity);
    for (const account of ['catalog', 'cart', 'visitor'])
      assert.ok(identities.includes(`spiffe://cluster.local/ns/shop/sa/${account}`), account);
    for (const account of ['web', 'ledger'])
      assert.ok(
        !identities.includes(`spiffe://cluster.local/ns/shop/sa/${account}`),
        `${account} runs on n1`,
      );
    for (const { identity, state, certChain } of certificates) {
      say(
        `  ${identity}  ${state}  serial ${certChain[0]?.serialNumber}  until ${certChain[0]?.expirationTime}`,
      );
    }
  },
};
