import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import type { SeqpacketConnection } from '#linux/seqpacket.ts';
import { decodeWorkloadRequest, encodeAck, encodeHello } from '#proto/zds.ts';
import { createZdsConnection } from './zds-connection.ts';

/** The other end, in memory. */
function fakeSocket(): {
  socket: SeqpacketConnection;
  sent: string[];
  say: (message: Uint8Array, fds?: number[]) => void;
  isClosed: () => boolean;
} {
  const sent: string[] = [];
  let onMessage: (message: Uint8Array, fds: number[]) => void = () => {};
  let onClose: (error?: MeshError) => void = () => {};
  let closed = false;
  return {
    sent,
    say: (message, fds = []) => onMessage(message, fds),
    isClosed: () => closed,
    socket: {
      async send(message) {
        sent.push(decodeWorkloadRequest(message).kind);
      },
      onMessage: (handler) => {
        onMessage = handler;
      },
      onClose: (handler) => {
        onClose = handler;
      },
      close() {
        if (closed) return;
        closed = true;
        onClose();
      },
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const isProtocolError = (error: unknown): boolean =>
  error instanceof MeshError && error.code === 'ZDS_PROTOCOL';
const DEL = { kind: 'del', uid: 'u' } as const;

test('nothing is sent before the hello; then one request at a time, each answered in order', async () => {
  const { socket, sent, say } = fakeSocket();
  const connection = createZdsConnection(socket, 60_000);
  const first = connection.exchange({ kind: 'keep', uid: 'a' });
  const second = connection.exchange(DEL);
  await turn();
  assert.deepEqual(sent, []);
  say(encodeHello());
  await connection.greeted;
  await turn();
  assert.deepEqual(sent, ['keep']);
  say(encodeAck({ error: 'no' }));
  assert.equal(await first, 'no');
  await turn();
  assert.deepEqual(sent, ['keep', 'del']);
  say(encodeAck({ error: undefined }));
  assert.equal(await second, undefined);
});

test('an ack that does not come in time closes the connection: a late one would answer the next request', async () => {
  const { socket, say, isClosed } = fakeSocket();
  const connection = createZdsConnection(socket, 10);
  say(encodeHello());
  await connection.greeted;
  await assert.rejects(connection.exchange(DEL), isProtocolError);
  assert.ok(isClosed());
  await assert.rejects(connection.exchange(DEL), isProtocolError);
});

test('no hello, a wrong hello, an unasked word, a descriptor: closed', async () => {
  const silent = fakeSocket();
  await assert.rejects(createZdsConnection(silent.socket, 10).greeted, isProtocolError);
  assert.ok(silent.isClosed());

  const wrong = fakeSocket();
  const greeted = createZdsConnection(wrong.socket, 60_000).greeted;
  wrong.say(Uint8Array.of(8, 2));
  await assert.rejects(greeted, isProtocolError);
  assert.ok(wrong.isClosed());

  for (const fds of [[], [openSync('/dev/null', 'r')]]) {
    const { socket, say, isClosed } = fakeSocket();
    const connection = createZdsConnection(socket, 60_000);
    let reason = '';
    connection.onClose((text) => {
      reason = text;
    });
    say(encodeHello());
    await connection.greeted;
    say(encodeAck({ error: undefined }), fds);
    assert.ok(isClosed());
    assert.match(reason, /out of turn|descriptor/);
  }
});

test('the end of the peer releases whoever waits', async () => {
  const { socket, say } = fakeSocket();
  const connection = createZdsConnection(socket, 60_000);
  say(encodeHello());
  await connection.greeted;
  const waiting = [connection.exchange(DEL), connection.exchange(DEL)];
  await turn();
  socket.close();
  for (const result of await Promise.allSettled(waiting)) assert.equal(result.status, 'rejected');
  assert.ok(connection.isClosed);
});
