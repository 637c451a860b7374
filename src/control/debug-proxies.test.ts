import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SpiffeId } from '#model/identity.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import type { XdsResource } from '#xds/source.ts';
import type { SubscriptionInfo } from '#xds/subscription.ts';
import type { DebugAnswer, DebugQuery } from './debug-page.ts';
import { clientsAsked, configDump, forceDisconnect, type Proxies } from './debug-proxies.ts';
import { debugAnswers } from './debug-xds.ts';

const ADDRESS = 'type.googleapis.com/istio.workload.Address';
const WORKLOAD = 'type.googleapis.com/istio.workload.Workload';
const AUTHORIZATION = 'type.googleapis.com/istio.security.Authorization';

const client = (id: number, name: string, namespace: string, subscriptions = [{}]): XdsClientInfo => ({
  id,
  node: `ztunnel~10.0.0.${id}~${name}.${namespace}~${namespace}.svc.cluster.local`,
  metadata: {},
  caller: { identity: 'spiffe://x' as unknown as SpiffeId, namespace, serviceAccount: 'ztunnel' },
  peer: '10.0.0.1:1',
  connectedAt: new Date(0),
  subscriptions: subscriptions as SubscriptionInfo[],
});

// By hand: Workload{name "a"} is 0a0161; Address{workload} wraps it as field 1; Authorization{name "p"} is 0a0170.
const resource = (name: string, hex: string): XdsResource => ({
  name,
  version: '',
  bytes: Buffer.from(hex, 'hex'),
});
const HELD: Readonly<Record<string, readonly XdsResource[]>> = {
  [ADDRESS]: [resource('b', '0a030a0162'), resource('a', '0a030a0161')],
  [AUTHORIZATION]: [resource('p', '0a0170')],
};

function proxiesOf(...clients: XdsClientInfo[]): Proxies & { readonly disconnected: number[] } {
  const disconnected: number[] = [];
  return {
    clients: () => clients,
    resources: (id, typeUrl) => (id === 1 ? (HELD[typeUrl] ?? []) : []),
    disconnect: (id) => disconnected.push(id),
    disconnected,
  };
}

const query = (text: string, namespace?: string): DebugQuery => ({
  parameters: new URLSearchParams(text),
  namespace,
  besides: [],
});
const A = { '@type': ADDRESS, workload: { name: 'a' } };
const B = { '@type': ADDRESS, workload: { name: 'b' } };
const P = { '@type': AUTHORIZATION, name: 'p' };
const explain = (answer: DebugAnswer) => ('explain' in answer ? answer.explain : '');
const NOT_HERE = 'Proxy not connected to this Pilot instance. It may be connected to another instance.';

describe('config_dump', () => {
  const proxies = proxiesOf(
    client(7, 'ztunnel-11', 'istio-system'),
    client(1, 'ztunnel-1', 'istio-system'),
    client(2, 'gateway', 'shop'),
  );
  const dump = (text: string, namespace?: string) => configDump(proxies, query(text, namespace));

  test('without types: the addresses, sorted; a proxy by its name, or by part of its connection', () => {
    const expected = { status: 200, content: { configs: [A, B] } };
    assert.deepEqual(dump('proxyID=ztunnel-1.istio-system'), expected);
    assert.deepEqual(dump('proxyID=10.0.0.1~'), expected);
  });

  test('the types that are named, for short or whole, each once; a proxy that has none of them has nothing', () => {
    const configs = (text: string) => dump(`proxyID=ztunnel-1.istio-system&types=${text}`);
    assert.deepEqual(configs('wads'), { status: 200, content: { configs: [P] } });
    assert.deepEqual(configs('WDS,wads,wds'), { status: 200, content: { configs: [A, B, P] } });
    assert.deepEqual(configs(AUTHORIZATION), { status: 200, content: { configs: [P] } });
    assert.deepEqual(configs(WORKLOAD), { status: 200, content: {} });
    assert.equal(configs('cds').status, 400);
    assert.match(explain(configs('wds,cds')), /^types=cds is not served; there are wds and wads/);
  });

  test('400 without a proxy, 404 for one that is not here, in the words that istioctl looks for', () => {
    assert.match(explain(dump('')), /^config_dump needs the proxy: config_dump\?proxyID=/);
    assert.deepEqual([dump('').status, dump('proxyID=').status], [400, 400]);
    assert.deepEqual(dump('proxyID=ztunnel-9'), { status: 404, explain: NOT_HERE });
  });

  test('accounts of other namespaces: their own proxies; of the others not even that they are there', () => {
    assert.equal(dump('proxyID=gateway.shop', 'shop').status, 200);
    assert.deepEqual(dump('proxyID=ztunnel-1.istio-system', 'shop'), { status: 404, explain: NOT_HERE });
    // A part that fits a foreign proxy first.
    assert.equal(dump('proxyID=svc.cluster.local', 'shop').status, 200);
  });

  test('who has subscribed to nothing is no proxy', () => {
    const asker = proxiesOf(client(1, 'istioctl', 'istio-system', []));
    assert.equal(configDump(asker, query('proxyID=istioctl')).status, 404);
  });
});

test('force_disconnect ends the stream of the proxy that is named, and of none if none is', () => {
  const proxies = proxiesOf(client(3, 'ztunnel-3', 'istio-system'), client(4, 'ztunnel-4', 'istio-system'));
  assert.equal(forceDisconnect(proxies, query('proxyID=ztunnel-4.istio-system')).status, 200);
  assert.equal(forceDisconnect(proxies, query('')).status, 400);
  assert.equal(forceDisconnect(proxies, query('proxyID=ztunnel-5.istio-system')).status, 404);
  assert.deepEqual(proxies.disconnected, [4]);
});

test('adsz shows all clients, or the one that is named', () => {
  const proxies = proxiesOf(client(3, 'ztunnel-3', 'istio-system'), client(4, 'ztunnel-4', 'istio-system'));
  const ids = (text: string) => {
    const clients = clientsAsked(proxies, 'adsz', query(text));
    return 'status' in clients ? clients.status : clients.map(({ id }) => id);
  };
  assert.deepEqual(ids(''), [3, 4]);
  assert.deepEqual(ids('proxyID=ztunnel-4'), [4]);
  assert.deepEqual(ids('proxyID=ztunnel-5'), 404);
});

describe('over xDS, as istioctl asks', () => {
  const proxies = proxiesOf(client(1, 'ztunnel-1', 'istio-system'));
  const pages = new Map([
    ['config_dump', (asked: DebugQuery) => configDump(proxies, asked)],
    ['syncz', () => ({ status: 200, content: [] }) as const],
  ]);
  const answers = debugAnswers({ systemNamespace: 'istio-system', clients: proxies.clients, pages });
  const ask = (name: string, namespace = 'istio-system') =>
    answers({
      typeUrl: 'istio.io/debug',
      names: [name],
      caller: client(9, 'istioctl', namespace).caller,
    }).map((it) => [it.name, Buffer.from(it.bytes).toString()]);

  test('a page with parameters; the resource has the name that was asked for', () => {
    const name = 'config_dump?proxyID=ztunnel-1.istio-system&types=wads';
    const [[shown, text] = []] = ask(name);
    assert.deepEqual([shown, JSON.parse(text ?? '')], [name, { configs: [P] }]);
  });

  test('a proxy that is not here is an answer, so that the next replica is asked', () => {
    assert.deepEqual(ask('config_dump?proxyID=other'), [['config_dump?proxyID=other', `${NOT_HERE}\n`]]);
    assert.deepEqual(ask('config_dump?proxyID=ztunnel-1', 'shop'), [
      ['config_dump?proxyID=ztunnel-1', `${NOT_HERE}\n`],
    ]);
  });

  test('refused: no proxy named, a page that is not served, another namespace', () => {
    assert.throws(() => ask('config_dump'), /config_dump needs the proxy/);
    assert.throws(() => ask('edsz'), /there is no debug page edsz: /);
    assert.throws(() => ask('pprof/heap'), /over HTTP/);
    assert.throws(() => ask('syncz', 'shop'), /accounts of shop may see config_dump of their own proxies/);
  });
});
