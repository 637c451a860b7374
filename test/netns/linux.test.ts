// src/linux against the real kernel: sockets in other namespaces, redirected destinations, foreign source addresses,
// descriptors passed between processes' ends of a SEQPACKET connection.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { errnoOf, MeshError } from '#base/errors.ts';
import { closeFd, dupFd, inNetns, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { originalDst } from '#linux/original-dst.ts';
import { connectSeqpacket, listenSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import { warmThreadPool } from '#linux/thread-pool.ts';
import { ip } from '#net/ip.ts';
import { fdOf } from '../lib/descriptors.ts';

const SERVER = `cvlin${process.pid}s`;
const CLIENT = `cvlin${process.pid}c`;
const dir = mkdtempSync(join(tmpdir(), 'culvert-linux-'));

const run = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

before(async () => {
  await warmThreadPool();
  run(`ip netns add ${SERVER}; ip netns add ${CLIENT}
    ip -n ${SERVER} link set lo up; ip -n ${CLIENT} link set lo up
    ip -n ${SERVER} link add eth0 type veth peer name eth0 netns ${CLIENT}
    ip -n ${SERVER} addr add 10.9.0.1/24 dev eth0; ip -n ${CLIENT} addr add 10.9.0.2/24 dev eth0
    ip -n ${SERVER} addr add fd09::1/64 dev eth0 nodad; ip -n ${CLIENT} addr add fd09::2/64 dev eth0 nodad
    ip -n ${SERVER} link set eth0 up; ip -n ${CLIENT} link set eth0 up
    ip -n ${SERVER} route add 10.77.0.0/16 via 10.9.0.2
    ip -n ${CLIENT} route add local 10.77.0.0/16 dev lo`);
  run(`ip netns exec ${SERVER} nft -f - <<'RULES'
    table inet test { chain pre { type nat hook prerouting priority -100; policy accept;
      tcp dport 80 redirect to :15006; }; }
RULES`);
});

after(() => {
  for (const name of [SERVER, CLIENT]) run(`ip netns del ${name} 2>/dev/null || true`);
  rmSync(dir, { recursive: true, force: true });
});

/** Listens inside the server's namespace and adopts the descriptor. */
async function serve(
  host: string,
  port: number,
  onSocket: (socket: net.Socket) => void,
): Promise<net.Server> {
  const netns = openNetns(`/var/run/netns/${SERVER}`);
  const { fd } = listenTcp({ ip: host, port, netnsFd: netns, mark: 0x539, reusePort: true });
  closeFd(netns);
  const server = net.createServer({ allowHalfOpen: true }, onSocket);
  server.listen({ fd });
  return server;
}

function dialFromClient(
  family: 4 | 6,
  host: string,
  port: number,
  options: { bindSource?: string; onread?: net.OnReadOpts } = {},
): net.Socket {
  const netns = openNetns(`/var/run/netns/${CLIENT}`);
  const fd = tcpSocket({
    family,
    netnsFd: netns,
    mark: 0x539,
    ...(options.bindSource === undefined ? {} : { bindSource: { ip: ip(options.bindSource) } }),
  });
  closeFd(netns);
  const onread = options.onread === undefined ? {} : { onread: options.onread };
  const socket = new net.Socket({ fd, allowHalfOpen: true, ...onread } as net.SocketConstructorOpts);
  return socket.connect({ host, port });
}

const finished = (socket: net.Socket): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = '';
    socket
      .on('data', (chunk) => (text += chunk))
      .on('end', () => resolve(text))
      .on('error', reject);
  });

test('a listener in one namespace and a socket from another carry bytes both ways, half-close included', async () => {
  const server = await serve('::', 15006, (socket) => {
    let text = '';
    socket
      .on('data', (chunk) => (text += chunk))
      .on('end', () => socket.end(`${socket.remoteAddress} said ${text}`));
  });
  try {
    for (const [family, host, from] of [
      [4, '10.9.0.1', '::ffff:10.9.0.2'],
      [6, 'fd09::1', 'fd09::2'],
    ] as const) {
      const socket = dialFromClient(family, host, 15006);
      const answer = finished(socket);
      socket.end('hello');
      assert.equal(await answer, `${from} said hello`);
    }
  } finally {
    server.close();
  }
});

test('an adopted socket reads into a shared buffer (onread)', async () => {
  const server = await serve('0.0.0.0', 15006, (socket) => socket.end('through onread'));
  try {
    const text = await new Promise<string>((resolve, reject) => {
      let seen = '';
      const onread: net.OnReadOpts = {
        buffer: Buffer.allocUnsafeSlow(4096),
        callback: (length, buffer) => {
          seen += Buffer.from(buffer.subarray(0, length)).toString();
          return true;
        },
      };
      dialFromClient(4, '10.9.0.1', 15006, { onread })
        .on('end', () => resolve(seen))
        .on('error', reject)
        .end();
    });
    assert.equal(text, 'through onread');
  } finally {
    server.close();
  }
});

test('a refused connection is ECONNREFUSED on the adopted socket', async () => {
  const socket = dialFromClient(4, '10.9.0.1', 9);
  const error = await new Promise<Error>((resolve) => socket.on('error', resolve));
  assert.equal(errnoOf(error), 'ECONNREFUSED');
});

test('originalDst tells what was dialled before the redirection, in both families', async () => {
  const seen: (string | undefined)[] = [];
  const server = await serve('::', 15006, (socket) => {
    const dst = originalDst(fdOf(socket));
    seen.push(dst === undefined ? undefined : `${dst.ip} ${dst.port}`);
    socket.end();
  });
  try {
    for (const [family, host, port] of [
      [4, '10.9.0.1', 80],
      [6, 'fd09::1', 80],
      [4, '10.9.0.1', 15006],
    ] as const) {
      const socket = dialFromClient(family, host, port);
      const over = finished(socket);
      socket.end();
      await over;
    }
    assert.deepEqual(seen, ['10.9.0.1 80', 'fd09::1 80', '10.9.0.1 15006']);
  } finally {
    server.close();
  }
});

test('a socket may connect from an address that is not local', async () => {
  const server = await serve('::', 15006, (socket) => socket.end(socket.remoteAddress ?? ''));
  try {
    const socket = dialFromClient(4, '10.9.0.1', 15006, { bindSource: '10.77.1.2' });
    socket.end();
    assert.equal(await finished(socket), '::ffff:10.77.1.2');
  } finally {
    server.close();
  }
});

test('a connection from a client’s address took the ports of one of the client’s own, and both were reset', async () => {
  const ports: number[] = [];
  const server = await serve('::', 15006, (socket) => {
    ports.push(socket.remotePort ?? 0);
    socket.end();
  });
  const dial = async (host: '10.9.0.1' | 'fd09::1', bindSource: string): Promise<number> => {
    const socket = dialFromClient(host === '10.9.0.1' ? 4 : 6, host, 15006, { bindSource });
    socket.end();
    await finished(socket);
    return ports.pop() ?? 0;
  };
  const netnsFd = openNetns(`/var/run/netns/${CLIENT}`);
  const others: number[] = [];
  try {
    let last = 0;
    for (let count = 0; count < 20; count += 1) {
      last = await dial('10.9.0.1', '10.77.1.2');
      assert.ok(last >= 10_240 && last < 32_768, `${last} is of those that a kernel gives to clients`);
    }
    const v6 = await dial('fd09::1', 'fd09::2');
    assert.ok(v6 >= 10_240 && v6 < 32_768);
    // Whatever the next four are, they are taken: the kernel then chooses, of its own.
    for (let ahead = 1; ahead <= 4; ahead += 1) {
      const port = 10_240 + ((v6 - 10_240 + ahead) % 22_528);
      others.push(listenTcp({ ip: '::', port, netnsFd }).fd);
    }
    assert.ok((await dial('10.9.0.1', '10.77.1.2')) >= 32_768);
  } finally {
    for (const fd of others) closeFd(fd);
    closeFd(netnsFd);
    server.close();
  }
});

test('listenTcp reports a taken port, transparency and a free choice of port', () => {
  const netnsFd = openNetns(`/var/run/netns/${SERVER}`);
  const first = listenTcp({ ip: '::', port: 17001, netnsFd, transparent: 'required' });
  try {
    assert.equal(first.transparent, true);
    assert.throws(
      () => listenTcp({ ip: '0.0.0.0', port: 17001, netnsFd }),
      (error) => error instanceof MeshError && error.code === 'PORT_IN_USE',
    );
    const free = listenTcp({ ip: '127.0.0.1', port: 0 });
    assert.equal(free.transparent, false);
    closeFd(free.fd);
  } finally {
    closeFd(first.fd);
    closeFd(netnsFd);
  }
});

test('namespaces are told apart by identity, and entered only synchronously', () => {
  const server = openNetns(`/var/run/netns/${SERVER}`);
  const client = openNetns(`/var/run/netns/${CLIENT}`);
  const again = dupFd(server);
  const before = statSync('/proc/thread-self/ns/net').ino;
  try {
    assert.ok(sameNetns(netnsId(server), netnsId(again)));
    assert.ok(!sameNetns(netnsId(server), netnsId(client)));
    assert.equal(
      inNetns(server, () => statSync('/proc/thread-self/ns/net', { bigint: true }).ino),
      netnsId(server).ino,
    );
    assert.throws(() => inNetns(server, () => inNetns(client, () => 1)), TypeError);
    assert.throws(() => inNetns(server, () => Promise.resolve()), TypeError);
    assert.throws(() => inNetns(server, () => assert.fail('from inside')), /from inside/);
    assert.equal(statSync('/proc/thread-self/ns/net').ino, before);
  } finally {
    for (const fd of [server, client, again]) closeFd(fd);
  }
});

test('a namespace that is gone is NETNS_GONE', () => {
  const isGone = (error: unknown): boolean => error instanceof MeshError && error.code === 'NETNS_GONE';
  assert.throws(() => openNetns('/var/run/netns/none-of-this-name'), isGone);
  assert.throws(() => openNetns('/etc/hostname'), isGone);
  assert.throws(() => inNetns(1_000_000, () => 1), isGone);
});

function pair(
  path: string,
): Promise<{ near: SeqpacketConnection; far: SeqpacketConnection; stop: () => void }> {
  return new Promise((resolve, reject) => {
    let near: SeqpacketConnection | undefined;
    const listener = listenSeqpacket(path, (far) => {
      resolve({
        near: near!,
        far,
        stop: () => {
          near!.close();
          far.close();
          listener.close();
        },
      });
    });
    connectSeqpacket(path).then((connection) => (near = connection), reject);
  });
}

test('SEQPACKET keeps message borders and carries a namespace', async () => {
  const { near, far, stop } = await pair(join(dir, 'pass.sock'));
  const netns = openNetns(`/var/run/netns/${SERVER}`);
  try {
    const received: { text: string; fds: number[] }[] = [];
    const three = new Promise<void>((resolve) => {
      near.onMessage((message, fds) => {
        received.push({ text: Buffer.from(message).toString(), fds });
        if (received.length === 3) resolve();
      });
    });
    await far.send(Buffer.from('one'));
    await far.send(Buffer.from('two'), netns);
    await far.send(new Uint8Array(1024).fill(0x61));
    await three;
    assert.deepEqual(
      received.map(({ text, fds }) => [text.length, fds.length]),
      [
        [3, 0],
        [3, 1],
        [1024, 0],
      ],
    );
    const passed = received[1]!.fds[0]!;
    assert.notEqual(passed, netns);
    assert.ok(sameNetns(netnsId(passed), netnsId(netns)));
    closeFd(passed);
  } finally {
    closeFd(netns);
    stop();
  }
});

test('SEQPACKET: a full queue waits, the end of the peer is seen once, sending afterwards fails', async () => {
  const { near, far, stop } = await pair(join(dir, 'full.sock'));
  try {
    const total = 2000;
    let count = 0;
    const sent = Promise.all(
      Array.from({ length: total }, (_, index) => near.send(Buffer.from(`${index}`.padEnd(1000)))),
    );
    const inOrder = new Promise<void>((resolve, reject) => {
      far.onMessage((message) => {
        if (Number(Buffer.from(message).toString()) !== count++) reject(new Error('out of order'));
        if (count === total) resolve();
      });
    });
    await Promise.all([sent, inOrder]);
    const closed = new Promise<unknown>((resolve) => far.onClose(resolve));
    near.close();
    assert.equal(await closed, undefined);
    await assert.rejects(far.send(Buffer.from('x')), (error) => errnoOf(error) === 'EPIPE');
  } finally {
    stop();
  }
});

test('SEQPACKET: nobody listening, and a path that is too long', async () => {
  await assert.rejects(connectSeqpacket(join(dir, 'none.sock')), (error) => errnoOf(error) === 'ENOENT');
  await assert.rejects(
    connectSeqpacket(`/${'x'.repeat(200)}`),
    (error) => error instanceof MeshError && error.code === 'CONFIG_INVALID',
  );
});
