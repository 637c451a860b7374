// Where the field's ztunnel would send a connection, and where we would: hundreds of small meshes, many destinations each.
// By hand only: PEER_ZTUNNEL names a release build of the real one, which runs alone in a network namespace with nothing
// but loopback, so that every dial fails and its access log says whom it meant.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { closeFd, openNetns } from '#linux/netns.ts';
import { tcpSocket } from '#linux/socket.ts';
import { route } from '#model/route.ts';
import { createStore } from '#model/store.ts';
import type { Workload } from '#model/workload.ts';
import { formatHostPort, formatSocketAddress, type SocketAddress } from '#net/host-port.ts';
import { familyOf, ip, ipToBytes } from '#net/ip.ts';
import { until } from '../loopback/ztunnel-rig.ts';
import { localConfig } from './local-config.ts';
import { type Mesh, meshOf, SOURCE } from './meshes.ts';

const peer = process.env.PEER_ZTUNNEL;
const MESHES = 250;
const SEED = Number(process.env.SEED ?? 20_260_820);
const NETNS = `cvir${process.pid}`;
const SOCKS_PORT = 15_080;
const LOOPBACK = ip('127.0.0.1');

const dir = mkdtempSync(join(tmpdir(), 'culvert-interop-'));
let process_: ChildProcess | undefined;
let printed = '';
let meshes: readonly Mesh[] = [];

before(async () => {
  if (peer === undefined) return;
  meshes = fc.sample(fc.integer({ min: 0, max: 2 ** 31 }), { numRuns: MESHES, seed: SEED }).map(meshOf);
  const things = meshes.flatMap(({ addresses }) => addresses);
  const path = join(dir, 'mesh.yaml');
  writeFileSync(path, localConfig([{ kind: 'workload', workload: SOURCE }, ...things]));
  execFileSync('ip', ['netns', 'add', NETNS]);
  execFileSync('ip', ['-n', NETNS, 'link', 'set', 'lo', 'up']);
  const env = {
    PATH: process.env.PATH,
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: `${SOURCE.namespace}/${SOURCE.name}/${SOURCE.serviceAccount}`,
    NODE_NAME: SOURCE.node,
    LOCAL_XDS_PATH: path,
    XDS_ADDRESS: '',
    // Nobody signs there: a tunnel fails before it is dialled, and its line says where it would have gone.
    CA_ADDRESS: 'https://127.0.0.1:1',
    UNSTABLE_ENABLE_SOCKS5: 'true',
    RUST_LOG: 'info',
  };
  process_ = spawn('ip', ['netns', 'exec', NETNS, peer], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [process_.stdout!, process_.stderr!]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      printed += text;
    });
  }
  await until('the peer is ready', () => /listener established.*socks5/.test(printed), 20_000).catch(
    (error) => {
      throw new Error(`${error}\n${printed.slice(-4000)}`);
    },
  );
});

after(() => {
  process_?.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
  if (peer !== undefined) execFileSync('ip', ['netns', 'del', NETNS]);
});

/** Asks the peer for one connection; the answer is its log's line for it. Ports come again, so lines are read one by one. */
async function ask({ ip: address, port }: SocketAddress): Promise<string> {
  printed = '';
  const fd = openNetns(`/var/run/netns/${NETNS}`);
  const socketFd = tcpSocket({ family: 4, netnsFd: fd });
  closeFd(fd);
  const socket = new net.Socket({ fd: socketFd } as net.SocketConstructorOpts);
  socket.on('error', () => {});
  socket.connect({ host: LOOPBACK, port: SOCKS_PORT });
  await once(socket, 'connect');
  const { localPort } = socket;
  const kind = familyOf(address) === 4 ? 1 : 4;
  socket.write(Buffer.from([5, 1, 0]));
  await once(socket, 'data');
  socket.write(Buffer.from([5, 1, 0, kind, ...ipToBytes(address), port >> 8, port & 0xff]));
  socket.resume();
  await once(socket, 'close');
  const own = `src.addr=${formatHostPort(LOOPBACK, localPort!)} `;
  const line = (): string | undefined =>
    printed.split('\n').find((text) => text.includes('\taccess\t') && text.includes(own));
  await until(`the peer's line with ${own}`, () => line() !== undefined);
  return line()!;
}

const field = (line: string, name: string): string =>
  new RegExp(`(?:^|\\s)${name.replace('.', '\\.')}=("?)(.*?)\\1(?=\\s|$)`).exec(line)?.[2] ?? '-';

/** What a log line of the peer says about its decision. */
function peerDecision(line: string): string {
  if (line.includes('connection failed')) return 'refuse';
  const names = ['dst.addr', 'dst.hbone_addr', 'dst.service', 'dst.workload', 'dst.identity'];
  return names.map((name) => field(line, name)).join(' ');
}

function kindOf(decision: string): string {
  const authority = decision.split(' ')[1];
  if (authority === undefined) return 'refused';
  if (authority === '-') return 'plain';
  return authority.includes('example:') ? 'to another network' : 'tunnel';
}

/** Everything that our decision may be, whatever chance says. */
function ourDecisions(mesh: Mesh, originalDst: SocketAddress): Set<string> {
  const store = createStore({ localNode: SOURCE.node });
  store.apply({ addresses: [{ kind: 'workload', workload: SOURCE }, ...mesh.addresses] });
  const found = new Set<string>();
  for (let step = 0; step < 400; step++) {
    let state = step * 7919 + 1;
    const random = (): number => {
      state = (state * 48_271) % 2_147_483_647;
      return state / 2_147_483_647;
    };
    const decision = route({
      view: store,
      network: '',
      source: SOURCE,
      downstreamIp: LOOPBACK,
      originalDst,
      random,
    });
    const nameOf = (workload: Workload | undefined): string => workload?.name ?? '-';
    switch (decision.kind) {
      case 'refuse':
        found.add('refuse');
        break;
      case 'resolve':
        // No name can be resolved in the peer's namespace.
        found.add('refuse');
        break;
      default: {
        const isTunnel = decision.kind === 'hbone' || decision.kind === 'double-hbone';
        const workload = decision.kind === 'passthrough' ? undefined : decision.destination;
        found.add(
          [
            formatSocketAddress(decision.dial),
            isTunnel ? decision.authority : '-',
            decision.kind === 'passthrough' ? '-' : (decision.service?.hostname ?? '-'),
            nameOf(workload),
            isTunnel ? decision.expected.at(-1) : '-',
          ].join(' '),
        );
      }
    }
  }
  return found;
}

test('the same decision for every destination of every mesh', {
  skip: peer === undefined,
  timeout: 280_000,
}, async () => {
  const counts = new Map<string, number>();
  const wrong: string[] = [];
  let asked = 0;
  for (const mesh of meshes)
    for (const dst of mesh.destinations) {
      const ours = ourDecisions(mesh, dst);
      for (let round = 0; round < 2; round++) {
        asked += 1;
        const line = await ask(dst);
        const theirs = peerDecision(line);
        const kind = kindOf(theirs);
        counts.set(kind, (counts.get(kind) ?? 0) + 1);
        if (!ours.has(theirs))
          wrong.push(
            `mesh ${mesh.seed}, ${formatSocketAddress(dst)}: the peer ${theirs} (${field(line, 'error')}), we ${[...ours].join(' | ')}`,
          );
      }
    }
  console.log(`${asked} connections in ${meshes.length} meshes:`, Object.fromEntries(counts));
  assert.deepEqual(wrong.slice(0, 12), [], `${wrong.length} differ`);
});
