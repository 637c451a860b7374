import assert from 'node:assert/strict';
import { duplexPair, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { test } from 'node:test';
import { SpdyConnection } from './spdy-connection.ts';
import type { SpdyStream } from './spdy-stream.ts';
import { WINDOW_BYTES } from './spdy-stream.ts';
import { TestSpdyClient } from './test-spdy-client.ts';

interface Rig {
  readonly client: TestSpdyClient;
  readonly connection: SpdyConnection;
  readonly streams: SpdyStream[];
  readonly closed: Promise<Error | undefined>;
}

function makeRig(onStream: (stream: SpdyStream) => void = (stream) => stream.accept()): Rig {
  const [near, far] = duplexPair();
  const streams: SpdyStream[] = [];
  let connection: SpdyConnection | undefined;
  const closed = new Promise<Error | undefined>((resolve) => {
    connection = new SpdyConnection(near, {
      onStream: (stream) => {
        streams.push(stream);
        onStream(stream);
      },
      onClose: resolve,
    });
  });
  return { client: new TestSpdyClient(far), connection: connection!, streams, closed };
}

test('a stream is answered, carries bytes both ways and ends with FIN on both sides', async () => {
  const { client, streams } = makeRig((stream) => {
    stream.accept();
    stream.pipe(stream);
  });
  const id = client.open({ streamtype: 'data' });
  client.data(id, 'hello ');
  client.data(id, 'there', true);
  await client.until('the echo', () => client.received(id).fin);
  assert.equal(client.received(id).bytes.toString(), 'hello there');
  assert.deepEqual(
    client.of('syn-reply').map(({ streamId }) => streamId),
    [id],
  );
  assert.equal(client.of('rst-stream').length, 0);
  assert.deepEqual(streams[0]?.headers.get('streamtype'), ['data']);
});

test("pings of the client's are answered, answers to ours are not", async () => {
  const { client } = makeRig();
  client.send({ type: 'ping', id: 2 });
  client.send({ type: 'ping', id: 7 });
  await client.until('a ping', () => client.of('ping').length > 0);
  assert.deepEqual(client.of('ping'), [{ type: 'ping', id: 7 }]);
});

test('a reset ends the stream, and destroying one resets it', async () => {
  const { client, streams } = makeRig();
  const first = client.open({});
  const second = client.open({});
  await client.until('replies', () => client.of('syn-reply').length === 2);
  const gone = new Promise<void>((resolve) => streams[0]?.on('close', resolve));
  client.send({ type: 'rst-stream', streamId: first, status: 5 });
  await gone;
  streams[1]?.destroy();
  await client.until('a reset', () => client.of('rst-stream').length > 0);
  assert.deepEqual(client.of('rst-stream'), [{ type: 'rst-stream', streamId: second, status: 5 }]);
});

test('a client that keeps no windows is sent everything', async () => {
  const { client } = makeRig((stream) => {
    stream.accept();
    stream.end(Buffer.alloc(5 * WINDOW_BYTES));
  });
  const id = client.open({});
  await client.until('all of it', () => client.received(id).fin);
  assert.equal(client.received(id).bytes.length, 5 * WINDOW_BYTES);
});

test('a client that keeps windows is sent no more than they allow', async () => {
  const { client, streams } = makeRig();
  client.send({ type: 'settings', values: new Map([[7, 1000]]) });
  const id = client.open({});
  await client.until('a reply', () => client.of('syn-reply').length === 1);
  streams[0]?.end(Buffer.alloc(2500));
  const pinged = async (): Promise<number> => {
    const before = client.of('ping').length;
    client.send({ type: 'ping', id: 1 });
    await client.until('a ping', () => client.of('ping').length > before);
    return client.received(id).bytes.length;
  };
  assert.equal(await pinged(), 1000);
  client.send({ type: 'window-update', streamId: id, deltaBytes: 700 });
  assert.equal(await pinged(), 1700);
  client.send({ type: 'window-update', streamId: id, deltaBytes: 700 });
  assert.equal(await pinged(), 2400);
  client.send({ type: 'window-update', streamId: id, deltaBytes: 700 });
  await client.until('the end', () => client.received(id).fin);
  assert.equal(client.received(id).bytes.length, 2500);
});

test('the window of the session holds all streams together', async () => {
  const { client, streams } = makeRig();
  client.send({ type: 'settings', values: new Map([[7, 1_000_000]]) });
  const ids = [client.open({}), client.open({})];
  await client.until('replies', () => client.of('syn-reply').length === 2);
  for (const stream of streams) stream.end(Buffer.alloc(WINDOW_BYTES));
  const sum = (): number => ids.reduce((total, id) => total + client.received(id).bytes.length, 0);
  await client.until('the first window', () => sum() >= WINDOW_BYTES);
  client.send({ type: 'ping', id: 1 });
  await client.until('a ping', () => client.of('ping').length > 0);
  assert.equal(sum(), WINDOW_BYTES);
  client.send({ type: 'window-update', streamId: 0, deltaBytes: WINDOW_BYTES });
  await client.until('the rest', () => ids.every((id) => client.received(id).fin));
});

test('a reader gives the window back, a stream that is not read holds the client up', async () => {
  const [near, far] = duplexPair();
  const streams: SpdyStream[] = [];
  new SpdyConnection(near, { onStream: (stream) => streams.push(stream), onClose: () => {} });
  const client = new TestSpdyClient(far);
  const id = client.open({});
  for (let count = 0; count < 100; count++) client.data(id, Buffer.alloc(WINDOW_BYTES));
  await client.until('window updates of the session', () => client.of('window-update').length > 0);
  // What is not taken stays in the client's own buffer.
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(far.writableLength > 90 * WINDOW_BYTES, `${far.writableLength} bytes wait at the client`);
  assert.deepEqual(
    client.of('window-update').filter(({ streamId }) => streamId === id),
    [],
  );
  let read = 0;
  streams[0]?.on('data', (chunk: Buffer) => {
    read += chunk.length;
  });
  client.data(id, '', true);
  await new Promise((resolve) => streams[0]?.on('end', resolve));
  assert.equal(read, 100 * WINDOW_BYTES);
  assert.ok(client.of('window-update').some(({ streamId }) => streamId === id));
});

test('neither a client that keeps windows nor one that does not waits for ever on a slow reader', async () => {
  for (const keepsWindows of [true, false])
    for (const pieceBytes of [1000, 16_384, 50_000]) {
      const { client, streams } = makeRig();
      const id = client.open({});
      await client.until('a reply', () => client.of('syn-reply').length === 1);
      const total = 20 * WINDOW_BYTES;
      let taken = 0;
      const slow = new Writable({
        highWaterMark: 1,
        write(chunk: Buffer, _encoding, callback) {
          taken += chunk.length;
          setImmediate(callback);
        },
      });
      const end = finished(streams[0]!.pipe(slow));
      for (let sent = 0; sent < total; ) {
        const granted = (): number =>
          WINDOW_BYTES +
          client
            .of('window-update')
            .reduce((sum, { streamId, deltaBytes }) => sum + (streamId === id ? deltaBytes : 0), 0);
        const length = Math.min(pieceBytes, total - sent);
        if (keepsWindows) await client.until('a window', () => granted() >= sent + length);
        client.data(id, Buffer.alloc(length));
        sent += length;
      }
      client.data(id, '', true);
      await end;
      assert.equal(taken, total);
    }
});

test('what a client may not do ends the connection with GOAWAY and a reason', async () => {
  const wrong: readonly (readonly [RegExp, (client: TestSpdyClient) => void])[] = [
    [/cannot open stream 2/, (client) => client.open({}, 2)],
    [/cannot open stream 1/, (client) => [client.open({}, 3), client.open({}, 1)]],
    [/stream 9, which is not open/, (client) => client.data(9, 'x')],
    [/initial window/, (client) => client.send({ type: 'settings', values: new Map([[7, 0xffffffff]]) })],
    [
      /no zlib/,
      (client) =>
        client.send({
          type: 'syn-stream',
          streamId: 1,
          fin: false,
          unidirectional: false,
          headerBlock: Buffer.from('??'),
        }),
    ],
  ];
  for (const [reason, act] of wrong) {
    const { client, closed } = makeRig();
    act(client);
    assert.match((await closed)?.message ?? 'no error', reason);
    assert.equal(client.of('goaway')[0]?.status, 1);
  }
});

test('more streams than the limit are refused, not served', async () => {
  const { client, streams } = makeRig();
  for (let count = 0; count < 1001; count++) client.open({});
  await client.until('a refusal', () => client.of('rst-stream').length > 0);
  assert.deepEqual(client.of('rst-stream'), [{ type: 'rst-stream', streamId: 2001, status: 3 }]);
  assert.equal(streams.length, 1000);
});

test('the end of the transport ends every stream once', async () => {
  const { client, streams, closed } = makeRig();
  client.open({});
  client.open({});
  await client.until('replies', () => client.of('syn-reply').length === 2);
  const ends = streams.map((stream) => new Promise((resolve) => stream.on('close', resolve)));
  client.end();
  assert.equal(await closed, undefined);
  await Promise.all(ends);
});
