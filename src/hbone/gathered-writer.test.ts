import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GatheredWriter, SlabPool, type WritableSocket } from './gathered-writer.ts';

/** What was written, and how a write ends: at once, or when the test says so. */
class Scripted implements WritableSocket {
  readonly writes: string[] = [];
  readonly #pending: (() => void)[] = [];
  readonly #isSync: boolean;

  constructor(isSync: boolean) {
    this.#isSync = isSync;
  }
  write(bytes: Uint8Array, written: () => void): void {
    this.writes.push(Buffer.from(bytes).toString());
    if (this.#isSync) written();
    else this.#pending.push(written);
  }
  finish(): void {
    this.#pending.shift()?.();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const callback = (): Promise<void> => Promise.resolve();
const bytes = (text: string): Buffer => Buffer.from(text);

test('gathers what one turn brings', async () => {
  const socket = new Scripted(true);
  const writer = new GatheredWriter(new SlabPool(64), socket, 128, () => {});
  writer.bytes(bytes('one '));
  await callback();
  writer.bytes(bytes('two'));
  assert.deepEqual(socket.writes, []);
  await turn();
  assert.deepEqual(socket.writes, ['one two']);
});

test('adaptive: within a socket’s callback a piece is sent when that ends, without another tick', () => {
  const socket = new Scripted(true);
  const pool = new SlabPool(64);
  const writer = new GatheredWriter(pool, socket, 128, () => {}, 'adaptive');
  pool.beginCallback();
  writer.bytes(bytes('one'));
  assert.deepEqual(socket.writes, []);
  pool.endCallback();
  assert.deepEqual(socket.writes, ['one']);
});

test('adaptive: a single piece is sent when its callback ends; the turn is waited for while turns bring several', async () => {
  const socket = new Scripted(false);
  const writer = new GatheredWriter(new SlabPool(64), socket, 128, () => {}, 'adaptive');
  writer.bytes(bytes('alone'));
  await callback();
  assert.deepEqual(socket.writes.splice(0), ['alone']);
  // Two more in the same turn, while the first one is under way.
  writer.bytes(bytes('b'));
  await callback();
  writer.bytes(bytes('c'));
  await callback();
  socket.finish();
  assert.deepEqual(socket.writes.splice(0), ['bc']);
  socket.finish();
  await turn();

  writer.bytes(bytes('d'));
  await callback();
  writer.bytes(bytes('e'));
  await callback();
  assert.deepEqual(socket.writes, [], 'a busy writer waits');
  await turn();
  assert.deepEqual(socket.writes.splice(0), ['de']);
  socket.finish();

  writer.bytes(bytes('f'));
  await turn();
  assert.deepEqual(socket.writes.splice(0), ['f']);
  socket.finish();
  writer.bytes(bytes('g'));
  await callback();
  assert.deepEqual(socket.writes, ['g'], 'one that brought a single piece is quiet again');
});

test('adaptive: what connections bring that come turn by turn goes out in one write', async () => {
  const pool = new SlabPool(64);
  const socket = new Scripted(true);
  const writer = new GatheredWriter(pool, socket, 128, () => {}, 'adaptive');
  for (const text of ['one ', 'two ', 'three']) {
    pool.expectMore();
    writer.bytes(bytes(text));
    await callback();
    assert.deepEqual(socket.writes, []);
    await turn();
  }
  await turn();
  assert.deepEqual(socket.writes.splice(0), ['one two three']);

  writer.bytes(bytes('single'));
  await turn();
  assert.deepEqual(socket.writes.splice(0), ['single'], 'no connection came: one turn');
  writer.bytes(bytes('alone'));
  await callback();
  assert.deepEqual(socket.writes, ['alone'], 'and the writer is quiet again');
});

test('adaptive: connections that never cease do not hold back what the first one brought', async () => {
  const pool = new SlabPool(64);
  const socket = new Scripted(true);
  const writer = new GatheredWriter(pool, socket, 128, () => {}, 'adaptive');
  for (let each = 0; each < 10; each++) {
    pool.expectMore();
    writer.bytes(bytes('x'));
    await turn();
  }
  assert.notEqual(socket.writes.length, 0);
});

test('callers asked to wait hear of room, also when the socket takes everything at once', async () => {
  for (const isSync of [true, false]) {
    const socket = new Scripted(isSync);
    let rooms = 0;
    const writer = new GatheredWriter(new SlabPool(8), socket, 8, () => (rooms += 1));
    writer.bytes(bytes('1234567'));
    assert.equal(writer.isBacklogged, false);
    writer.bytes(bytes('8'));
    assert.equal(writer.isBacklogged, true);
    await turn();
    if (!isSync) {
      assert.equal(rooms, 0);
      socket.finish();
    }
    assert.equal(rooms, 1);
    assert.equal(writer.isBacklogged, false);
    assert.deepEqual(socket.writes, ['12345678']);
  }
});

test('bytes of many slabs go in order, nobody being called in the middle of them', async () => {
  for (const isSync of [true, false]) {
    const socket = new Scripted(isSync);
    let isInside = false;
    const writer = new GatheredWriter(new SlabPool(4), socket, 8, () => assert.ok(!isInside));
    isInside = true;
    writer.bytes(bytes('abcdefghijklmnopqr'));
    isInside = false;
    await turn();
    for (let each = 0; each < 10; each++) socket.finish();
    assert.equal(socket.writes.join(''), 'abcdefghijklmnopqr');
    assert.ok(writer.isIdle);
  }
});

test('close gives all that is left to the socket at once', () => {
  const socket = new Scripted(false);
  const writer = new GatheredWriter(new SlabPool(4), socket, 8, () => {});
  writer.bytes(bytes('abcdefghij'));
  assert.deepEqual(socket.writes, ['abcd']);
  writer.close();
  assert.deepEqual(socket.writes, ['abcd', 'efgh', 'ij']);
});
