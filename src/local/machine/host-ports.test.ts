// The exchange about host ports, with a channel in memory; real descriptors travel in test/netns/machine.test.ts.

import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { silentLogger } from '#telemetry/log.ts';
import { requestHostPorts, sendHostPort } from './host-ports.ts';
import type { FrontMessage, LocalMessage } from './messages.ts';

const listening = (): Promise<Server> =>
  new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
const portOf = (server: Server): number => (server.address() as { port: number }).port;

test('a port that somebody has is refused with the way to find him', async () => {
  const holder = await listening();
  try {
    const answer = await new Promise<FrontMessage>((resolve) => {
      const send = (message: FrontMessage): boolean => {
        resolve(message);
        return true;
      };
      sendHostPort({ send }, { host: '127.0.0.1', port: portOf(holder) }, silentLogger);
    });
    assert.equal(answer.type, 'host-port-refused');
    assert.ok(
      answer.type === 'host-port-refused' && answer.message.includes(`ss -ltnp 'sport = :${portOf(holder)}'`),
    );
  } finally {
    holder.close();
  }
});

test('one question at a time; refusals reach who asked; a listener that nobody waits for is closed', async () => {
  const asked: LocalMessage[] = [];
  let hear: (message: unknown, handle: unknown) => void = () => {};
  const ports = requestHostPorts({
    send: (message) => asked.push(message),
    onMessage: (handler) => {
      hear = handler;
    },
  });
  const host = '127.0.0.1';
  const first = ports.open({ host, port: 30_001 });
  const second = ports.open({ host: '::1', port: 30_001 });
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(asked, [{ type: 'host-port', host, port: 30_001 }]);

  const stray = await listening();
  hear({ type: 'host-port', host: '::1', port: 30_001 }, stray);
  assert.equal(stray.listening, false);

  const wanted = await listening();
  hear({ type: 'host-port', host, port: 30_001 }, wanted);
  assert.equal(await first, wanted);
  wanted.close();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked.length, 2);
  hear({ type: 'host-port-refused', host: '::1', port: 30_001, message: 'taken' }, undefined);
  await assert.rejects(
    second,
    (error) => error instanceof MeshError && error.code === 'PORT_IN_USE' && error.message === 'taken',
  );
});
