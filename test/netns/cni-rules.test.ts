// The redirection rules in the kernel, written by each tool that can: a node and two pods, one enrolled, with stand-ins
// for ztunnel's listeners that say on which port a connection ended up.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { after, before, describe, test } from 'node:test';
import { createHostProbes, type HostRules } from '#cni/rules/host-probes.ts';
import { createIptablesHostRules } from '#cni/rules/iptables-host.ts';
import { createIptablesPodRules } from '#cni/rules/iptables-pod-rules.ts';
import { chooseIptables } from '#cni/rules/iptables-tool.ts';
import type { PodRuleOptions } from '#cni/rules/nft.ts';
import { nftHostRules } from '#cni/rules/nft-host.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import type { PodRules } from '#cni/rules/pod-rules.ts';
import { runToolOrFail } from '#cni/rules/run-tool.ts';
import { closeFd, inNetns, openNetns } from '#linux/netns.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { ip } from '#net/ip.ts';
import { SKIPPED } from './lib/iptables-kinds.ts';
import { askFrom, tellingServer } from './lib/redirected.ts';

const NODE = `cvrul${process.pid}n`;
const POD = `cvrul${process.pid}p`;
const PEER = `cvrul${process.pid}q`;
const POD_IP = '10.244.9.1';
const PEER_IP = '10.244.9.2';
const APP_PORT = 8080;
const MARK = 0x539;
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

/** A routed pair as the emulated kubelet makes it: no bridge, the node is the pod's gateway. */
const attach = (name: string, address: string, host: string): string => `
  ip netns add ${name}
  ip -n ${NODE} link add ${host} type veth peer name eth0 netns ${name}
  ip -n ${NODE} link set ${host} up
  ip -n ${NODE} route add ${address}/32 dev ${host} src 172.31.9.1
  ip -n ${name} link set lo up
  ip -n ${name} link set eth0 up
  ip -n ${name} addr add ${address}/32 dev eth0
  ip -n ${name} route add 172.31.9.1 dev eth0
  ip -n ${name} route add default via 172.31.9.1`;

before(async () => {
  await warmThreadPool();
  sh(`ip netns add ${NODE}
    ip -n ${NODE} link set lo up
    ip -n ${NODE} addr add 172.31.9.1/32 dev lo
    ip netns exec ${NODE} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
    ${attach(POD, POD_IP, 'vpod')}
    ${attach(PEER, PEER_IP, 'vpeer')}`);
  for (const name of [NODE, POD, PEER]) fds.set(name, openNetns(`/var/run/netns/${name}`));
  for (const [port, mark] of [
    [APP_PORT, undefined],
    [15001, MARK],
    [15006, MARK],
    [15008, MARK],
  ] as const)
    listen(POD, port, mark);
  listen(PEER, APP_PORT, undefined);
});

after(() => {
  for (const server of servers) server.close();
  for (const fd of fds.values()) closeFd(fd);
  for (const name of [POD, PEER, NODE]) sh(`ip netns del ${name} 2>/dev/null || true`);
});

function listen(name: string, port: number, mark: number | undefined): void {
  servers.push(tellingServer(netns(name), '0.0.0.0', port, mark));
}

const dial = (
  from: string,
  host: string,
  port: number,
  options: { mark?: number; source?: string } = {},
): Promise<string> => askFrom(netns(from), host, port, options);

/** Tables are listed in the order of their making. */
const sortedLines = (text: string): string => text.split('\n').sort().join('\n');

interface Backend {
  open(): Promise<{ rules: PodRules; host: HostRules }>;
  /** Every rule in the namespace without counters; empty when there is none. */
  rules(name: string): string;
  sets(name: string): string;
}

const iptables = (kind: 'nft' | 'legacy'): Backend => ({
  async open() {
    const tool = await chooseIptables({ forced: kind, runDir: tmpdir() });
    return {
      rules: createIptablesPodRules(tool),
      host: createIptablesHostRules(tool, { ipv6: true, kubeletUid: 0 }, netns(NODE)),
    };
  },
  // Tables and their built-in chains stay once they were used.
  rules: (name) =>
    sh(`for save in iptables-${kind}-save ip6tables-${kind}-save; do
      ip netns exec ${name} $save 2>/dev/null | grep -E '^(-A|:ISTIO)' | sed 's/ \\[[0-9:]*\\]$//'; done; true`),
  sets: (name) => sh(`ip netns exec ${name} ipset save`),
});

const BACKENDS: Readonly<Record<string, Backend>> = {
  nftables: {
    open: async () => ({
      rules: nftPodRules,
      host: nftHostRules({ ipv6: true, kubeletUid: 0 }, async (text, purpose) => {
        await runToolOrFail(netns(NODE), ['nft', '-f', '-'], text, purpose);
      }),
    }),
    rules: (name) =>
      sh(`ip netns exec ${name} nft list ruleset`).replace(/counter packets \d+ bytes \d+/g, 'counter'),
    sets: (name) => sh(`ip netns exec ${name} nft list sets | grep element || true`),
  },
  'iptables-nft': iptables('nft'),
  'iptables-legacy': iptables('legacy'),
};

for (const [name, backend] of Object.entries(BACKENDS))
  describe(name, { skip: SKIPPED[name] ?? false }, () => {
    let rules: PodRules;
    let hostRules: HostRules;
    before(async () => {
      ({ rules, host: hostRules } = await backend.open());
      await rules.apply(netns(POD), OPTIONS);
    });
    after(() => rules.remove(netns(POD), OPTIONS));

    test('what the application sends goes to ztunnel, which can read where to', async () => {
      assert.equal(await dial(POD, PEER_IP, APP_PORT), `15001 ${PEER_IP}:${APP_PORT} ${POD_IP}`);
      // Also what nobody could reach: the decision is ztunnel's.
      assert.equal(await dial(POD, '10.96.0.99', 80), `15001 10.96.0.99:80 ${POD_IP}`);
    });

    test("ztunnel's own connections leave the pod untouched", async () => {
      // The peer is not enrolled, so no redirection is known there.
      assert.equal(await dial(POD, PEER_IP, APP_PORT, { mark: MARK }), `${APP_PORT} - ${POD_IP}`);
    });

    test('plaintext from outside goes to ztunnel, a tunnel goes straight to its port', async () => {
      assert.equal(await dial(PEER, POD_IP, APP_PORT), `15006 ${POD_IP}:${APP_PORT} ${PEER_IP}`);
      assert.equal(await dial(PEER, POD_IP, 9), `15006 ${POD_IP}:9 ${PEER_IP}`);
      assert.match(await dial(PEER, POD_IP, 15008), /^15008 /);
    });

    test('the pod to itself, by its own address and by loopback, is left alone', async () => {
      assert.match(await dial(POD, POD_IP, APP_PORT), new RegExp(`^${APP_PORT} .* ${POD_IP}$`));
      assert.match(await dial(POD, '127.0.0.1', APP_PORT), new RegExp(`^${APP_PORT} .* 127.0.0.1$`));
    });

    test("ztunnel reaches the application with the client's own address, and the answer comes back", async () => {
      for (const source of [PEER_IP, '10.244.77.7'])
        assert.match(
          await dial(POD, POD_IP, APP_PORT, { mark: MARK, source }),
          new RegExp(`^${APP_PORT} .* ${source}$`),
        );
    });

    test('a probe of the node reaches the application; without the set it would be captured', async () => {
      const probes = createHostProbes(hostRules);
      await probes.install([]);
      assert.match(await dial(NODE, POD_IP, APP_PORT), /^15006 .* 172\.31\.9\.1$/);
      await probes.set('uid-1', [ip(POD_IP)]);
      assert.match(await dial(NODE, POD_IP, APP_PORT), new RegExp(`^${APP_PORT} .* 169\\.254\\.7\\.127$`));
      // Forwarded traffic has no socket on the node and stays captured.
      assert.match(await dial(PEER, POD_IP, APP_PORT), /^15006 /);

      // The address went to another pod; the late removal of the first must not take it away.
      await probes.set('uid-2', [ip(POD_IP), ip('fd00::9')]);
      await probes.remove('uid-1');
      assert.match(backend.sets(NODE), /10\.244\.9\.1 comment "uid-2"/);
      assert.match(await dial(NODE, POD_IP, APP_PORT), new RegExp(`^${APP_PORT} `));
      await probes.remove('uid-2');
      assert.match(await dial(NODE, POD_IP, APP_PORT), /^15006 /);

      await probes.install([{ ip: ip(POD_IP), uid: 'uid-3' }]);
      assert.match(await dial(NODE, POD_IP, APP_PORT), new RegExp(`^${APP_PORT} `));
      await probes.uninstall();
      assert.equal(backend.rules(NODE) + backend.sets(NODE), '');
    });

    test('applying twice changes nothing, and every variant is accepted by the kernel', async () => {
      const ruleset = (): string => backend.rules(POD);
      const first = ruleset();
      for (const variant of [
        { ...OPTIONS, dnsCapture: true, virtualInterfaces: ['tap0', 'br-1'] },
        { ...OPTIONS, ipv6: false, dnsCapture: true },
        { ...OPTIONS, bypassInbound: true },
      ])
        await rules.apply(netns(POD), variant);
      // Bypass: plaintext reaches the application, tunnels still ztunnel.
      assert.match(await dial(PEER, POD_IP, APP_PORT), new RegExp(`^${APP_PORT} `));
      assert.match(await dial(PEER, POD_IP, 15008), /^15008 /);
      await rules.apply(netns(POD), OPTIONS);
      await rules.apply(netns(POD), OPTIONS);
      assert.equal(ruleset(), first);
    });

    test('removal leaves the namespace as it was found, twice without complaint', async () => {
      const spare = `cvrul${process.pid}x`;
      sh(`ip netns add ${spare}; ip -n ${spare} link set lo up`);
      const fd = openNetns(`/var/run/netns/${spare}`);
      const state = (): string =>
        backend.rules(spare) +
        sh(
          `ip netns exec ${spare} sh -c 'ip rule; ip -6 rule; ip route show table all; ip -6 route show table all'`,
        );
      try {
        const found = state();
        const DNS = { ...OPTIONS, dnsCapture: true };
        assert.equal(await rules.state(fd, DNS), 'none');
        await rules.remove(fd, { ipv6: true });
        await rules.apply(fd, DNS);
        assert.equal(await rules.state(fd, DNS), 'steering');
        // Rules of another plan, or without their redirection, are not taken for ours.
        assert.equal(await rules.state(fd, OPTIONS), 'other');
        await rules.release(fd, DNS);
        assert.equal(await rules.state(fd, DNS), 'other');
        assert.match(state(), /fwmark 0x111\/0xfff lookup 100/);
        await rules.remove(fd, { ipv6: true });
        await rules.remove(fd, { ipv6: true });
        assert.equal(state(), found);
        assert.equal(await rules.state(fd, DNS), 'none');
        // Step by step it comes to the same.
        await rules.apply(fd, DNS);
        const whole = state();
        await rules.remove(fd, { ipv6: true });
        await rules.track(fd, DNS);
        await rules.steer(fd, DNS);
        assert.equal(await rules.state(fd, DNS), 'steering');
        assert.equal(sortedLines(state()), sortedLines(whole));
      } finally {
        closeFd(fd);
        sh(`ip netns del ${spare}`);
      }
    });

    test('a pod without IPv6 can be enrolled with IPv6 on', async () => {
      const spare = `cvrul${process.pid}y`;
      sh(`ip netns add ${spare}; ip -n ${spare} link set lo up
      ip netns exec ${spare} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6'`);
      const fd = openNetns(`/var/run/netns/${spare}`);
      try {
        await rules.apply(fd, OPTIONS);
        assert.equal(await rules.state(fd, OPTIONS), 'steering');
        await rules.remove(fd, { ipv6: true });
      } finally {
        closeFd(fd);
        sh(`ip netns del ${spare}`);
      }
    });
  });

test('the test itself never left its namespace', () => {
  assert.notEqual(
    inNetns(netns(POD), () => sh('ip -o addr show eth0')),
    '',
  );
  assert.equal(sh(`ip -o addr | grep -c ${POD_IP} || true`).trim(), '0');
});
