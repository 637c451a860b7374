// Two proxies in dedicated mode, each beside its workload, fed by one file and without a control plane: the program as
// people run it against the real kernel. With PEER_ZTUNNEL, a real ztunnel takes either end.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, type TestContext, test } from 'node:test';
import { cpuSeconds } from '../../bench/lib/process.ts';
import { WITHOUT_PEER } from '../lib/peer-program.ts';
import { until } from '../lib/until.ts';
import { readAll } from '../loopback/ztunnel-rig.ts';
import {
  createDedicatedPair,
  type DedicatedPair,
  type DedicatedProxy,
  type Kind,
  VIP,
} from './lib/dedicated-pair.ts';
import { getIn } from './lib/in-namespace.ts';

const DENY = `policies:
- name: not-cart
  namespace: shop
  scope: Namespace
  action: Deny
  dryRun: false
  rules:
  - - - principals: [{ Exact: cluster.local/ns/shop/sa/cart }]
`;

let pair: DedicatedPair;
before(async () => {
  pair = await createDedicatedPair('cvst');
});
after(() => pair.close());

async function carriesConnections(t: TestContext, client: Kind, server: Kind): Promise<DedicatedProxy[]> {
  pair.writeState();
  const proxies = [await pair.start(t, client, pair.client), await pair.start(t, server, pair.server)];
  const said = (): string => proxies.flatMap(({ lines }) => lines).join('\n');
  assert.equal(await pair.ask(pair.server.ip, pair.appPort, 'by address'), 'by address', said());
  assert.equal(await pair.ask(VIP, 80, 'by service'), 'by service', said());
  for (const [index, proxy] of proxies.entries()) {
    const complete = (): string[] =>
      proxy.access(
        'connection complete',
        'spiffe://cluster.local/ns/shop/sa/cart',
        `${pair.server.ip}:${pair.appPort}`,
      );
    await until(`two lines of proxy ${index}:\n${proxy.lines.join('\n')}`, () => complete().length >= 2);
    assert.match(complete()[0]!, /dst\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/stock"/);
  }
  return proxies;
}

test('two of ours carry connections from a file alone, and follow the file', async (t) => {
  const [, server] = await carriesConnections(t, 'ours', 'ours');
  pair.writeState(DENY);
  await until(
    'the new state',
    () => server!.lines.filter((line) => line.includes('static state loaded')).length === 2,
  );
  assert.equal(await pair.ask(pair.server.ip, pair.appPort, 'again'), '');
  await until('the refusal', () => server!.access('shop/not-cart', 'reason="POLICY_DENIED"').length > 0);
  pair.writeState('polices: []\n');
  await until('the report', () =>
    server!.lines.some((line) => /line \d+: unknown key \\?"polices\\?"/.test(line)),
  );
  assert.equal(await pair.ask(pair.server.ip, pair.appPort, 'still'), '');
});

test('descriptors used up: open connections live on, new ones are refused without spinning, and it ends', async (t) => {
  pair.writeState();
  const proxy = await pair.start(t, 'ours', pair.client, { descriptorLimit: 120 });
  await pair.start(t, 'ours', pair.server);
  const held = pair.dial(VIP, 80);
  const echoed = async (text: string): Promise<string> => {
    held.write(text);
    const [chunk] = (await once(held, 'data')) as [Buffer];
    return String(chunk);
  };
  assert.equal(await echoed('before'), 'before');

  const hungry = Array.from({ length: 200 }, () => pair.dial(VIP, 80));
  const fates = await Promise.all(
    hungry.map(async (socket) => {
      socket.write('?');
      // Reset, or closed where the kernel took it before we could.
      const refused = ['end', 'close', 'error'].map((event) => once(socket, event).then(() => 'refused'));
      return Promise.race([once(socket, 'data').then(() => 'served'), ...refused]).catch(() => 'refused');
    }),
  );
  const served = fates.filter((fate) => fate === 'served').length;
  t.diagnostic(`${served} of 200 connections served with 120 descriptors`);
  assert.ok(served > 10 && served < 120, `${served} served`);
  assert.equal(await echoed('meanwhile'), 'meanwhile');
  const before = cpuSeconds(proxy);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.ok(cpuSeconds(proxy) - before < 0.5, 'accepting must not spin');
  const said = proxy.lines.filter((line) => line.includes('descriptors are used up'));
  assert.equal(said.length, 1);
  assert.match(said[0]!, /limit=120 reserve=16/);
  const refused = Number(
    /^culvert_connections_refused_total (\d+)/m.exec(
      (await getIn(pair.client.netns, 15_020, '/metrics'))?.body ?? '',
    )?.[1],
  );
  assert.equal(refused, 200 - served);

  for (const socket of hungry) socket.destroy();
  while ((await pair.ask(VIP, 80, 'after')) !== 'after')
    await new Promise((resolve) => setTimeout(resolve, 100));
  await until('the good news', () => proxy.lines.some((line) => line.includes('descriptors are free again')));
  assert.equal(await echoed('after'), 'after');
  held.destroy();
});

/** What a SOCKS5 client in the pod is answered: the bytes of each reply, then what the destination says. */
async function overSocks(request: string, text: string): Promise<string> {
  const socket = pair.dial('127.0.0.1', 15_080);
  const heard = readAll(socket);
  // All at once, as a client in a hurry may: what follows the request is for the destination.
  socket.end(Buffer.concat([Buffer.from(`050100${request}`.replaceAll(' ', ''), 'hex'), Buffer.from(text)]));
  const bytes = await heard;
  return `${bytes.subarray(0, 12).toString('hex')} ${bytes.subarray(12)}`;
}

test('SOCKS5: a pod’s program reaches the mesh by address and by name, and hears of failure', async (t) => {
  pair.writeState();
  const env = { UNSTABLE_ENABLE_SOCKS5: 'true' };
  const client = await pair.start(t, 'ours', pair.client, { env });
  await pair.start(t, 'ours', pair.server);
  const port = pair.appPort.toString(16).padStart(4, '0');
  const ok = '0500' + '05000001000000000000';
  const bytesOf = (name: string): string => Buffer.from(name).toString('hex');
  assert.equal(await overSocks(`05010001 0a600808 0050`, 'by service'), `${ok} by service`);
  assert.equal(await overSocks(`05010001 0a080202 ${port}`, 'by address'), `${ok} by address`);
  const name = 'stock.shop.svc.cluster.local';
  const named = `05010003 ${name.length.toString(16)} ${bytesOf(name)} 0050`;
  assert.equal(await overSocks(named, 'by name'), `${ok} by name`);
  await until('three lines', () => client.access('connection complete', 'dst.identity=').length === 3);
  // Nobody listens on port 1; nobody has this name; the proxy's own ports are not for clients.
  assert.equal(await overSocks('05010001 0a080202 0001', ''), '0500' + '05010001000000000000 ');
  assert.equal(
    await overSocks(`05010003 0c ${bytesOf('nobody.invalid').slice(0, 24)} 0050`, ''),
    '0500' + '05040001000000000000 ',
  );
  assert.equal(await overSocks('05010001 7f000001 3ae8', ''), '0500' + '05010001000000000000 ');
  assert.equal(await overSocks('05030001 0a080202 0001', ''), '0500' + '05070001000000000000 ');
});

test('ours to the real one, from the same file', { skip: WITHOUT_PEER }, async (t) => {
  await carriesConnections(t, 'ours', 'peer');
});

test('the real one to ours, from the same file', { skip: WITHOUT_PEER }, async (t) => {
  await carriesConnections(t, 'peer', 'ours');
});
