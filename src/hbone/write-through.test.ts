import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Duplex } from 'node:stream';
import { type TestContext, test } from 'node:test';
import tls from 'node:tls';
import { createAuthority } from '#tls/issue.ts';
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

/** Two ends of a TLS connection on loopback. */
async function tlsPair(t: TestContext): Promise<{ client: tls.TLSSocket; server: tls.TLSSocket }> {
  const authority = await createAuthority({ organization: 'test', validDays: 1 });
  const { certPem, keyPem } = await authority.issue({
    dnsNames: ['localhost'],
    server: true,
    validForMs: 3_600_000,
  });
  const listener = tls.createServer({ cert: certPem, key: keyPem! }).listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  const client = tls.connect({ port, host: '127.0.0.1', servername: 'localhost', ca: authority.certPem });
  const [[server]] = await Promise.all([
    once(listener, 'secureConnection') as Promise<[tls.TLSSocket]>,
    once(client, 'secureConnect'),
  ]);
  t.after(() => {
    client.destroy();
    server.destroy();
    listener.close();
  });
  return { client, server };
}

test('TLS: a small write is done at once, those behind it in the same turn wait, and all arrive in order', async (t) => {
  const { client, server } = await tlsPair(t);
  const received: Buffer[] = [];
  server.on('data', (chunk: Buffer) => received.push(chunk));
  const writing = new WriteThrough(client);
  const done: string[] = [];
  const expected: Buffer[] = [];
  const write = (name: string, bytes: Buffer): void => {
    expected.push(bytes);
    writing.write(bytes, () => done.push(name));
  };
  for (let round = 0; round < 50; round++) {
    done.length = 0;
    const bulk = Buffer.alloc(100_000, `bulk ${round} `);
    write('a', Buffer.from(`a${round}`));
    if (round === 0) assert.deepEqual(done, ['a']);
    write('b', Buffer.from(`b${round}`));
    write('bulk', bulk);
    write('c', Buffer.from(`c${round}`));
    assert.ok(done.length <= 1, done.join());
    while (done.length < 4) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(done, ['a', 'b', 'bulk', 'c']);
    // Others begin while the write before is under way still, or find it done.
    if (round % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  write('last', Buffer.from('last'));
  writing.end();
  await once(server, 'end');
  assert.ok(Buffer.concat(received).equals(Buffer.concat(expected)));
});

test('TLS: what is written to a socket that is gone is dropped', async (t) => {
  const { client } = await tlsPair(t);
  const writing = new WriteThrough(client);
  writing.write(Buffer.from('a'), () => {});
  client.destroy();
  writing.write(Buffer.from('b'), () => assert.fail('it was not written'));
  await once(client, 'close');
  writing.write(Buffer.from('c'), () => assert.fail('it was not written'));
  writing.end();
});
