// What a client may cost that gives nothing, and the way in that pages of browsers must not find.

import assert from 'node:assert/strict';
import { connect as connectTcp, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { tlsTo, withApiServer } from './apiserver-rig.ts';

const IMPATIENT = { headMs: 300, requestMs: 600, checkMs: 100 };

/** Whatever the server says before it hangs up. */
const lastWords = (socket: Socket): Promise<string> => text(socket).catch(() => '');

test('a request head that never ends is cut off, and so is a handshake', async () => {
  await withApiServer(
    async (rig) => {
      const loris = await tlsTo(rig);
      loris.write('GET /version HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
      const trickle = setInterval(() => loris.write('x'), 50);
      assert.match(await lastWords(loris), /^(HTTP\/1\.1 4\d\d |$)/);
      clearInterval(trickle);
      const mute = connectTcp({ host: '127.0.0.1', port: rig.port });
      mute.on('error', () => {});
      assert.equal(await lastWords(mute), '');
      assert.equal((await rig.call('GET', '/readyz')).text, 'ok');
    },
    {},
    IMPATIENT,
  );
});

test('a body that never comes is cut off; an answer may last', async () => {
  await withApiServer(
    async (rig) => {
      const watch = await rig.open('GET', '/api/v1/namespaces?watch=true&timeoutSeconds=30');
      const slow = await tlsTo(rig);
      slow.write(
        'POST /api/v1/namespaces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
      );
      await lastWords(slow);
      // The watch is older than any limit by now, and still told of everything.
      await rig.call('POST', '/api/v1/namespaces', { body: { metadata: { name: 'late' } } });
      let told = '';
      for await (const piece of watch) {
        told += String(piece);
        if (told.includes('"late"')) break;
      }
      watch.destroy();
      assert.match(told, /"late"/);
    },
    {},
    IMPATIENT,
  );
});

test('a body that never ends is cut off at its limit, whatever length it claims or keeps silent about', async () => {
  await withApiServer(async (rig) => {
    const socket = await tlsTo(rig);
    socket.write(
      'POST /api/v1/namespaces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`;
    const answer = lastWords(socket);
    for (let sent = 0; sent < 64 && socket.writable; sent++) socket.write(chunk);
    assert.match(await answer, /^(HTTP\/1\.1 413 |$)/);
    assert.equal((await rig.call('GET', '/readyz')).text, 'ok');
  });
});

test('a head that is too large is refused, and the connection ends', async () => {
  await withApiServer(async (rig) => {
    const socket = await tlsTo(rig);
    socket.write(`GET /version HTTP/1.1\r\nHost: localhost\r\nX-Large: ${'x'.repeat(100_000)}\r\n\r\n`);
    assert.match(await lastWords(socket), /^(HTTP\/1\.1 4\d\d |$)/);
    assert.equal((await rig.call('GET', '/readyz')).text, 'ok');
  });
});

test('connections beyond the limit are dropped; those there are go on', async () => {
  await withApiServer(
    async (rig) => {
      const held = [await tlsTo(rig), await tlsTo(rig)];
      const third = connectTcp({ host: '127.0.0.1', port: rig.port });
      third.on('error', () => {});
      assert.equal(await lastWords(third), '');
      const [first] = held as [TLSSocket, TLSSocket];
      first.write('GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      assert.match(await lastWords(first), /200 OK[\s\S]*ok$/);
      for (const socket of held) socket.destroy();
    },
    {},
    { connections: 2 },
  );
});

test('an upgrade to WebSocket passes the same gate: Origin, Host, who, and whether he may', async () => {
  await withApiServer(async (rig) => {
    const upgrade = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'v5.channel.k8s.io',
    };
    const exec = '/api/v1/namespaces/default/pods/p/exec?command=id&stdout=true';
    const ask = async (
      headers: Record<string, string>,
      as: 'admin' | 'nobody' = 'admin',
    ): Promise<number> => {
      const answer = await rig.open('GET', exec, { headers: { ...upgrade, ...headers }, as });
      answer.destroy();
      return answer.statusCode ?? 0;
    };
    assert.equal(await ask({ origin: 'https://evil.example' }), 403);
    assert.equal(await ask({ origin: 'null' }), 403);
    assert.equal(await ask({ host: `evil.example:${rig.port}` }), 403);
    assert.equal(await ask({}, 'nobody'), 403);
  });
});

test('a watch of more state than a reader may fall behind begins with all of it', async () => {
  await withApiServer(async ({ call, open }) => {
    const path = '/api/v1/namespaces/default/configmaps';
    const data = { text: 'x'.repeat(900_000) };
    for (let index = 0; index < 8; index++)
      assert.equal(
        (await call('POST', path, { body: { metadata: { name: `big-${index}` }, data } })).code,
        201,
      );
    const watch = await open(
      'GET',
      `${path}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true`,
    );
    let received = '';
    for await (const chunk of watch) {
      received += String(chunk);
      if (received.includes('initial-events-end')) break;
    }
    assert.equal(received.match(/"type":"ADDED"/g)?.length, 8);
  });
});
