import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import type { Port, SocketAddress } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { callBuffer, libc, SOL_SOCKET } from './libc.ts';
import { listenTcp } from './socket.ts';
import { acceptFrom, TcpHandle, type TcpOwner } from './tcp-handle.ts';

const SOL_TCP = 6;
const SO_KEEPALIVE = 9;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;
const KEEPALIVE = { idleMs: 60_000, intervalMs: 20_000, probes: 4 };
const LOOPBACK = ip('127.0.0.1');

function option(fd: number, level: number, name: number): number {
  const value = callBuffer();
  const length = callBuffer(1);
  length.writeUInt32LE(4, 0);
  assert.equal(libc.getsockopt(fd, level, name, value, length), 0);
  return value.readInt32LE(0);
}

/** Keeps what it is told, and closes when both directions are over. */
class Owner implements TcpOwner {
  readonly told: string[] = [];
  readonly closed = Promise.withResolvers<void>();
  readonly buffer = Buffer.alloc(64 * 1024);
  readonly handle: TcpHandle;

  constructor(handle: TcpHandle) {
    this.handle = handle;
    handle.serve(this, this.buffer);
  }
  onBytes(length: number): void {
    this.told.push(this.buffer.toString('latin1', 0, length));
  }
  onEnd(): void {
    this.told.push('end');
  }
  onShutdown(): void {
    this.told.push('shutdown');
  }
  onBroken(call: string, errno: string): void {
    this.told.push(`${call} ${errno}`);
    this.handle.close();
  }
  onClosed(): void {
    this.told.push('closed');
    this.closed.resolve();
  }
}

async function serve(onSocket: (socket: net.Socket) => void): Promise<{ at: SocketAddress; close(): void }> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    onSocket(socket);
  });
  server.listen(0, LOOPBACK);
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  return { at: { ip: LOOPBACK, port: port as Port }, close: () => void server.close() };
}

function connect(handle: TcpHandle, to: SocketAddress): Promise<string | undefined> {
  return new Promise((resolve) => handle.connect(to, resolve));
}

test('accepted connections inherit no delay and keepalive from their listener', async () => {
  const { fd } = listenTcp({ ip: LOOPBACK, port: 0 });
  const accepted = Promise.withResolvers<TcpHandle>();
  const listener = acceptFrom(fd, KEEPALIVE, accepted.resolve, (errno) => accepted.reject(new Error(errno)));
  const client = net.connect(listener.port, LOOPBACK);
  try {
    await once(client, 'connect');
    const handle = await accepted.promise;
    assert.deepEqual(
      [
        option(handle.fd, SOL_TCP, TCP_NODELAY),
        option(handle.fd, SOL_SOCKET, SO_KEEPALIVE),
        option(handle.fd, SOL_TCP, TCP_KEEPIDLE),
        option(handle.fd, SOL_TCP, TCP_KEEPINTVL),
        option(handle.fd, SOL_TCP, TCP_KEEPCNT),
      ],
      [1, 1, 60, 20, 4],
    );
    assert.deepEqual(handle.peer, { ip: LOOPBACK, port: client.localPort });
    assert.deepEqual(handle.local, { ip: LOOPBACK, port: listener.port });
    handle.close();
  } finally {
    client.destroy();
    listener.close();
  }
});

test('bytes and both ends arrive in order, the last call is closed', async () => {
  const server = await serve((socket) => socket.pipe(socket));
  const handle = TcpHandle.create();
  handle.bind(LOOPBACK);
  handle.configure(KEEPALIVE);
  try {
    assert.equal(await connect(handle, server.at), undefined);
    assert.equal(option(handle.fd, SOL_TCP, TCP_NODELAY), 1);
    const owner = new Owner(handle);
    assert.equal(handle.write(Buffer.from('ping')), true);
    handle.shutdown();
    handle.resume();
    while (!(owner.told.includes('end') && owner.told.includes('shutdown')))
      await new Promise((resolve) => setImmediate(resolve));
    handle.close();
    handle.close();
    await owner.closed.promise;
    assert.deepEqual(owner.told.filter((what) => what !== 'shutdown').join(' '), 'ping end closed');
  } finally {
    server.close();
  }
});

test('what the kernel has no room for is written when it has, in order', async () => {
  const chunks: Buffer[] = [];
  let reader: net.Socket | undefined;
  const ended = Promise.withResolvers<void>();
  const server = await serve((socket) => {
    reader = socket.pause();
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', ended.resolve);
  });
  const handle = TcpHandle.create();
  try {
    await connect(handle, server.at);
    const owner = new Owner(handle);
    const expected: Buffer[] = [];
    let written = 0;
    let pending = 0;
    while (pending < 3) {
      const piece = Buffer.alloc(1_000_000, expected.length);
      expected.push(piece);
      if (!handle.write(piece, () => written++)) pending += 1;
    }
    assert.deepEqual([written, handle.isWriting], [0, true]);
    handle.shutdown();
    while (reader === undefined) await new Promise((resolve) => setImmediate(resolve));
    reader.resume();
    await ended.promise;
    assert.ok(Buffer.concat(chunks).equals(Buffer.concat(expected)));
    assert.deepEqual([written, handle.isWriting], [3, false]);
    assert.deepEqual(owner.told, ['shutdown']);
    handle.close();
    reader.destroy();
    await owner.closed.promise;
  } finally {
    server.close();
  }
});

test('a reset is told with its errno; our own reset is one for the peer', async () => {
  const atServer = Promise.withResolvers<net.Socket>();
  const server = await serve((socket) => atServer.resolve(socket));
  try {
    const first = TcpHandle.create();
    await connect(first, server.at);
    const owner = new Owner(first);
    first.resume();
    (await atServer.promise).resetAndDestroy();
    await owner.closed.promise;
    assert.deepEqual(owner.told, ['read ECONNRESET', 'closed']);
  } finally {
    server.close();
  }
  const reset = Promise.withResolvers<NodeJS.ErrnoException>();
  const other = await serve((socket) => socket.resume().on('error', reset.resolve));
  try {
    const second = TcpHandle.create();
    await connect(second, other.at);
    const owner = new Owner(second);
    second.reset();
    await owner.closed.promise;
    assert.equal((await reset.promise).code, 'ECONNRESET');
  } finally {
    other.close();
  }
});

test('a refused connection and one that is given up say so, once', async () => {
  const server = await serve(() => {});
  server.close();
  const refused = TcpHandle.create();
  assert.equal(await connect(refused, server.at), 'ECONNREFUSED');
  refused.close();
  const given = TcpHandle.create();
  const outcome = connect(given, { ip: ip('192.0.2.1'), port: 9 as Port });
  given.close();
  assert.match((await outcome) ?? '', /^(ECANCELED|ENETUNREACH|EHOSTUNREACH)$/);
});

test('a connection moves out of a socket of Node and into one', async () => {
  const server = await serve((socket) => socket.pipe(socket));
  try {
    const socket = net.connect({ host: server.at.ip, port: server.at.port, allowHalfOpen: true });
    await once(socket, 'connect');
    const again = TcpHandle.from(socket).toSocket();
    again.end('round');
    let text = '';
    for await (const chunk of again.setEncoding('latin1')) text += chunk;
    assert.equal(text, 'round');
  } finally {
    server.close();
  }
});
