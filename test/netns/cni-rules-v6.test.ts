// The redirection rules over IPv6: no packet of an enrolled pod leaves or reaches it as plaintext past ztunnel, also while
// nobody listens on ztunnel's ports.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type net from 'node:net';
import { after, before, test } from 'node:test';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { askFrom, tellingServer } from './lib/redirected.ts';

const NODE = `cvv6${process.pid}n`;
const POD = `cvv6${process.pid}p`;
const PEER = `cvv6${process.pid}q`;
const POD_IP = 'fd00:10:244:1::2';
const PEER_IP = 'fd00:10:244:1::3';
/** Neighbour discovery answers for an interface's own addresses only, unlike ARP: the gateway is the link's. */
const GATEWAY = 'fe80::1';
const APP_PORT = 8080;
const MARK = 0x539;
const OPTIONS = { ipv6: true, dnsCapture: false, bypassInbound: false, virtualInterfaces: [] };

const sh = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const fds = new Map<string, number>();
const servers = new Map<string, net.Server>();

const attach = (name: string, address: string, host: string): string => `
  ip netns add ${name}
  ip -n ${NODE} link add ${host} type veth peer name eth0 netns ${name}
  ip -n ${NODE} link set ${host} up
  ip -n ${NODE} route add ${address}/128 dev ${host}
  ip -n ${name} link set lo up
  ip -n ${name} link set eth0 up
  ip -n ${name} addr add ${address}/128 dev eth0 nodad
  ip -n ${NODE} addr add ${GATEWAY}/64 dev ${host} nodad
  ip -n ${name} route add default via ${GATEWAY} dev eth0`;

before(async () => {
  await warmThreadPool();
  sh(`ip netns add ${NODE}
    ip -n ${NODE} link set lo up
    ip netns exec ${NODE} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
    ${attach(POD, POD_IP, 'vpod')}
    ${attach(PEER, PEER_IP, 'vpeer')}`);
  for (const name of [NODE, POD, PEER]) fds.set(name, openNetns(`/var/run/netns/${name}`));
  await nftPodRules.apply(fds.get(POD) as number, OPTIONS);
  listen(POD, APP_PORT, undefined);
  listen(PEER, APP_PORT, undefined);
});

after(() => {
  for (const server of servers.values()) server.close();
  for (const fd of fds.values()) closeFd(fd);
  for (const name of [POD, PEER, NODE]) sh(`ip netns del ${name} 2>/dev/null || true`);
});

function listen(name: string, port: number, mark: number | undefined): void {
  servers.set(`${name} ${port}`, tellingServer(fds.get(name) as number, '::', port, mark));
}

const dial = (from: string, host: string, port: number, mark?: number): Promise<string> =>
  askFrom(fds.get(from) as number, host, port, { mark });

test('without ztunnel an enrolled pod is closed both ways, and nothing passes as plaintext', async () => {
  assert.equal(await dial(POD, PEER_IP, APP_PORT), 'ECONNREFUSED');
  assert.equal(await dial(PEER, POD_IP, APP_PORT), 'ECONNREFUSED');
});

test('outbound goes to ztunnel, which reads where to; inbound plaintext and tunnels reach their ports', async () => {
  for (const port of [15_001, 15_006, 15_008]) listen(POD, port, MARK);
  assert.equal(await dial(POD, PEER_IP, APP_PORT), `15001 ${PEER_IP}:${APP_PORT} ${POD_IP}`);
  assert.equal(await dial(PEER, POD_IP, APP_PORT), `15006 ${POD_IP}:${APP_PORT} ${PEER_IP}`);
  assert.match(await dial(PEER, POD_IP, 15_008), /^15008 /);
});

test("ztunnel's own connections pass, and the pod reaches itself", async () => {
  assert.equal(await dial(POD, PEER_IP, APP_PORT, MARK), `${APP_PORT} - ${POD_IP}`);
  assert.match(await dial(POD, '::1', APP_PORT), new RegExp(`^${APP_PORT} `));
});
