import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { relay } from './relay.ts';

async function listen(onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, onConnection);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function withRelay(
  serve: (socket: Socket) => void,
  use: (port: number) => Promise<void>,
): Promise<void> {
  const service = await listen(serve);
  const front = await listen((client) =>
    relay(client, connect({ port: portOf(service), host: '127.0.0.1', allowHalfOpen: true })),
  );
  try {
    await use(portOf(front));
  } finally {
    front.close();
    service.close();
  }
}

test('a slow reader gets every byte of a service that has hung up', async () => {
  const bytes = 4_000_000;
  await withRelay(
    (socket) => socket.end(Buffer.alloc(bytes)),
    async (port) => {
      const client = connect({ port, host: '127.0.0.1' });
      let seen = 0;
      client.on('data', (chunk: Buffer) => {
        seen += chunk.length;
        client.pause();
        setTimeout(() => client.resume(), 1);
      });
      await once(client, 'close');
      assert.equal(seen, bytes);
    },
  );
});

test('a client that has said everything still hears the answer', async () => {
  await withRelay(
    (socket) => {
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk;
      });
      socket.on('end', () => socket.end(`heard ${text}`));
    },
    async (port) => {
      const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      client.end('all of it');
      let answer = '';
      for await (const chunk of client) answer += chunk;
      assert.equal(answer, 'heard all of it');
    },
  );
});

test('a reset travels on', async () => {
  await withRelay(
    (socket) => socket.once('data', () => socket.resetAndDestroy()),
    async (port) => {
      const client = connect({ port, host: '127.0.0.1' });
      client.write('x');
      const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ECONNRESET');
    },
  );
});
