// The hand-over of listeners with a predecessor, or a successor, that does not do what it should: the start goes on, nothing is
// believed that the kernel does not confirm, and no descriptor stays behind.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { closeFd, netnsId, openNetns } from '#linux/netns.ts';
import { connectSeqpacket, listenSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import { listenTcp } from '#linux/socket.ts';
import { socketNetnsId } from '#linux/socket-netns.ts';
import { createLogger } from '#telemetry/log.ts';
import { createHandOver, type HandOver } from '#ztunnel/capture/hand-over.ts';
import { encodeHandOver, type ListenerMessage } from '#ztunnel/capture/hand-over-message.ts';
import { ListenerStock, type PodListener } from '#ztunnel/capture/listener-stock.ts';
import { until } from '../lib/until.ts';

let dir: string;
let path: string;
let scope: Scope;
let fdsBefore: number;
const lines: string[] = [];
const log = createLogger('inpod', {
  format: 'plain',
  level: 'debug',
  write: (line) => void lines.push(line),
});
const openFds = (): number => readdirSync('/proc/self/fd').length;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'culvert-hand-over-'));
  path = join(dir, 'hand-over.sock');
  scope = new Scope('test');
  lines.length = 0;
  // What the loop and the namespace of this thread need once is open from here on.
  ownListener().close();
  fdsBefore = openFds();
});
afterEach(async () => {
  scope.close();
  rmSync(dir, { recursive: true, force: true });
  await until('every descriptor to be closed', () => openFds() <= fdsBefore);
});

interface OwnListener extends PodListener {
  close(): void;
}

/** A listener in this process's own namespace, in the place of a pod's. */
function ownListener(port = 15_008): OwnListener {
  const { fd } = listenTcp({ ip: '127.0.0.1', port: 0 });
  const { dev, ino } = socketNetnsId(fd);
  return { netnsId: `${dev}:${ino}`, port, fd, transparent: false, close: () => closeFd(fd) };
}

function successor(options: { shape?: string; timeoutMs?: number } = {}): {
  stock: ListenerStock;
  handOver: HandOver;
} {
  const stock = new ListenerStock();
  const handOver = createHandOver({ stock, log, scope }, { path, shape: 'same', ...options });
  return { stock, handOver };
}

/** Says what it is told to say, as soon as somebody asks. */
function predecessor(answer: (connection: SeqpacketConnection) => void): void {
  const listener = listenSeqpacket(path, (connection) => {
    scope.onClose(() => connection.close());
    connection.onMessage(() => answer(connection));
  });
  scope.onClose(() => listener.close());
}

const listenerMessage = (of: PodListener, more: Partial<ListenerMessage> = {}): Uint8Array =>
  encodeHandOver({
    kind: 'listener',
    netns: of.netnsId,
    port: of.port,
    transparent: of.transparent,
    shape: 'same',
    ...more,
  });

test('a socket knows its namespace', () => {
  const own = openNetns('/proc/thread-self/ns/net');
  const listener = ownListener();
  try {
    const { dev, ino } = netnsId(own);
    assert.equal(listener.netnsId, `${dev}:${ino}`);
  } finally {
    listener.close();
    closeFd(own);
  }
});

test('nobody there: the start goes on without a word', async () => {
  assert.equal(await successor().handOver.receive(), 0);
  assert.deepEqual(lines, []);
});

test('a predecessor that says nothing is waited for only so long', async () => {
  predecessor(() => {});
  assert.equal(await successor({ timeoutMs: 200 }).handOver.receive(), 0);
  assert.match(
    lines.join(''),
    /\twarn\t.*listeners will overlap instead\terror="nothing more came for 200 ms"/,
  );
});

test('one that says what cannot be understood costs nothing but its listeners', async () => {
  predecessor((connection) => void connection.send(Buffer.from('{"version":7}')));
  assert.equal(await successor().handOver.receive(), 0);
  assert.match(lines.join(''), /hand-over: version is 7, expected 1/);
});

test('a socket said to be of another namespace is not believed', async () => {
  const listener = ownListener();
  predecessor((connection) => void connection.send(listenerMessage(listener, { netns: '4:1' }), listener.fd));
  const { stock, handOver } = successor();
  assert.equal(await handOver.receive(), 0);
  assert.match(lines.join(''), /was said to be of 4:1/);
  assert.deepEqual(stock.take('4:1', listener.port), []);
  listener.close();
});

test('what is no socket at all is not believed either', async () => {
  const netns = openNetns('/proc/thread-self/ns/net');
  const { dev, ino } = netnsId(netns);
  const claim = { netnsId: `${dev}:${ino}`, port: 15_008, fd: netns, transparent: false };
  predecessor((connection) => void connection.send(listenerMessage(claim), netns));
  assert.equal(await successor().handOver.receive(), 0);
  assert.match(lines.join(''), /network namespace of socket \d+: ioctl failed/);
  closeFd(netns);
});

test('listeners of other settings are left to the running one', async () => {
  const listener = ownListener();
  predecessor((connection) => {
    void connection.send(listenerMessage(listener, { shape: 'other' }), listener.fd);
    void connection.send(encodeHandOver({ kind: 'complete' }));
  });
  const { stock, handOver } = successor();
  assert.equal(await handOver.receive(), 0);
  assert.deepEqual(stock.take(listener.netnsId, listener.port), []);
  listener.close();
});

test('handed on from one to the next; one that comes meanwhile follows; what nobody claims is closed', async () => {
  const first = successor();
  first.handOver.settle();
  const [tunnel, plain] = [ownListener(15_008), ownListener(15_006)];
  first.stock.keep(tunnel);
  const second = successor();
  assert.equal(await second.handOver.receive(), 1);
  const forget = first.stock.keep(plain);
  let copy: PodListener | undefined;
  await until('the late one', () => {
    [copy] = second.stock.take(plain.netnsId, plain.port);
    return copy !== undefined;
  });
  assert.notEqual(copy!.fd, plain.fd);
  assert.deepEqual(second.stock.take(plain.netnsId, plain.port), [], 'a listener is taken once');
  forget();
  closeFd(copy!.fd);
  second.handOver.settle();
  assert.match(lines.join(''), /listeners of pods that are gone were closed\tlisteners=1/);

  // The path is the second one's now, and stays so when the first one ends.
  first.handOver.close();
  second.stock.keep(tunnel);
  const third = successor();
  assert.equal(await third.handOver.receive(), 1);
  third.handOver.settle();
  for (const { close } of [tunnel, plain]) close();
});

test('a successor that does not say hello is sent away', async () => {
  successor().handOver.settle();
  const connection = await connectSeqpacket(path);
  const closed = new Promise<void>((resolve) => connection.onClose(() => resolve()));
  connection.onMessage(() => assert.fail('nothing is said to it'));
  await connection.send(Buffer.from('give me everything'));
  await closed;
  assert.match(lines.join(''), /a successor was not understood/);
});
