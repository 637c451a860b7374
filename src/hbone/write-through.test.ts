import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { WriteThrough } from './write-through.ts';

type Done = (error?: Error | null) => void;

/** Refuses what a TLS socket would crash on: a write before the one before it is done. */
class Slow extends Duplex {
  readonly seen: string[] = [];
  finish: Done | undefined;

  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: Done): void {
    assert.equal(this.finish, undefined, 'one write at a time');
    this.seen.push(chunk.toString());
    this.finish = (error) => {
      this.finish = undefined;
      done(error);
    };
  }
  override _final(done: Done): void {
    this.seen.push('FIN');
    done();
  }
}

test('writes go one by one, and the end behind them', async () => {
  const socket = new Slow();
  const writing = new WriteThrough(socket);
  const done: string[] = [];
  writing.write(Buffer.from('a'), () => done.push('a'));
  writing.write(Buffer.from('b'), () => done.push('b'));
  writing.end();
  assert.deepEqual(socket.seen, ['a']);
  socket.finish?.();
  assert.deepEqual([socket.seen, done], [['a', 'b'], ['a']]);
  socket.finish?.();
  await once(socket, 'finish');
  assert.deepEqual(socket.seen, ['a', 'b', 'FIN']);
  assert.deepEqual(done, ['a', 'b']);
});

test('a failed write destroys the socket, and nothing is written or ended after it', async () => {
  const socket = new Slow();
  const writing = new WriteThrough(socket);
  writing.write(Buffer.from('a'), () => assert.fail('it was not written'));
  writing.write(Buffer.from('b'), () => assert.fail('it was not written'));
  writing.end();
  const error = once(socket, 'error');
  socket.finish?.(new Error('EPIPE'));
  assert.match(String((await error)[0]), /EPIPE/);
  assert.deepEqual(socket.seen, ['a']);
});
