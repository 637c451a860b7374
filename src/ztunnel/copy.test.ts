import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { HboneStream, StreamOutcome, StreamSink } from '#hbone/hbone.ts';
import { TcpHandle } from '#linux/tcp-handle.ts';
import type { Port } from '#net/host-port.ts';
import { ip } from '#net/ip.ts';
import { type CopyCounters, type CopyResult, copy } from './copy.ts';
import { TcpEnd, TcpIo } from './tcp.ts';

/** A stream under the test's hand: what it is told is kept, what it reads is said by the test. */
class Scripted implements HboneStream {
  readonly calls: string[] = [];
  sink: StreamSink | undefined;
  writable = true;

  attach(sink: StreamSink): void {
    this.sink = sink;
  }
  write(chunk: Uint8Array): boolean {
    this.calls.push(`write ${Buffer.from(chunk).toString()}`);
    return this.writable;
  }
  end(): void {
    this.calls.push('end');
  }
  pause(): void {
    this.calls.push('pause');
  }
  resume(): void {
    this.calls.push('resume');
  }
  reset(code: string): void {
    this.calls.push(`reset ${code}`);
  }
  says(text: string): void {
    this.sink?.data(Buffer.from(text));
  }
  closes(outcome: StreamOutcome = { clean: true }): void {
    this.sink?.close(outcome);
  }
}

interface Rig {
  readonly opener: Scripted;
  readonly server: Scripted;
  readonly results: CopyResult[];
  readonly live: ReturnType<typeof copy>;
  readonly counted: CopyCounters;
}

function rig(): Rig {
  const opener = new Scripted();
  const server = new Scripted();
  const results: CopyResult[] = [];
  const counted = { forward: { value: 0 }, backward: { value: 0 } };
  const live = copy(opener, server, counted, (result) => results.push(result));
  return { opener, server, results, live, counted };
}

test('bytes go across and are counted per direction', () => {
  const { opener, server, results, counted } = rig();
  opener.says('question');
  server.says('a longer answer');
  opener.sink?.end();
  server.sink?.end();
  opener.closes();
  assert.deepEqual(results, []);
  server.closes();
  assert.deepEqual(server.calls, ['write question', 'end']);
  assert.deepEqual(opener.calls.slice(0, 2), ['write a longer answer', 'end']);
  assert.deepEqual(results, [{ forwardBytes: 8, backwardBytes: 15, error: undefined }]);
  assert.deepEqual(counted, { forward: { value: 8 }, backward: { value: 15 } });
});

test('half-close: the other direction goes on until it ends itself', () => {
  const { opener, server } = rig();
  opener.sink?.end();
  server.says('still talking');
  assert.deepEqual(server.calls, ['end']);
  assert.deepEqual(opener.calls, ['write still talking']);
});

test('back-pressure: a full side pauses the reading of the other, drain resumes it', () => {
  const { opener, server } = rig();
  server.writable = false;
  opener.says('x');
  assert.deepEqual(opener.calls, ['pause']);
  server.sink?.drain();
  assert.deepEqual(opener.calls, ['pause', 'resume']);
  opener.writable = false;
  server.says('y');
  assert.deepEqual(server.calls, ['write x', 'pause']);
  opener.sink?.drain();
  assert.deepEqual(server.calls, ['write x', 'pause', 'resume']);
});

test('a reset that counts as clean becomes an ordinary end; further bytes for it close the other side', () => {
  const { opener, server, results } = rig();
  opener.closes();
  assert.deepEqual(server.calls, ['end', 'resume']);
  server.says('to nobody');
  assert.deepEqual(server.calls, ['end', 'resume', 'reset NO_ERROR']);
  server.closes();
  assert.deepEqual(results, [{ forwardBytes: 0, backwardBytes: 0, error: undefined }]);
});

test('a broken stream resets the other side: truncation never looks complete', () => {
  const { opener, server, results } = rig();
  server.closes({ clean: false, reason: 'the session was lost' });
  assert.deepEqual(opener.calls, ['reset INTERNAL_ERROR']);
  opener.closes();
  assert.equal(results[0]?.error, 'the session was lost');
});

test('close resets both at once, so that what was cut does not look complete, reports its error, and later events are nothing', () => {
  const { opener, server, results, live } = rig();
  opener.says('abc');
  const error = new MeshError('POLICY_CHANGED', 'connection closed due to policy change');
  live.close(error);
  opener.closes();
  server.closes();
  live.close(error);
  assert.deepEqual(results, [{ forwardBytes: 3, backwardBytes: 0, error }]);
  assert.deepEqual(opener.calls, ['reset INTERNAL_ERROR']);
  assert.deepEqual(server.calls, ['write abc', 'reset INTERNAL_ERROR']);
});

const servers: net.Server[] = [];
after(() => {
  for (const server of servers) server.close();
});

async function listening(onSocket: (socket: net.Socket) => void, options: net.ServerOpts): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true, ...options }, onSocket).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** A relay of two TCP ends, as the plaintext paths use it. */
async function relay(targetPort: number): Promise<{ port: number; result: Promise<CopyResult> }> {
  const io = new TcpIo();
  const { promise, resolve } = Promise.withResolvers<CopyResult>();
  const port = await listening(
    (accepted) => {
      const opener = new TcpEnd(io, TcpHandle.from(accepted));
      const target = TcpHandle.create();
      target.connect({ ip: ip('127.0.0.1'), port: targetPort as Port }, (errno) => {
        assert.equal(errno, undefined);
        const counters = { forward: { value: 0 }, backward: { value: 0 } };
        copy(opener, new TcpEnd(io, target), counters, resolve);
      });
    },
    { pauseOnConnect: true },
  );
  return { port, result: promise };
}

test('TCP: 10 MB each way at once, byte for byte, half-closed at the end', async () => {
  const payload = Buffer.alloc(10_000_000);
  for (let index = 0; index < payload.length; index += 4)
    payload.writeUInt32LE((index * 2_654_435_761) >>> 0, index);
  const seen = Promise.withResolvers<Buffer>();
  const target = await listening((socket) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('end', () => seen.resolve(Buffer.concat(chunks)));
    socket.end(payload);
  }, {});
  const { port, result } = await relay(target);
  const client = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  client.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = once(client, 'end');
  client.end(payload);
  await ended;
  assert.ok(Buffer.concat(chunks).equals(payload));
  assert.ok((await seen.promise).equals(payload));
  assert.deepEqual(await result, {
    forwardBytes: 10_000_000,
    backwardBytes: 10_000_000,
    error: undefined,
  });
});

test('TCP: a server that speaks first is heard', async () => {
  const target = await listening((socket) => {
    socket.write('220 ready');
    socket.on('end', () => socket.end());
    socket.resume();
  }, {});
  const { port, result } = await relay(target);
  const client = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  const [greeting] = await once(client, 'data');
  assert.equal(String(greeting), '220 ready');
  client.end();
  assert.equal((await result).backwardBytes, 9);
});

test('TCP: a reset of the client reaches the server as an end, and is no error', async () => {
  const ended = Promise.withResolvers<void>();
  const target = await listening((socket) => {
    socket.on('error', () => {});
    socket.on('end', () => {
      ended.resolve();
      socket.end();
    });
    socket.write('hello');
    socket.resume();
  }, {});
  const { port, result } = await relay(target);
  const client = net.connect({ host: '127.0.0.1', port });
  client.on('error', () => {});
  await once(client, 'data');
  client.resetAndDestroy();
  await ended.promise;
  assert.equal((await result).error, undefined);
});

test('TCP: a reader that stands still costs a bounded amount of memory', async () => {
  const accepted = Promise.withResolvers<net.Socket>();
  const target = await listening((socket) => {
    socket.pause();
    socket.on('error', () => {});
    accepted.resolve(socket);
  }, {});
  const { port, result } = await relay(target);
  const client = net.connect({ host: '127.0.0.1', port });
  client.on('error', () => {});
  const chunk = Buffer.alloc(1 << 20);
  // Kernel buffers take a few megabytes; the rest must wait in the client.
  let isFull = false;
  for (let index = 0; index < 64; index++) isFull = !client.write(chunk);
  assert.ok(isFull);
  await accepted.promise;
  const before = client.writableLength;
  let quietTurns = 0;
  for (let last = before; quietTurns < 20; last = client.writableLength) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    quietTurns = client.writableLength === last ? quietTurns + 1 : 0;
  }
  assert.ok(client.writableLength > 32 << 20, `only ${client.writableLength} bytes are still waiting`);
  client.destroy();
  (await accepted.promise).destroy();
  await result;
});
