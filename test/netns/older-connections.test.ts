// Connections that are older than a pod's enrolment, in the kernel: they live on beside the redirection, are listed, and
// can be closed; everything that is not known as older is redirected or reset, never passed.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { createIptablesPodRules } from '#cni/rules/iptables-pod-rules.ts';
import { chooseIptables } from '#cni/rules/iptables-tool.ts';
import type { PodRuleOptions } from '#cni/rules/nft.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import {
  carriedConnections,
  closeOlderConnections,
  cutCarriedConnections,
  forgetEndedConnections,
  forgetFormerEnrolment,
  forgetLostConnections,
  keepOlderConnections,
  olderConnections,
  servedConnections,
} from '#cni/rules/older-connections.ts';
import type { PodRules } from '#cni/rules/pod-rules.ts';
import { forgetFlows, trackConnections } from '#linux/conntrack.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import { closeTcpSockets, listTcpSockets, type TcpSocket } from '#linux/tcp-sockets.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { ip } from '#net/ip.ts';
import { until } from '../lib/until.ts';
import { SKIPPED } from './lib/iptables-kinds.ts';

const POD = `cvold${process.pid}p`;
const PEER = `cvold${process.pid}q`;
const POD_IPS = ['10.244.8.1', 'fd00:8::1'] as const;
const PEER_IPS = ['10.244.8.2', 'fd00:8::2'] as const;
const PORT = 8080;
const OPTIONS: PodRuleOptions = {
  ipv6: true,
  dnsCapture: false,
  bypassInbound: false,
  virtualInterfaces: [],
};

const sh = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const fds = new Map<string, number>();
const netns = (name: string): number => fds.get(name)!;
const servers: net.Server[] = [];
const sockets = new Set<net.Socket>();

before(async () => {
  await warmThreadPool();
  sh(`ip netns add ${POD}; ip netns add ${PEER}
    ip -n ${POD} link add eth0 type veth peer name eth0 netns ${PEER}
    for name in ${POD} ${PEER}; do ip -n $name link set lo up; ip -n $name link set eth0 up; done
    ip -n ${POD} addr add 10.244.8.1/24 dev eth0; ip -n ${POD} addr add fd00:8::1/64 dev eth0 nodad
    ip -n ${PEER} addr add 10.244.8.2/24 dev eth0; ip -n ${PEER} addr add fd00:8::2/64 dev eth0 nodad`);
  for (const name of [POD, PEER]) fds.set(name, openNetns(`/var/run/netns/${name}`));
  for (const name of [POD, PEER]) echo(name, PORT);
  for (const port of [15001, 15006]) echo(POD, port, 0x539);
});

after(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
  for (const fd of fds.values()) closeFd(fd);
  for (const name of [POD, PEER]) sh(`ip netns del ${name} 2>/dev/null || true`);
});

/** Answers each line with "PORT: line", and ends at `bye` or `reset`. */
function echo(name: string, port: number, mark?: number): void {
  const { fd } = listenTcp({ ip: '::', port, netnsFd: netns(name), ...(mark === undefined ? {} : { mark }) });
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      if (String(chunk) === 'bye') socket.end();
      else if (String(chunk) === 'reset') socket.resetAndDestroy();
      else socket.write(`${port}: ${chunk}`);
    });
  });
  servers.push(server);
  server.listen({ fd });
}

async function dial(from: string, host: string, localPort?: number): Promise<net.Socket> {
  const fd = tcpSocket({ family: host.includes(':') ? 6 : 4, netnsFd: netns(from) });
  const socket = new net.Socket({ fd }).on('error', () => {});
  sockets.add(socket);
  socket.connect({ host, port: PORT, ...(localPort === undefined ? {} : { localPort }) });
  await once(socket, 'connect');
  return socket;
}

async function reach(source: string, host: string): Promise<net.Socket> {
  const fd = tcpSocket({
    family: host.includes(':') ? 6 : 4,
    netnsFd: netns(POD),
    mark: 0x539,
    bindSource: { ip: ip(source) },
  });
  const socket = new net.Socket({ fd }).on('error', () => {});
  sockets.add(socket);
  socket.connect({ host, port: PORT });
  await once(socket, 'connect');
  return socket;
}

function say(socket: net.Socket, text: string): Promise<string> {
  return new Promise((resolve) => {
    socket.once('data', (chunk) => resolve(String(chunk)));
    socket.once('close', () => resolve('closed'));
    socket.write(text);
  });
}

async function closeAll(): Promise<void> {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await until(
    'the connections are closed',
    () => carriedConnections(listTcpSockets(netns(POD))).length === 0,
  );
}

/** Both ends of these connections, in both namespaces. */
async function vanish(connections: readonly net.Socket[]): Promise<void> {
  const gone = new Set(
    connections.map(({ localAddress, localPort, remoteAddress }) =>
      [`${localAddress} ${localPort}`, `${remoteAddress} ${PORT}`].sort().join(),
    ),
  );
  const ends = (name: string): TcpSocket[] =>
    listTcpSockets(netns(name)).filter(({ localIp, localPort, remoteIp, remotePort }) =>
      gone.has([`${localIp} ${localPort}`, `${remoteIp} ${remotePort}`].sort().join()),
    );
  for (const name of [POD, PEER]) closeTcpSockets(netns(name), ends(name));
  await until('the sockets are gone', () => [POD, PEER].every((name) => ends(name).length === 0));
}

const ends = (): string[] =>
  olderConnections(netns(POD))
    .map(({ direction, local, remote }) => {
      const [inside, outside] = direction === 'inbound' ? [local.port, ''] : ['', remote.port];
      return `${direction} ${local.ip}${inside === '' ? '' : `:${inside}`} ${remote.ip}${outside === '' ? '' : `:${outside}`}`;
    })
    .sort();

/** One connection of each family and direction; of IPv4 from this port and of IPv6 from the next, unless the kernel is to choose. */
const dialAll = (localPort?: number): Promise<net.Socket[]> =>
  Promise.all(
    ([POD, PEER] as const).flatMap((from) =>
      (from === POD ? PEER_IPS : POD_IPS).map((host, family) =>
        dial(from, host, localPort === undefined ? undefined : localPort + family),
      ),
    ),
  );

const ALL = [
  'inbound 10.244.8.1:8080 10.244.8.2',
  'inbound fd00:8::1:8080 fd00:8::2',
  'outbound 10.244.8.1 10.244.8.2:8080',
  'outbound fd00:8::1 fd00:8::2:8080',
];

const BACKENDS: Readonly<Record<string, () => Promise<PodRules>>> = {
  nftables: () => Promise.resolve(nftPodRules),
  'iptables-nft': async () =>
    createIptablesPodRules(await chooseIptables({ forced: 'nft', runDir: tmpdir() })),
  'iptables-legacy': async () =>
    createIptablesPodRules(await chooseIptables({ forced: 'legacy', runDir: tmpdir() })),
};

for (const [name, open] of Object.entries(BACKENDS))
  describe(name, { skip: SKIPPED[name] ?? false }, () => {
    let rules: PodRules;
    before(async () => {
      rules = await open();
    });
    after(closeAll);

    test('older connections live on, new ones are redirected, and both are told apart', async () => {
      const older = await dialAll();
      for (const socket of older) assert.equal(await say(socket, 'before'), '8080: before');

      await rules.track(netns(POD), OPTIONS);
      // One that begins between the two steps is older as well.
      older.push(await dial(POD, PEER_IPS[0]));
      assert.equal(keepOlderConnections(netns(POD)), 5);
      await rules.steer(netns(POD), OPTIONS);

      for (const socket of older) assert.equal(await say(socket, 'after'), '8080: after');
      const [out4, out6, in4, in6] = (await dialAll()) as [net.Socket, net.Socket, net.Socket, net.Socket];
      for (const socket of [out4, out6]) assert.equal(await say(socket, 'new'), '15001: new');
      for (const socket of [in4, in6]) assert.equal(await say(socket, 'new'), '15006: new');
      assert.deepEqual(ends(), [...ALL, ALL[2]].sort());

      // An older connection that the kernel forgets is reset, and a redirected one is redirected again: nothing new gets
      // past ztunnel.
      forgetFlows(netns(POD), () => true);
      assert.equal(await say(older[0]!, 'forgotten'), 'closed');
      assert.equal(await say(older[2]!, 'forgotten'), 'closed');
      assert.equal(await say(out4, 'forgotten'), '15001: forgotten');
      await rules.remove(netns(POD), OPTIONS);
      await closeAll();
    });

    test('older connections can be closed, and only they are', async () => {
      const older = await dialAll();
      await rules.track(netns(POD), OPTIONS);
      keepOlderConnections(netns(POD));
      await rules.steer(netns(POD), OPTIONS);
      const [young] = await dialAll();
      assert.deepEqual(ends(), ALL);
      const closed = older.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
      closeOlderConnections(netns(POD), olderConnections(netns(POD)));
      await Promise.all(closed);
      assert.deepEqual(ends(), []);
      assert.equal(await say(young!, 'still here'), '15001: still here');

      // The other way round: no longer steered, what is redirected goes on and what is new goes its own way.
      await rules.release(netns(POD), OPTIONS);
      assert.equal(await say(young!, 'going on'), '15001: going on');
      assert.equal(await say(await dial(POD, PEER_IPS[0]), 'direct'), '8080: direct');
      await rules.remove(netns(POD), OPTIONS);
      await closeAll();
    });

    test('a connection that was answered between its listing and its entry hung', async () => {
      const older = await dialAll();
      await rules.track(netns(POD), OPTIONS);
      const entered = carriedConnections(listTcpSockets(netns(POD))).map(({ direction, local, remote }) =>
        direction === 'outbound'
          ? { from: local, to: remote, stage: 'connecting' as const }
          : { from: remote, to: local, stage: 'accepting' as const },
      );
      assert.equal(entered.length, 4);
      trackConnections(netns(POD), entered);
      await rules.steer(netns(POD), OPTIONS);
      for (const socket of older) assert.equal(await say(socket, 'after'), '8080: after');
      await rules.remove(netns(POD), OPTIONS);
      await closeAll();
    });

    test('a connection hung that has the ports of one from the enrolment before', async () => {
      await rules.apply(netns(POD), OPTIONS);
      const carried = await dialAll(47_010);
      for (const socket of carried) assert.match(await say(socket, 'x'), /^1500[16]: x$/);
      // ztunnel closes first, so that no socket keeps the client's port.
      for (const socket of carried) assert.equal(await say(socket, 'bye'), 'closed');
      await rules.remove(netns(POD), OPTIONS);

      const older = await dialAll(47_010);
      for (const socket of older) assert.equal(await say(socket, 'before'), '8080: before');
      forgetFormerEnrolment(netns(POD));
      await rules.track(netns(POD), OPTIONS);
      assert.equal(keepOlderConnections(netns(POD)), 4);
      await rules.steer(netns(POD), OPTIONS);
      for (const socket of older) assert.equal(await say(socket, 'after'), '8080: after');
      await rules.remove(netns(POD), OPTIONS);
      await closeAll();
    });

    test('a new connection with the ports of an older one, which its far end has reset, went past ztunnel', async () => {
      // So that the kernel forgets in time for the second try.
      const rememberFor = (seconds: number): string =>
        sh(`ip netns exec ${POD} sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=${seconds}`);
      rememberFor(1);
      try {
        const older = await dialAll(47_020);
        forgetFormerEnrolment(netns(POD));
        await rules.track(netns(POD), OPTIONS);
        keepOlderConnections(netns(POD));
        await rules.steer(netns(POD), OPTIONS);
        for (const socket of older) assert.equal(await say(socket, 'reset'), 'closed');
        for (const socket of await dialAll(47_020)) assert.match(await say(socket, 'new'), /^1500[16]: new$/);
      } finally {
        rememberFor(10);
        await rules.remove(netns(POD), OPTIONS);
        await closeAll();
      }
    });

    test('a new connection with the ports of an older one, both ends of which vanished without a word, was dropped for days', async () => {
      const older = await dialAll(47_040);
      forgetFormerEnrolment(netns(POD));
      await rules.track(netns(POD), OPTIONS);
      keepOlderConnections(netns(POD));
      await rules.steer(netns(POD), OPTIONS);
      // Before connection tracking, so that it sees no end.
      sh(`ip netns exec ${POD} nft '
        add table inet silent
        add chain inet silent in { type filter hook prerouting priority -310; policy drop; }
        add chain inet silent out { type filter hook output priority -310; policy drop; }'`);
      try {
        await vanish(older.slice(0, 2));
        assert.equal(forgetLostConnections(netns(POD), POD_IPS.map(ip)), 2);
        await vanish(older.slice(2));
        assert.equal(forgetLostConnections(netns(POD), [ip('10.244.8.9')]), 0, 'not of this pod');
        assert.equal(forgetLostConnections(netns(POD), POD_IPS.map(ip)), 2);
      } finally {
        sh(`ip netns exec ${POD} nft delete table inet silent`);
      }
      for (const socket of await dialAll(47_040)) assert.match(await say(socket, 'new'), /^1500[16]: new$/);
      await rules.remove(netns(POD), OPTIONS);
      await closeAll();
    });

    test('a new connection of a pod that leaves was refused when it had the ports of one that ztunnel had reset', async () => {
      await rules.apply(netns(POD), OPTIONS);
      const open = await dialAll();
      const carried = await dialAll(47_030);
      for (const socket of carried) assert.equal(await say(socket, 'reset'), 'closed');
      await rules.release(netns(POD), OPTIONS);
      assert.equal(forgetEndedConnections(netns(POD)), 4);
      for (const socket of await dialAll(47_030)) assert.equal(await say(socket, 'new'), '8080: new');
      for (const socket of open) assert.match(await say(socket, 'going on'), /^1500[16]: going on$/);
      await rules.remove(netns(POD), OPTIONS);
      await closeAll();
    });

    test('one that is not answered until the pod is enrolled goes on as an older one', async () => {
      sh(`ip netns exec ${PEER} nft '
        add table inet full
        add chain inet full input { type filter hook input priority 10; }
        add rule inet full input tcp dport ${PORT} tcp flags & (syn | ack) == syn drop'`);
      try {
        const begun = PEER_IPS.map((host) => {
          const fd = tcpSocket({ family: host.includes(':') ? 6 : 4, netnsFd: netns(POD) });
          const socket = new net.Socket({ fd }).on('error', () => {});
          sockets.add(socket);
          return socket.connect({ host, port: PORT });
        });
        await until(
          'both have begun',
          () => listTcpSockets(netns(POD)).filter(({ state }) => state === 'connecting').length === 2,
        );
        await rules.track(netns(POD), OPTIONS);
        assert.equal(keepOlderConnections(netns(POD)), 2);
        await rules.steer(netns(POD), OPTIONS);
        const connected = begun.map((socket) => once(socket, 'connect'));
        sh(`ip netns exec ${PEER} nft delete table inet full`);
        await Promise.all(connected);
        for (const socket of begun) assert.equal(await say(socket, 'late'), '8080: late');
      } finally {
        sh(`ip netns exec ${PEER} nft delete table inet full 2>/dev/null || true`);
        await rules.remove(netns(POD), OPTIONS);
        await closeAll();
      }
    });

    test('a connection whose first packet is still on its way to ztunnel is waited for', async () => {
      await rules.apply(netns(POD), OPTIONS);
      // As when ztunnel has no place for another one just now: the application sends its first packet again in a second.
      sh(`ip netns exec ${POD} nft '
        add table inet full
        add chain inet full input { type filter hook input priority 10; }
        add rule inet full input tcp dport 15001 tcp flags & (syn | ack) == syn drop'`);
      try {
        // What other tests have left behind ends here.
        const left = listTcpSockets(netns(POD)).filter(({ state }) => state !== 'listening');
        closeTcpSockets(netns(POD), left);
        forgetFlows(netns(POD), () => true);
        await until('nothing is open', () => servedConnections(netns(POD)) === 0);
        const fd = tcpSocket({ family: 4, netnsFd: netns(POD) });
        const socket = new net.Socket({ fd }).on('error', () => {});
        sockets.add(socket);
        socket.connect({ host: PEER_IPS[0], port: PORT });
        await until('it has begun', () => servedConnections(netns(POD)) === 1);
        await rules.release(netns(POD), OPTIONS);
        sh(`ip netns exec ${POD} nft delete table inet full`);
        await once(socket, 'connect');
        assert.equal(await say(socket, 'late'), '15001: late');
      } finally {
        sh(`ip netns exec ${POD} nft delete table inet full 2>/dev/null || true`);
        await rules.remove(netns(POD), OPTIONS);
        await closeAll();
      }
    });

    test('what connection tracking calls invalid does not leave the pod readable', async () => {
      // Nothing is then taken for a connection that does not begin with its first packet.
      sh(`ip netns exec ${POD} sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0`);
      sh(`ip netns exec ${PEER} nft '
        add table inet seen
        add chain inet seen input { type filter hook input priority 0; }
        add rule inet seen input tcp flags & psh == psh counter'`);
      try {
        await rules.apply(netns(POD), OPTIONS);
        const redirected = await Promise.all([dial(POD, PEER_IPS[0]), dial(POD, PEER_IPS[1])]);
        const carried = await Promise.all(PEER_IPS.map((source, family) => reach(source, POD_IPS[family]!)));
        for (const socket of redirected) assert.equal(await say(socket, 'x'), '15001: x');
        for (const socket of carried) assert.equal(await say(socket, 'x'), '8080: x');
        forgetFlows(netns(POD), () => true);
        for (const socket of [...redirected, ...carried]) socket.write('secret');
        // Each is sent a second time a fifth of a second later.
        await new Promise((resolve) => setTimeout(resolve, 500));
        const seen = sh(`ip netns exec ${PEER} nft list table inet seen`);
        assert.match(seen, /counter packets 0 /);
      } finally {
        sh(`ip netns exec ${PEER} nft delete table inet seen`);
        sh(`ip netns exec ${POD} sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1`);
        await rules.remove(netns(POD), OPTIONS);
        await closeAll();
      }
    });

    test('what ztunnel carried does not go on readable when the redirection is taken out', async () => {
      const older = await dialAll();
      await rules.track(netns(POD), OPTIONS);
      keepOlderConnections(netns(POD));
      await rules.steer(netns(POD), OPTIONS);
      const [out4, out6] = await dialAll();
      // As ztunnel reaches the application for a peer: with the peer's address.
      const carried = await Promise.all(PEER_IPS.map((source, family) => reach(source, POD_IPS[family]!)));
      for (const socket of [out4!, out6!]) assert.equal(await say(socket, 'x'), '15001: x');
      for (const socket of carried) assert.equal(await say(socket, 'x'), '8080: x');
      await rules.release(netns(POD), OPTIONS);
      const direct = await dialAll();

      const ended = [out4!, out6!, ...carried].map(
        (socket) => new Promise((resolve) => socket.once('close', resolve)),
      );
      assert.equal(cutCarriedConnections(netns(POD)), 4);
      await Promise.all(ended);
      await rules.remove(netns(POD), OPTIONS);
      for (const socket of [...older, ...direct]) assert.equal(await say(socket, 'on'), '8080: on');
      assert.deepEqual(carriedConnections(listTcpSockets(netns(POD))).length, older.length + direct.length);
    });
  });
