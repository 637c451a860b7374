// A proxy that ends while it carries a connection (ztunnel.md §1.7, §5.7): ours, and a real one at either end. The kernel, the
// programs and their signals are real; each is told to end as Kubernetes tells it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type net from 'node:net';
import { after, before, type TestContext, test } from 'node:test';
import { WITHOUT_PEER } from '../lib/peer-program.ts';
import { until, untilTelling } from '../lib/until.ts';
import {
  createDedicatedPair,
  type DedicatedPair,
  type DedicatedProxy,
  type Kind,
  VIP,
} from '../netns/lib/dedicated-pair.ts';

/** Longer than a test takes: whoever ends before it has not waited for it. */
const LONG = { CONNECTION_TERMINATION_DEADLINE: '120s' };
const SHORT = { CONNECTION_TERMINATION_DEADLINE: '1s' };

let pair: DedicatedPair;
before(async () => {
  pair = await createDedicatedPair('cvdr');
});
after(() => pair.close());

interface Held {
  readonly socket: net.Socket;
  say(text: string): Promise<string>;
}

async function hold(): Promise<Held> {
  const socket = pair.dial(VIP, 80);
  await once(socket, 'connect');
  return {
    socket,
    say: (text) =>
      new Promise((resolve) => {
        socket.once('data', (chunk) => resolve(String(chunk)));
        socket.once('end', () => resolve('ended'));
        socket.once('close', () => resolve('closed'));
        socket.write(text);
      }),
  };
}

const closed = (socket: net.Socket): Promise<void> =>
  new Promise((resolve) => socket.once('close', () => resolve()));

async function isRefused(host: string, port: number, netns: string): Promise<boolean> {
  const socket = pair.dial(host, port, netns);
  const fate = await Promise.race([
    once(socket, 'connect').then(() => false),
    closed(socket).then(() => true),
  ]).catch(() => true);
  socket.destroy();
  return fate;
}

const tail = ({ lines }: DedicatedProxy): string => lines.slice(-30).join('\n');
const gone = (proxy: DedicatedProxy): Promise<unknown> =>
  untilTelling(() => tail(proxy))('it ends', () => proxy.hasEnded);

type Proxies = readonly [client: DedicatedProxy, server: DedicatedProxy];

async function start(t: TestContext, client: Kind, server: Kind, env: NodeJS.ProcessEnv): Promise<Proxies> {
  pair.writeState();
  return [
    await pair.start(t, client, pair.client, { env }),
    await pair.start(t, server, pair.server, { env }),
  ];
}

const PAIRS: readonly (readonly [title: string, client: Kind, server: Kind])[] = [
  ['ours to ours', 'ours', 'ours'],
  ['ours to the real one', 'ours', 'peer'],
  ['the real one to ours', 'peer', 'ours'],
];

for (const [title, clientKind, serverKind] of PAIRS) {
  const options = { timeout: 60_000, skip: title === 'ours to ours' ? false : WITHOUT_PEER };

  test(
    `${title}: the server’s proxy ends; what is open goes on, nothing new comes, and it waits for the last only`,
    options,
    async (t) => {
      const [client, server] = await start(t, clientKind, serverKind, LONG);
      const held = await hold();
      assert.equal(await held.say('before'), 'before', tail(client));
      process.kill(server.pid, 'SIGTERM');
      await until('its listeners are closed', () => isRefused('127.0.0.1', 15_008, pair.server.netns));
      assert.equal(await held.say('meanwhile'), 'meanwhile', tail(server));
      assert.equal(await pair.ask(VIP, 80, 'too late'), '');
      await untilTelling(() => tail(client))(
        'the client’s proxy says why',
        () => client.access('error=').length > 0,
      );
      assert.equal(await held.say('still'), 'still', tail(server));
      assert.ok(!server.hasEnded);
      held.socket.end();
      await closed(held.socket);
      await gone(server);
      assert.equal(server.exitCode, 0, tail(server));
      // A new one serves at once: the client's proxy keeps nothing of the old session.
      await pair.start(t, serverKind, pair.server, { env: LONG });
      assert.equal(await pair.ask(VIP, 80, 'again'), 'again', tail(client));
    },
  );

  test(
    `${title}: the client’s proxy ends; what is open goes on, nothing new is taken`,
    options,
    async (t) => {
      const [client, server] = await start(t, clientKind, serverKind, LONG);
      const held = await hold();
      assert.equal(await held.say('before'), 'before', tail(client));
      process.kill(client.pid, 'SIGTERM');
      await until('its listeners are closed', () => isRefused(VIP, 80, pair.client.netns));
      assert.equal(await held.say('meanwhile'), 'meanwhile', tail(client));
      assert.ok(!client.hasEnded);
      held.socket.end();
      await closed(held.socket);
      await gone(client);
      assert.equal(client.exitCode, 0, tail(client));
      await untilTelling(() => tail(server))(
        'the end at the server',
        () => server.access('connection complete').length > 0,
      );
    },
  );

  test(`${title}: at the deadline what is still open is cut, and both proxies say so`, options, async (t) => {
    const [client, server] = await start(t, clientKind, serverKind, SHORT);
    const held = await hold();
    assert.equal(await held.say('before'), 'before', tail(client));
    let fate = 'ended';
    held.socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      fate = code ?? '';
    });
    held.socket.on('end', () => held.socket.end());
    const over = closed(held.socket);
    process.kill(server.pid, 'SIGTERM');
    await over;
    // The real one makes an ordinary end of everything (docs/DIFFERENCES.md).
    if (clientKind === 'ours') assert.equal(fate, 'ECONNRESET');
    await gone(server);
    assert.equal(server.exitCode, 0, tail(server));
    await untilTelling(() => tail(server))('the server’s proxy says why', () =>
      // The real one has no line for a tunnel that it cuts.
      serverKind === 'ours'
        ? server.access('connection closed due to connection drain').length > 0
        : server.lines.some((line) => line.includes('drain duration expired with pending connections')),
    );
    await untilTelling(() => tail(client))(
      'the client’s proxy says that it was cut',
      () => client.access('error=').length > 0,
    );
  });
}
