// What a subscriber to the type Workload is told of addresses: control-plane.md §4.3, §4.4, by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { Service } from '#model/service.ts';
import type { ServiceKey, Workload } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { type DeltaRequest, deltaRequest } from '#proto/discovery.ts';
import { ADDRESS_TYPE_URL } from '#proto/workload.ts';
import { WORKLOAD_TYPE_URL, workloadIn } from '#proto/workload-part.ts';
import { SharedSource } from '#xds/shared-source.ts';
import { Subscription } from '#xds/subscription.ts';
import { Publisher } from './publisher.ts';
import { ResourceSet } from './resource-set.ts';
import { workloadsOf } from './workload-view.ts';

const WEB = 'shop/web.shop.svc.cluster.local' as ServiceKey;
const uid = (name: string): string => `Kubernetes//Pod/shop/${name}`;

/** A service `web` at 10.96.0.1 with one pod `web-1` on n1, and a pod `db` on n2. */
function mesh() {
  const addresses = new ResourceSet(ADDRESS_TYPE_URL);
  const publisher = new Publisher(addresses);
  const putPod = (name: string, fields: Partial<Workload>): void =>
    publisher.publish(`pod ${name}`, [
      { kind: 'workload', workload: workloadOf({ name, namespace: 'shop', ...fields }) },
    ]);
  const putWeb = (fields: Partial<Service> = {}): void => {
    const vips = [{ network: '', ip: ip('10.96.0.1') }];
    const service = serviceOf({ name: 'web', namespace: 'shop', vips, ...fields });
    publisher.publish('web', [{ kind: 'service', service }]);
  };
  const behindWeb = new Map([[WEB, new Map([[80, 8080]])]]);
  putWeb();
  putPod('web-1', { node: 'n1', ips: [ip('10.244.1.2')], services: behindWeb });
  putPod('db', { node: 'n2', ips: [ip('10.244.2.2')] });
  addresses.announce();
  return {
    addresses,
    behindWeb,
    putPod,
    putWeb,
    drop: (source: string) => publisher.publish(source, []),
  };
}

/** A client of one type: what it asks, and what it is sent and told is gone, by name. */
function clientOf(addresses: ResourceSet) {
  const subscription = new Subscription(new SharedSource(workloadsOf(addresses)));
  addresses.onChange((names) => subscription.onChange(names));
  return {
    ask: (fields: Partial<DeltaRequest> = {}) => {
      const asked = subscription.onRequest(deltaRequest(WORKLOAD_TYPE_URL, fields));
      assert.equal(asked, 'respond');
    },
    next: (): [sent: string[], removed: string[]] | undefined => {
      const delta = subscription.take();
      return delta && [delta.resources.map(({ name }) => name).sort(), [...delta.removed].sort()];
    },
  };
}

test('§4.4: a wildcard gets every workload and no service', () => {
  const client = clientOf(mesh().addresses);
  client.ask();
  assert.deepEqual(client.next(), [[uid('db'), uid('web-1')], []]);
});

test('§4.4: pushed are workloads that change or go; a service that changes is no news, nor gone', () => {
  const { addresses, putPod, putWeb, drop } = mesh();
  const client = clientOf(addresses);
  client.ask();
  client.next();
  putWeb({ canonical: true });
  addresses.announce();
  assert.equal(client.next(), undefined);
  putPod('db', { node: 'n3' });
  drop('pod web-1');
  putWeb({ canonical: false });
  addresses.announce();
  assert.deepEqual(client.next(), [[uid('db')], [uid('web-1')]]);
});

test('§4.4: who comes back with versions gets the difference; versions are those of the addresses', () => {
  const { addresses } = mesh();
  const client = clientOf(addresses);
  const held = new Map([
    [uid('web-1'), addresses.get(uid('web-1'))!.version],
    [uid('db'), 'another'],
    [uid('ghost'), '1'],
    // Not sent under this type, but there: it is not said to be gone.
    [WEB, '1'],
  ]);
  client.ask({ initialResourceVersions: held });
  assert.deepEqual(client.next(), [[uid('db')], [uid('ghost')]]);
});

test('§4.4: on demand, the node’s workloads come at once; asking for a service’s address brings its workloads', () => {
  const { addresses, behindWeb, putPod, putWeb, drop } = mesh();
  const client = clientOf(addresses);
  const node = { id: 'ztunnel', metadata: { NODE_NAME: 'n2' } };
  client.ask({ node, subscribe: ['*'], unsubscribe: ['*'] });
  assert.deepEqual(client.next(), [[uid('db')], []]);
  client.ask({ subscribe: ['/10.96.0.1', '/10.9.9.9'] });
  assert.deepEqual(client.next(), [[uid('web-1')], ['/10.9.9.9']]);
  // A new one behind it comes unasked; another does not; the service itself is never sent.
  putPod('web-2', { node: 'n1', services: behindWeb });
  putPod('stranger', { node: 'n1' });
  putWeb({ canonical: true });
  addresses.announce();
  assert.deepEqual(client.next(), [[uid('web-2')], []]);
  drop('pod web-2');
  drop('web');
  addresses.announce();
  assert.deepEqual(client.next(), [[], [uid('web-2'), WEB]]);
});

test('§4.4: on demand by the name of a service whose workloads have gone: an empty answer, not a removal', () => {
  const { addresses, drop } = mesh();
  drop('pod web-1');
  addresses.announce();
  const client = clientOf(addresses);
  client.ask({ subscribe: [WEB] });
  assert.deepEqual(client.next(), [[], []]);
});

test('the bytes of a workload are those inside its address, not a copy', () => {
  const { addresses } = mesh();
  const { bytes } = addresses.get(uid('db'))!;
  assert.equal(workloadIn(bytes)?.buffer, bytes.buffer);
  assert.equal(workloadIn(addresses.get(WEB)!.bytes), undefined);
});
