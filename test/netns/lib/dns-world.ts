// A router with a DNS server, pods behind it with the CNI agent's rules, and a mesh that both our ztunnel and a real one
// can be given: as a store's content, and as the field's static file.

import { execFileSync } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { decode } from 'dns-packet';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { framed } from '#dns/tcp-exchange.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { listenTcp, tcpSocket, udpSocket } from '#linux/socket.ts';
import { serviceOf, workloadOf } from '#model/samples.ts';
import type { Service } from '#model/service.ts';
import type { StoreUpdate } from '#model/store.ts';
import { serviceKey, type Workload, type WorkloadUid } from '#model/workload.ts';
import { familyOf, ip } from '#net/ip.ts';
import { type Answer, type Behaviour, decodeAnswer, readMessages } from '../../loopback/dns-rig.ts';

export const run = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

export interface World {
  readonly pods: readonly string[];
  readonly router: string;
  /** Names asked of the router's DNS server, with the address each came from. */
  readonly asked: { readonly name: string; readonly from: string; readonly protocol: 'udp' | 'tcp' }[];
  enrol(pod: string): Promise<number>;
  close(): void;
}

export const RESOLVER = '10.9.0.53';
/** Nobody is there: an answer can only come from whoever captured the query. */
export const ANY_SERVER = '198.51.100.53';
export const ANY_SERVER_V6 = '2001:db8:ffff::53';

export const podIp = (index: number): string => `10.9.${index + 1}.2`;
const podIpV6 = (index: number): string => `fd09:${index + 1}::2`;

export async function buildWorld(podCount: number, answer: Behaviour): Promise<World> {
  const prefix = `cvdns${process.pid}`;
  const router = `${prefix}r`;
  const pods = Array.from({ length: podCount }, (_, index) => `${prefix}${'abcdef'[index]}`);
  run(`ip netns add ${router}; ip -n ${router} link set lo up
    ip -n ${router} addr add ${RESOLVER}/32 dev lo
    ip netns exec ${router} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'`);
  for (const [index, pod] of pods.entries())
    run(`ip netns add ${pod}; ip -n ${pod} link set lo up
      ip -n ${router} link add veth${index} type veth peer name eth0 netns ${pod}
      ip -n ${router} addr add 10.9.${index + 1}.1/24 dev veth${index}
      ip -n ${router} addr add fd09:${index + 1}::1/64 dev veth${index} nodad
      ip -n ${router} link set veth${index} up
      ip -n ${pod} addr add ${podIp(index)}/24 dev eth0
      ip -n ${pod} addr add ${podIpV6(index)}/64 dev eth0 nodad
      ip -n ${pod} link set eth0 up
      ip -n ${pod} route add default via 10.9.${index + 1}.1
      ip -n ${pod} -6 route add default via fd09:${index + 1}::1`);
  const asked: World['asked'] = [];
  const routerFd = openNetns(`/var/run/netns/${router}`);
  const server = serveResolver(routerFd, (bytes, from, protocol) => {
    const query = decode(bytes);
    asked.push({ name: query.questions?.[0]?.name ?? '', from, protocol });
    return answer(query, protocol);
  });
  await server.ready;
  const fds = [routerFd];
  return {
    pods,
    router,
    asked,
    enrol: async (pod) => {
      const fd = openNetns(`/var/run/netns/${pod}`);
      fds.push(fd);
      await nftPodRules.apply(fd, {
        ipv6: true,
        dnsCapture: true,
        bypassInbound: false,
        virtualInterfaces: [],
      });
      return fd;
    },
    close: () => {
      server.close();
      for (const fd of fds) closeFd(fd);
      for (const name of [...pods, router]) run(`ip netns del ${name} 2>/dev/null || true`);
    },
  };
}

function serveResolver(
  netnsFd: number,
  answersTo: (bytes: Buffer, from: string, protocol: 'udp' | 'tcp') => readonly Buffer[],
): { readonly ready: Promise<unknown>; close(): void } {
  const bind = { ip: ip(RESOLVER), port: 53, reusePort: false };
  const datagram = dgram.createSocket('udp4').bind({ fd: udpSocket({ family: 4, netnsFd, bind }) });
  datagram.on('message', (bytes, from) => {
    for (const answer of answersTo(bytes, from.address, 'udp'))
      datagram.send(answer, from.port, from.address);
  });
  const open = new Set<net.Socket>();
  const listener = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => {});
    readMessages(socket, (bytes) => {
      for (const answer of answersTo(bytes, socket.remoteAddress ?? '', 'tcp')) socket.write(framed(answer));
    });
  });
  listener.listen({ fd: listenTcp({ ip: RESOLVER, port: 53, netnsFd }).fd });
  return {
    ready: once(listener, 'listening'),
    close: () => {
      datagram.close();
      listener.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** An application's query over UDP from inside a pod; rejects with what the kernel reports. */
export async function askUdp(pod: string, server: string, message: Buffer): Promise<Answer> {
  const netnsFd = openNetns(`/var/run/netns/${pod}`);
  const family = familyOf(ip(server));
  const socket = dgram.createSocket(`udp${family}`);
  try {
    socket.bind({ fd: udpSocket({ family, netnsFd }) });
    // Connected, so that a port where nobody listens is reported, and answers from elsewhere are dropped.
    socket.connect(53, server);
    await once(socket, 'connect');
    socket.send(message);
    const [bytes] = (await once(socket, 'message', { signal: AbortSignal.timeout(15_000) })) as [Buffer];
    return decodeAnswer(bytes);
  } finally {
    socket.close();
    closeFd(netnsFd);
  }
}

export async function askTcp(pod: string, server: string, message: Buffer): Promise<Answer> {
  const netnsFd = openNetns(`/var/run/netns/${pod}`);
  const fd = tcpSocket({ family: familyOf(ip(server)), netnsFd });
  closeFd(netnsFd);
  const socket = new net.Socket({ fd } as net.SocketConstructorOpts).connect({ host: server, port: 53 });
  const done = Promise.withResolvers<Answer>();
  socket.on('error', done.reject);
  socket.on('close', () => done.reject(new Error('closed without an answer')));
  readMessages(socket, (bytes) => done.resolve(decodeAnswer(bytes)));
  socket.write(framed(message));
  try {
    return await done.promise;
  } finally {
    socket.destroy();
  }
}

const vip = (address: string, network = '') => ({ network, ip: ip(address) });
const db = serviceOf({ name: 'db', namespace: 'shop' });
const big = serviceOf({ name: 'big', namespace: 'shop' });

export const SERVICES: readonly Service[] = [
  serviceOf({ name: 'web', namespace: 'shop', vips: [vip('10.96.0.7'), vip('fd96::7')], canonical: true }),
  serviceOf({ name: 'v4', namespace: 'shop', vips: [vip('10.96.0.8')], ipFamilies: 'IPv4' }),
  serviceOf({ name: 'ledger', namespace: 'bank', vips: [vip('10.96.0.9')] }),
  serviceOf({ name: 'far', namespace: 'shop', vips: [vip('10.96.0.10', 'elsewhere')] }),
  db,
  big,
  serviceOf({ name: 'none', namespace: 'shop' }),
  serviceOf({ name: 'api', namespace: 'shop', hostname: 'api.example.com', vips: [vip('240.240.0.1')] }),
  serviceOf({ name: 'wild', namespace: 'shop', hostname: '*.wild.example', vips: [vip('240.240.0.2')] }),
  serviceOf({ name: 'bare', namespace: 'shop', hostname: 'bare.example.com' }),
  serviceOf({ name: 'twin', namespace: 'bank', hostname: 'twin.example', vips: [vip('240.240.0.3')] }),
  serviceOf({
    name: 'twin',
    namespace: 'else',
    hostname: 'twin.example',
    vips: [vip('240.240.0.4')],
    canonical: true,
  }),
  serviceOf({
    name: 'hidden',
    namespace: 'bank',
    hostname: 'hidden.example',
    vips: [vip('240.240.0.5')],
    visibility: 'Namespace',
  }),
];

/** The pods themselves (`pod0`, …), and the endpoints of the headless services. */
export const workloadsOf = (podCount: number): readonly Workload[] => [
  ...Array.from({ length: podCount }, (_, index) =>
    workloadOf({
      uid: `Kubernetes//Pod/shop/pod${index}` as WorkloadUid,
      name: `pod${index}`,
      namespace: 'shop',
      serviceAccount: 'default',
      node: 'n1',
      canonicalName: 'asker',
      canonicalRevision: 'v1',
      ips: [ip(podIp(index)), ip(podIpV6(index))],
    }),
  ),
  ...['10.1.0.1', '10.1.0.2'].map((address, index) => endpointOf(db, index, address, `fd01::${index + 1}`)),
  ...Array.from({ length: 60 }, (_, index) => endpointOf(big, index, `10.2.0.${index + 1}`)),
];

function endpointOf(service: Service, index: number, ...addresses: string[]): Workload {
  const name = `${service.name}-${index}`;
  return workloadOf({
    uid: `Kubernetes//Pod/shop/${name}` as WorkloadUid,
    name,
    namespace: 'shop',
    node: 'n2',
    ips: addresses.map(ip),
    services: new Map([[serviceKey('shop', service.hostname), new Map([[80, 80]])]]),
  });
}

export const meshOf = (podCount: number): StoreUpdate => ({
  addresses: [
    ...SERVICES.map((service) => ({ kind: 'service', service }) as const),
    ...workloadsOf(podCount).map((workload) => ({ kind: 'workload', workload }) as const),
  ],
});
