// The DNS of captured pods against the real kernel: port 53 redirected by the CNI agent's rules, ztunnel listening inside
// the pod, other names asked from the pod's own address. With PEER_ZTUNNEL the same questions are put to a real ztunnel.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { RecordType } from 'dns-packet';
import { systemClock } from '#base/clock.ts';
import { Scope } from '#base/scope.ts';
import { closeFd, dupFd } from '#linux/netns.ts';
import { udpSocket } from '#linux/socket.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { createLogger } from '#telemetry/log.ts';
import { createInPodCapture } from '#ztunnel/capture/in-pod.ts';
import { openPodDns } from '#ztunnel/capture/in-pod-dns.ts';
import { ListenerStock } from '#ztunnel/capture/listener-stock.ts';
import { podNetns } from '#ztunnel/capture/pod-netns.ts';
import { parseConfig } from '#ztunnel/config.ts';
import { createDataPlane, type DataPlane } from '#ztunnel/owner.ts';
import { PEER_ZTUNNEL } from '../lib/peer-program.ts';
import { until } from '../lib/until.ts';
import { type Answer, query, response } from '../loopback/dns-rig.ts';
import { testAuthority } from '../loopback/ztunnel-rig.ts';
import {
  ANY_SERVER,
  ANY_SERVER_V6,
  askTcp,
  askUdp,
  buildWorld,
  meshOf,
  podIp,
  RESOLVER,
  run,
  SERVICES,
  type World,
  workloadsOf,
} from './lib/dns-world.ts';
import { type PeerZtunnel, startPeer } from './lib/peer-ztunnel.ts';

/** Ours; the real ztunnel's; one with an odd network. */
const PODS = 3;
const scope = new Scope('test');
let world: World;
let plane: DataPlane;
let peer: PeerZtunnel | undefined;
let netnsFd: number;

before(async () => {
  await warmThreadPool();
  world = await buildWorld(PODS, (asked) => [
    response(
      asked,
      asked.questions?.[0]?.name.endsWith('nowhere.test') === true
        ? { flags: 3 }
        : { answers: [{ type: 'A', name: asked.questions?.[0]?.name ?? '', ttl: 7, data: '192.0.2.1' }] },
    ),
  ]);
  const config = {
    ...parseConfig({ NODE_NAME: 'n1', XDS_ADDRESS: '' }),
    adminPort: 0,
    statsPort: 0,
    readinessPort: 0,
  };
  const logControl = { format: 'plain', level: 'warn', write: () => {} } as const;
  const log = createLogger('app', logControl);
  plane = await createDataPlane(
    {
      log,
      logControl,
      clock: systemClock,
      random: Math.random,
      openCapture: createInPodCapture({ log, scope }, config),
      resolvConf: `nameserver ${RESOLVER}\n`,
      ca: (await testAuthority()).client,
      shutdown: () => {},
      onFatal: (error) => assert.fail(error),
    },
    config,
  );
  scope.onClose(() => plane.close());
  plane.store.apply(meshOf(PODS));
  netnsFd = await world.enrol(world.pods[0]!);
  addOurPod();
  if (PEER_ZTUNNEL !== undefined) await startPeerPod(PEER_ZTUNNEL);
});

after(async () => {
  scope.close();
  await peer?.close();
  world.close();
});

function addOurPod(): void {
  const info = { name: 'pod0', namespace: 'shop', serviceAccount: 'default' };
  plane.pods.add('uid-0', info, podNetns(dupFd(netnsFd)));
}

async function startPeerPod(binary: string): Promise<void> {
  peer = await startPeer({
    binary,
    workloads: workloadsOf(PODS),
    services: SERVICES,
    resolvConf: `nameserver ${RESOLVER}\n`,
  });
  const info = { name: 'pod1', namespace: 'shop', serviceAccount: 'default' };
  assert.equal(await peer.send({ kind: 'add', uid: 'uid-1', info }, await world.enrol(world.pods[1]!)), '');
}

/** What an answer says, without what is left to chance: the order, and how it is packed. */
function gist(answer: Answer): string {
  const flags = [
    answer.flag_aa && 'aa',
    answer.flag_tc && 'tc',
    answer.flag_ra && 'ra',
    answer.flag_rd && 'rd',
  ];
  const records = (answer.answers ?? []).map(
    (record) =>
      `${record.name} ${record.type} ${'ttl' in record ? record.ttl : ''} ${'data' in record ? String(record.data) : ''}`,
  );
  const opts = (answer.additionals ?? []).map((record) =>
    record.type === 'OPT' ? `OPT ${record.udpPayloadSize}${record.flag_do ? ' do' : ''}` : record.type,
  );
  const [question] = answer.questions ?? [];
  return [
    `${answer.rcode} ${flags.filter(Boolean).join(' ')}; ${question?.name} ${question?.type}`,
    ...(answer.flag_tc ? [`${records.length} records`] : records.sort()),
    ...opts,
  ].join('; ');
}

const opt = (udpPayloadSize: number, isDnssec = false) => ({
  additionals: [
    {
      type: 'OPT' as const,
      name: '.' as const,
      udpPayloadSize,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: isDnssec ? 0x8000 : 0,
      flag_do: isDnssec,
      options: [],
    },
  ],
});

const OWN = 'NOERROR aa ra rd';
const TABLE: readonly {
  readonly name: string;
  readonly type?: RecordType;
  readonly more?: Parameters<typeof query>[2];
  readonly expected: string;
  /** Where the real one says something else. */
  readonly theirs?: string;
}[] = [
  { name: 'web', expected: `${OWN}; web A; web A 30 10.96.0.7` },
  { name: 'web.shop', expected: `${OWN}; web.shop A; web.shop A 30 10.96.0.7` },
  { name: 'Web.Shop.svc', expected: `${OWN}; Web.Shop.svc A; web.shop.svc A 30 10.96.0.7` },
  {
    name: 'web.shop.svc.cluster.local',
    type: 'AAAA',
    expected: `${OWN}; web.shop.svc.cluster.local AAAA; web.shop.svc.cluster.local AAAA 30 fd96::7`,
  },
  {
    name: 'web.shop.shop.svc.cluster.local',
    expected: `${OWN}; web.shop.shop.svc.cluster.local A; web.shop A 30 10.96.0.7; web.shop.shop.svc.cluster.local CNAME 30 web.shop`,
  },
  { name: 'ledger.bank', expected: `${OWN}; ledger.bank A; ledger.bank A 30 10.96.0.9` },
  { name: 'v4', type: 'AAAA', expected: `${OWN}; v4 AAAA` },
  { name: 'far', expected: `${OWN}; far A` },
  { name: 'none.shop', expected: `${OWN}; none.shop A` },
  { name: 'db', expected: `${OWN}; db A; db A 30 10.1.0.1; db A 30 10.1.0.2` },
  { name: 'db', type: 'AAAA', expected: `${OWN}; db AAAA; db AAAA 30 fd01::1; db AAAA 30 fd01::2` },
  { name: 'api.example.com', expected: `${OWN}; api.example.com A; api.example.com A 30 240.240.0.1` },
  { name: 'api.example.com', type: 'AAAA', expected: `${OWN}; api.example.com AAAA` },
  {
    name: 'api.example.com.svc.cluster.local',
    expected: `${OWN}; api.example.com.svc.cluster.local A; api.example.com A 30 240.240.0.1; api.example.com.svc.cluster.local CNAME 30 api.example.com`,
  },
  { name: 'a.b.wild.example', expected: `${OWN}; a.b.wild.example A; a.b.wild.example A 30 240.240.0.2` },
  { name: 'twin.example', expected: `${OWN}; twin.example A; twin.example A 30 240.240.0.4` },
  {
    name: 'web',
    more: opt(1232, true),
    expected: `${OWN}; web A; web A 30 10.96.0.7; OPT 1232 do`,
  },
  { name: 'hidden.example', expected: 'NOERROR ra rd; hidden.example A; hidden.example A 7 192.0.2.1' },
  { name: 'bare.example.com', expected: 'NOERROR ra rd; bare.example.com A; bare.example.com A 7 192.0.2.1' },
  { name: 'pod.web.shop', expected: 'NOERROR ra rd; pod.web.shop A; pod.web.shop A 7 192.0.2.1' },
  { name: 'www.example.org', expected: 'NOERROR ra rd; www.example.org A; www.example.org A 7 192.0.2.1' },
  {
    name: 'nowhere.test',
    expected: 'NXDOMAIN ra rd; nowhere.test A',
    theirs: 'NXDOMAIN rd; nowhere.test A',
  },
];

for (const { name, type = 'A', more = {}, expected, theirs = expected } of TABLE)
  test(`${name} ${type}${more.additionals === undefined ? '' : ' with EDNS'}`, async () => {
    const message = query(name, type, { flags: 1 << 8, ...more });
    assert.equal(gist(await askUdp(world.pods[0]!, ANY_SERVER, message)), expected);
    if (peer !== undefined) {
      assert.equal(gist(await askUdp(world.pods[1]!, ANY_SERVER, message)), theirs, 'the real ztunnel');
    }
  });

test('over TCP, and over IPv6, to servers that nobody has', async () => {
  for (const ask of [askUdp, askTcp])
    for (const server of [ANY_SERVER, ANY_SERVER_V6])
      for (const pod of peer === undefined ? [0] : [0, 1])
        assert.equal(
          gist(await ask(world.pods[pod]!, server, query('web'))),
          `${OWN}; web A; web A 30 10.96.0.7`,
          `${ask.name} ${server} pod ${pod}`,
        );
});

test('sixty addresses: cut over UDP, whole over TCP', async () => {
  for (const pod of peer === undefined ? [0] : [0, 1]) {
    const first = await askUdp(world.pods[pod]!, ANY_SERVER, query('big'));
    // The real one sends 977 bytes to an asker that did not say it takes more than 512.
    assert.equal(first.flag_tc, pod === 0);
    const whole = await askTcp(world.pods[pod]!, ANY_SERVER, query('big'));
    assert.deepEqual(
      [whole.flag_tc, new Set(whole.answers?.map((one) => JSON.stringify(one))).size],
      [false, 60],
    );
  }
});

test('other names are asked from the pod’s own address, and never come round again', async () => {
  world.asked.length = 0;
  await askUdp(world.pods[0]!, ANY_SERVER, query('fresh.example.org'));
  await askTcp(world.pods[0]!, ANY_SERVER, query('fresh.example.org'));
  assert.deepEqual(world.asked, [
    { name: 'fresh.example.org', from: podIp(0), protocol: 'udp' },
    { name: 'fresh.example.org', from: podIp(0), protocol: 'tcp' },
  ]);
});

test('without its ztunnel a pod’s DNS fails at once and leaves the pod nowhere; with it again it works', async () => {
  plane.pods.remove('uid-0');
  world.asked.length = 0;
  await assert.rejects(askUdp(world.pods[0]!, RESOLVER, query('example.org')), /ECONNREFUSED/);
  await assert.rejects(askTcp(world.pods[0]!, RESOLVER, query('example.org')), /ECONNREFUSED/);
  assert.deepEqual(world.asked, []);
  addOurPod();
  assert.equal((await askUdp(world.pods[0]!, RESOLVER, query('example.org'))).rcode, 'NOERROR');
});

test('a pod without IPv6 on its loopback is served over IPv4; one whose port 15053 is taken is refused', async () => {
  const pod = world.pods[2]!;
  run(`ip netns exec ${pod} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6'`);
  const fd = await world.enrol(pod);
  const info = { name: 'pod2', namespace: 'shop', serviceAccount: 'default' };
  const add = (): void => {
    const own = dupFd(fd);
    try {
      plane.pods.add('uid-2', info, { id: 'odd', fd: own, close: () => closeFd(own) });
    } catch (error) {
      closeFd(own);
      throw error;
    }
  };
  const bind = { ip: ip('127.0.0.1'), port: 15_053, reusePort: false };
  const taken = udpSocket({ family: 4, netnsFd: fd, bind });
  assert.throws(add, /UDP socket on 127\.0\.0\.1 port 15053.*EADDRINUSE/);
  closeFd(taken);
  add();
  assert.equal(gist(await askUdp(pod, ANY_SERVER, query('web'))), `${OWN}; web A; web A 30 10.96.0.7`);
  plane.pods.remove('uid-2');
});

test('a server on a loopback address is asked in ztunnel’s own network', async () => {
  const own = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  await once(own, 'listening');
  const port = own.address().port as Port;
  const options = { packetMark: 1337, reusePort: false, dnsProxy: { ips: [ip('127.0.0.1')], port: 15_099 } };
  const sockets = openPodDns(options, { id: 'odd', fd: netnsFd });
  const server = { ip: ip('127.0.0.1'), port };
  const asking = sockets.udp(server);
  try {
    asking.connect(port, server.ip, () => asking.send('hello'));
    assert.equal(String((await once(own, 'message'))[0]), 'hello');
  } finally {
    asking.close();
    sockets.close();
    own.close();
  }
});

test('a query that waits in the socket of a ztunnel that ends is answered by its successor', async () => {
  const port = 15_098;
  const bind = { ip: ip('127.0.0.1'), port, reusePort: false };
  const old = udpSocket({ family: 4, netnsFd, bind });
  const stock = new ListenerStock();
  const socket = { netnsId: 'odd', port, of: 'udp 127.0.0.1', transparent: false };
  stock.inherit({ ...socket, fd: dupFd(old) });
  const asker = dgram.createSocket('udp4').bind({ fd: udpSocket({ family: 4, netnsFd }) });
  await new Promise<void>((resolve) => asker.send('?', port, '127.0.0.1', () => resolve()));
  closeFd(old);
  const options = { packetMark: undefined, reusePort: false, dnsProxy: { ips: [bind.ip], port } };
  const sockets = openPodDns(options, { id: 'odd', fd: netnsFd }, stock);
  assert.equal(String((await once(sockets.datagrams[0]!, 'message'))[0]), '?');
  // Offered on to the next one, with the listener for TCP, until it closes.
  const offered: (string | undefined)[] = [];
  stock.follow(({ of }) => offered.push(of))();
  assert.deepEqual(offered, ['udp 127.0.0.1', 'tcp 127.0.0.1']);
  sockets.close();
  asker.close();
  assert.equal(stock.inUseCount, 0);
});

test('pods that come and go leave no descriptor behind', async () => {
  const open = (): number => readdirSync('/proc/self/fd').length;
  const cycle = async (): Promise<void> => {
    plane.pods.remove('uid-0');
    addOurPod();
    await askUdp(world.pods[0]!, ANY_SERVER, query('example.org'));
  };
  await cycle();
  await new Promise((resolve) => setImmediate(resolve));
  const before = open();
  for (let round = 0; round < 50; round++) await cycle();
  await until(`the ${before} descriptors of before, and a few`, () => open() <= before + 4);
});
