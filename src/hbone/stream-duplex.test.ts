import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HboneStream, StreamSink } from './hbone.ts';
import { duplexOf } from './stream-duplex.ts';

/** A stream that takes what it is told to take and remembers what was asked of it. */
class FakeStream implements HboneStream {
  sink!: StreamSink;
  isFull = false;
  readonly calls: string[] = [];

  attach(sink: StreamSink): void {
    this.sink = sink;
  }
  write(chunk: Uint8Array): boolean {
    this.calls.push(`write ${chunk}`);
    return !this.isFull;
  }
  end(): void {
    this.calls.push('end');
  }
  pause(): void {
    this.calls.push('pause');
  }
  resume(): void {}
  reset(code: string): void {
    this.calls.push(`reset ${code}`);
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a chunk is copied: it changes after the call', async () => {
  const stream = new FakeStream();
  const duplex = duplexOf(stream);
  const chunk = Buffer.from('one');
  stream.sink.data(chunk);
  chunk.fill('x');
  assert.equal(String(duplex.read()), 'one');
});

test('writes wait for the stream to drain; reads that nobody takes pause it', async () => {
  const stream = new FakeStream();
  const duplex = duplexOf(stream);
  stream.isFull = true;
  let written = 0;
  duplex.write('a', () => written++);
  duplex.write('b', () => written++);
  await turn();
  assert.deepEqual([written, stream.calls], [0, ['write a']]);
  stream.isFull = false;
  stream.sink.drain();
  await turn();
  assert.deepEqual([written, stream.calls], [2, ['write a', 'write b']]);
  for (let count = 0; count < 3; count++) stream.sink.data(Buffer.alloc(100_000));
  assert.equal(stream.calls.at(-1), 'pause');
});

test('half-closes travel both ways', async () => {
  const stream = new FakeStream();
  const duplex = duplexOf(stream);
  let isEnded = false;
  duplex.on('end', () => {
    isEnded = true;
  });
  duplex.resume();
  stream.sink.end();
  await turn();
  assert.equal(isEnded, true);
  assert.equal(duplex.destroyed, false);
  duplex.end('z');
  await turn();
  assert.deepEqual(stream.calls.slice(0, 2), ['write z', 'end']);
});

test('a broken stream is an error; one that ended in order leaves what it brought to be read', async () => {
  const broken = new FakeStream();
  const failing = duplexOf(broken);
  const errors: string[] = [];
  failing.on('error', (error: Error) => errors.push(error.message));
  broken.sink.close({ clean: false, reason: 'reset by the gateway' });
  await turn();
  assert.deepEqual(errors, ['reset by the gateway']);

  const orderly = new FakeStream();
  const duplex = duplexOf(orderly);
  orderly.sink.data(Buffer.from('last words'));
  orderly.sink.close({ clean: true });
  assert.equal(String(duplex.read()), 'last words');
  duplex.on('error', (error: Error) => errors.push(error.message));
  duplex.write('too late');
  await turn();
  assert.deepEqual(errors.slice(1), ['the outer tunnel takes no more']);
});

test('destroying it resets the stream', async () => {
  const stream = new FakeStream();
  duplexOf(stream).destroy();
  await turn();
  assert.deepEqual(stream.calls, ['reset CANCEL']);
});
