// Two proxies in dedicated mode, each beside its workload, fed by one file and without a control plane: the program as
// people run it against the real kernel. With PEER_ZTUNNEL, a real ztunnel takes either end.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import { cpuSeconds } from '../../bench/lib/process.ts';
import { newSigningServer } from '../lib/signing-server.ts';
import { until } from '../lib/until.ts';
import { readAll } from '../loopback/ztunnel-rig.ts';
import { dialFrom, listenIn, serverOf } from './lib/in-namespace.ts';

const ROUTER = `cvst${process.pid}r`;
const PODS = [
  { netns: `cvst${process.pid}a`, ip: '10.8.1.2', gateway: '10.8.1.1', name: 'cart' },
  { netns: `cvst${process.pid}b`, ip: '10.8.2.2', gateway: '10.8.2.1', name: 'stock' },
] as const;
const [CLIENT, SERVER] = PODS;
const VIP = '10.96.8.8';
const PEER = process.env.PEER_ZTUNNEL;
const root = join(import.meta.dirname, '../..');
const dir = mkdtempSync(join(tmpdir(), 'culvert-static-'));
const statePath = join(dir, 'state.yaml');
const rootPath = join(dir, 'root.pem');
const keyPath = join(dir, 'root-key.pem');

const run = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

let authority: Authority;
let caPort = 0;
let appPort = 0;
const servers: { close(): unknown }[] = [];

function state(extra = ''): string {
  const workloads = PODS.map(
    ({ name, ip }) => `
- uid: local//Pod/shop/${name}
  name: ${name}
  namespace: shop
  serviceAccount: ${name}
  trustDomain: cluster.local
  workloadIps: [${ip}]
  protocol: HBONE
  services: ${name === 'stock' ? `{ shop/stock.shop.svc.cluster.local: { 80: ${appPort} } }` : '{}'}`,
  );
  return `workloads:${workloads.join('')}
services:
- name: stock
  namespace: shop
  hostname: stock.shop.svc.cluster.local
  vips: [/${VIP}]
  ports: { 80: ${appPort} }
${extra}`;
}

const DENY = `policies:
- name: not-cart
  namespace: shop
  scope: Namespace
  action: Deny
  dryRun: false
  rules:
  - - - principals: [{ Exact: cluster.local/ns/shop/sa/cart }]
`;

before(async () => {
  await warmThreadPool();
  authority = await createAuthority({ organization: 'cluster.local', validDays: 1 });
  writeFileSync(rootPath, authority.certPem);
  writeFileSync(keyPath, authority.keyPem);
  run(`ip netns add ${ROUTER}; ip -n ${ROUTER} link set lo up
    ip netns exec ${ROUTER} sysctl -qw net.ipv4.ip_forward=1`);
  for (const { netns, ip, gateway } of PODS) {
    const link = `v${netns.slice(-6)}`;
    run(`ip netns add ${netns}; ip -n ${netns} link set lo up
      ip -n ${ROUTER} link add ${link} type veth peer name eth0 netns ${netns}
      ip -n ${ROUTER} addr add ${gateway}/24 dev ${link}; ip -n ${ROUTER} link set ${link} up
      ip -n ${netns} addr add ${ip}/24 dev eth0; ip -n ${netns} link set eth0 up
      ip -n ${netns} route add default via ${gateway}`);
    const fd = openNetns(`/var/run/netns/${netns}`);
    try {
      await nftPodRules.apply(fd, {
        ipv6: true,
        dnsCapture: false,
        bypassInbound: false,
        virtualInterfaces: [],
      });
    } finally {
      closeFd(fd);
    }
  }
  const app = serverOf((socket) => socket.pipe(socket));
  appPort = await listenIn(SERVER.netns, app, '0.0.0.0');
  const ca = await newSigningServer(authority, { ips: [CLIENT.gateway, SERVER.gateway] });
  caPort = await listenIn(ROUTER, ca as unknown as net.Server, '0.0.0.0');
  servers.push(app, ca as unknown as net.Server);
});

after(() => {
  for (const one of servers) one.close();
  for (const name of [ROUTER, ...PODS.map(({ netns }) => netns)])
    run(`ip netns del ${name} 2>/dev/null || true`);
  rmSync(dir, { recursive: true, force: true });
});

function dial(netns: string, host: string, port: number): net.Socket {
  return dialFrom(netns, host, port).on('error', () => {});
}

async function ask(host: string, port: number, text: string): Promise<string> {
  const socket = dial(CLIENT.netns, host, port);
  const answer = readAll(socket);
  socket.end(text);
  return String(await answer);
}

interface Proxy {
  readonly pid: number;
  readonly lines: string[];
  access(...texts: string[]): string[];
}

/** Starts one proxy in a pod's namespace and waits until it says that it is ready. */
async function start(
  t: TestContext,
  kind: 'ours' | 'peer',
  pod: (typeof PODS)[number],
  more: { readonly descriptorLimit?: number; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Proxy> {
  const { descriptorLimit } = more;
  const limited =
    descriptorLimit === undefined ? [] : ['sh', '-c', `ulimit -n ${descriptorLimit}; exec "$@"`, 'limited'];
  const program = [...limited, ...(kind === 'ours' ? [join(root, 'bin/culvert'), 'ztunnel'] : [PEER!])];
  const env: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: `shop/${pod.name}/${pod.name}`,
    PACKET_MARK: '1337',
    XDS_ADDRESS: '',
    LOCAL_XDS_PATH: statePath,
    PROXY_CONFIG: 'proxyMetadata: { DNS_CAPTURE: "false" }',
    ...more.env,
    // Ours signs with the root; a release build of the peer cannot and asks an authority that has the same one.
    ...(kind === 'ours'
      ? { FAKE_CA: 'true', FAKE_CA_CERT: rootPath, FAKE_CA_KEY: keyPath }
      : { CA_ADDRESS: `https://${pod.gateway}:${caPort}`, CA_ROOT_CA: rootPath, AUTH_TOKEN: 'token' }),
  };
  const child: ChildProcess = spawn('ip', ['netns', 'exec', pod.netns, ...program], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  for (const stream of [child.stdout!, child.stderr!]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts);
    });
  }
  let isReady = false;
  let hasEnded = false;
  const ended = once(child, 'exit').then(() => {
    hasEnded = true;
  });
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  while (!isReady) {
    assert.ok(!hasEnded, `the proxy ended:\n${lines.join('\n')}`);
    const socket = dial(pod.netns, '127.0.0.1', 15_021);
    const answer = readAll(socket);
    socket.write('GET /healthz/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    isReady = String(await answer).startsWith('HTTP/1.1 200');
    socket.destroy();
    if (!isReady) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    pid: child.pid!,
    lines,
    access: (...texts) =>
      lines.filter((line) => line.includes('access') && texts.every((text) => line.includes(text))),
  };
}

async function carriesConnections(
  t: TestContext,
  client: 'ours' | 'peer',
  server: 'ours' | 'peer',
): Promise<Proxy[]> {
  writeFileSync(statePath, state());
  const proxies = [await start(t, client, CLIENT), await start(t, server, SERVER)];
  const said = (): string => proxies.flatMap(({ lines }) => lines).join('\n');
  assert.equal(await ask(SERVER.ip, appPort, 'by address'), 'by address', said());
  assert.equal(await ask(VIP, 80, 'by service'), 'by service', said());
  for (const [index, proxy] of proxies.entries()) {
    const complete = (): string[] =>
      proxy.access(
        'connection complete',
        'spiffe://cluster.local/ns/shop/sa/cart',
        `${SERVER.ip}:${appPort}`,
      );
    await until(`two lines of proxy ${index}:\n${proxy.lines.join('\n')}`, () => complete().length >= 2);
    assert.match(complete()[0]!, /dst\.identity="spiffe:\/\/cluster\.local\/ns\/shop\/sa\/stock"/);
  }
  return proxies;
}

test('two of ours carry connections from a file alone, and follow the file', async (t) => {
  const [, server] = await carriesConnections(t, 'ours', 'ours');
  writeFileSync(statePath, state(DENY));
  await until(
    'the new state',
    () => server!.lines.filter((line) => line.includes('static state loaded')).length === 2,
  );
  assert.equal(await ask(SERVER.ip, appPort, 'again'), '');
  await until('the refusal', () => server!.access('shop/not-cart', 'reason="POLICY_DENIED"').length > 0);
  writeFileSync(statePath, state('polices: []\n'));
  await until('the report', () =>
    server!.lines.some((line) => /line \d+: unknown key \\?"polices\\?"/.test(line)),
  );
  assert.equal(await ask(SERVER.ip, appPort, 'still'), '');
});

async function metricsOf(pod: (typeof PODS)[number]): Promise<string> {
  const socket = dial(pod.netns, '127.0.0.1', 15_020);
  const answer = readAll(socket);
  socket.write('GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  return String(await answer);
}

test('descriptors used up: open connections live on, new ones are refused without spinning, and it ends', async (t) => {
  writeFileSync(statePath, state());
  const proxy = await start(t, 'ours', CLIENT, { descriptorLimit: 120 });
  await start(t, 'ours', SERVER);
  const held = dial(CLIENT.netns, VIP, 80);
  const echoed = async (text: string): Promise<string> => {
    held.write(text);
    const [chunk] = (await once(held, 'data')) as [Buffer];
    return String(chunk);
  };
  assert.equal(await echoed('before'), 'before');

  const hungry = Array.from({ length: 200 }, () => dial(CLIENT.netns, VIP, 80));
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
  const refused = Number(/^culvert_connections_refused_total (\d+)/m.exec(await metricsOf(CLIENT))?.[1]);
  assert.equal(refused, 200 - served);

  for (const socket of hungry) socket.destroy();
  while ((await ask(VIP, 80, 'after')) !== 'after') await new Promise((resolve) => setTimeout(resolve, 100));
  await until('the good news', () => proxy.lines.some((line) => line.includes('descriptors are free again')));
  assert.equal(await echoed('after'), 'after');
  held.destroy();
});

/** What a SOCKS5 client in the pod is answered: the bytes of each reply, then what the destination says. */
async function overSocks(request: string, text: string): Promise<string> {
  const socket = dial(CLIENT.netns, '127.0.0.1', 15_080);
  const heard = readAll(socket);
  // All at once, as a client in a hurry may: what follows the request is for the destination.
  socket.end(Buffer.concat([Buffer.from(`050100${request}`.replaceAll(' ', ''), 'hex'), Buffer.from(text)]));
  const bytes = await heard;
  return `${bytes.subarray(0, 12).toString('hex')} ${bytes.subarray(12)}`;
}

test('SOCKS5: a pod’s program reaches the mesh by address and by name, and hears of failure', async (t) => {
  writeFileSync(statePath, state());
  const env = { UNSTABLE_ENABLE_SOCKS5: 'true' };
  const client = await start(t, 'ours', CLIENT, { env });
  await start(t, 'ours', SERVER);
  const port = appPort.toString(16).padStart(4, '0');
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

const withPeer =
  PEER === undefined || PEER === '' ? { skip: 'not run: PEER_ZTUNNEL names no real ztunnel' } : {};

test('ours to the real one, from the same file', withPeer, async (t) => {
  await carriesConnections(t, 'ours', 'peer');
});

test('the real one to ours, from the same file', withPeer, async (t) => {
  await carriesConnections(t, 'peer', 'ours');
});
