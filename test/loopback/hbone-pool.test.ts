// Which session takes which stream (ztunnel.md §5.5), and what happens when sessions go.

import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { describe, it } from 'node:test';
import { systemClock } from '#base/clock.ts';
import type { Scope } from '#base/scope.ts';
import type { HboneRequest } from '#hbone/hbone.ts';
import { createHbonePool, type HbonePoolLimits } from '#hbone/pool.ts';
import type { HboneServerLimits } from '#hbone/server.ts';
import type { SpiffeId } from '#model/identity.ts';
import { silentLogger } from '#telemetry/log.ts';
import { createWorkloadTlsServer } from '#tls/options.ts';
import { until } from '../lib/until.ts';
import {
  CLIENT_ID,
  dial,
  echo,
  keyFor,
  listen,
  newAuthority,
  newPool,
  newSecret,
  newSecrets,
  record,
  SERVER_ID,
  scoped,
  startPair,
  startServer,
} from './hbone-peers.ts';

const acceptAll = (request: HboneRequest): void => echo(request.accept({}));
const pair = (scope: Scope, pool: HbonePoolLimits = {}, server: HboneServerLimits = {}) =>
  startPair(scope, acceptAll, { pool, server });

describe('the HBONE pool', () => {
  it(
    'a request whose session was still shaking hands when its server began to drain is served',
    scoped(async (scope) => {
      const { server: own, client } = await newSecrets();
      const certificate = Promise.withResolvers<typeof own>();
      const { server, address } = await startServer(scope, {
        secret: () => certificate.promise,
        onRequest: acceptAll,
      });
      const tunnel = newPool(scope, async () => client).connect(keyFor(address), 'a:1', {});
      await until('the connection is there', () => server.liveCount === 1);
      server.drain();
      certificate.resolve(own);
      const { stream } = await tunnel;
      const sink = record(stream);
      stream.write(Buffer.from('still'));
      stream.end();
      await until('the answer', () => sink.ended);
      assert.equal(sink.text, 'still');
      await until('the session to end by itself', () => server.liveCount === 0);
    }),
  );

  it(
    'opens one session for many callers at once',
    scoped(async (scope) => {
      const { client, connections, pool } = await pair(scope);
      await Promise.all(Array.from({ length: 50 }, () => client.connect('a:1')));
      assert.equal(connections(), 1);
      assert.equal(pool.sessionCount, 1);
    }),
  );

  it(
    'shares a session only when all four parts of the key are equal',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      const running = await startServer(scope, { secret: async () => server, onRequest: acceptAll });
      const other = await startServer(scope, { secret: async () => server, onRequest: acceptAll });
      const pool = newPool(scope, async () => client);
      const extra = 'spiffe://cluster.local/ns/shop/sa/extra' as SpiffeId;
      const keys = [
        keyFor(running.address),
        keyFor(running.address, { source: extra }),
        keyFor(running.address, { expected: [SERVER_ID, extra] }),
        keyFor(running.address, { expected: [extra, SERVER_ID] }),
        keyFor(running.address, { downstreamIp: '10.244.1.3' }),
        keyFor(other.address),
      ];
      for (let round = 0; round < 2; round++) {
        for (const key of keys) await pool.connect(key, 'a:1', {});
      }
      assert.equal(running.connections(), 5);
      assert.equal(other.connections(), 1);
      assert.equal(pool.sessionCount, 6);
    }),
  );

  it(
    'opens a further session at its own limit, and comes back to one that has room again',
    scoped(async (scope) => {
      const { client, connections } = await pair(scope, { maxStreams: 10 });
      const tunnels = await Promise.all(Array.from({ length: 25 }, () => client.connect('a:1')));
      assert.equal(connections(), 3);
      const sinks = tunnels.map(({ stream }) => record(stream));
      for (const { stream } of tunnels) stream.end();
      await until('all streams are closed', () => sinks.every((sink) => sink.outcome !== undefined));
      await Promise.all(Array.from({ length: 25 }, () => client.connect('a:1')));
      assert.equal(connections(), 3);
    }),
  );

  it(
    "honours the peer's lower limit",
    scoped(async (scope) => {
      const { client, connections, requests } = await pair(scope, { maxStreams: 100 }, { maxStreams: 4 });
      await Promise.all(Array.from({ length: 12 }, () => client.connect('a:1')));
      assert.equal(requests.length, 12);
      assert.equal(connections(), 3);
    }),
  );

  it(
    'drops an unused session, but only when its streams are done',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      const running = await startServer(scope, { secret: async () => server, onRequest: acceptAll });
      let nowMs = 0;
      let looks = 0;
      const monotonicMs = (): number => {
        looks += 1;
        return nowMs;
      };
      const pool = newPool(scope, async () => client, { idleMs: 100 }, { now: Date.now, monotonicMs });
      const key = keyFor(running.address);
      const { stream } = await pool.connect(key, 'a:1', {});
      const sink = record(stream);
      const sweeps = async (): Promise<void> => {
        const before = looks;
        await until('the pool looked twice', () => looks >= before + 2);
      };
      nowMs = 99;
      await sweeps();
      (await pool.connect(key, 'a:1', {})).stream.reset('CANCEL');
      assert.equal(running.connections(), 1);
      nowMs = 199;
      await sweeps();
      const fresh = await pool.connect(key, 'a:1', {});
      assert.equal(running.connections(), 2);
      stream.write(Buffer.from('alive'));
      await until('the first stream lives', () => sink.text === 'alive');
      assert.equal(pool.sessionCount, 2);
      stream.end();
      await until('the first session went with its last stream', () => pool.sessionCount === 1);
      assert.deepEqual(sink.outcome, { clean: true });
      fresh.stream.reset('CANCEL');
      nowMs = 400;
      await until('the second session went unused', () => pool.sessionCount === 0);
    }),
  );

  it(
    'leaves a draining session and opens a new one',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      const sessions: http2.ServerHttp2Session[] = [];
      const address = await rawServer(scope, server, (session) => {
        sessions.push(session);
        session.on('stream', (stream) => {
          stream.on('error', () => {});
          stream.respond({ ':status': 200 });
          stream.pipe(stream);
        });
      });
      const pool = newPool(scope, async () => client);
      const first = await pool.connect(keyFor(address), 'a:1', {});
      const sink = record(first.stream);
      sessions[0]!.goaway(0);
      // The ping's answer comes behind the client's reading of GOAWAY.
      await new Promise((resolve) => sessions[0]!.ping(resolve));
      const second = await pool.connect(keyFor(address), 'b:1', {});
      const secondSink = record(second.stream);
      second.stream.write(Buffer.from('two'));
      await until('the second echoes', () => secondSink.text === 'two');
      first.stream.write(Buffer.from('one'));
      first.stream.end();
      await until('the first ends well', () => sink.outcome !== undefined);
      assert.equal(sink.text, 'one');
      assert.deepEqual(sink.outcome, { clean: true });
    }),
  );

  it(
    'repeats a request once that the peer did not look at',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      let sessions = 0;
      let refusals = 1;
      const address = await rawServer(scope, server, (session) => {
        sessions += 1;
        session.on('stream', (stream) => {
          stream.on('error', () => {});
          if (refusals-- > 0) stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
          else stream.respond({ ':status': 200 });
        });
      });
      const pool = newPool(scope, async () => client);
      await pool.connect(keyFor(address), 'a:1', {});
      assert.equal(sessions, 2);

      refusals = 2;
      const other = keyFor(address, { downstreamIp: '10.244.1.9' });
      await assert.rejects(pool.connect(other, 'a:1', {}), { code: 'HBONE_PROTOCOL' });
      assert.equal(sessions, 4);
    }),
  );

  it(
    'fails all who wait for a session that cannot be opened, and tries anew for the next',
    scoped(async (scope) => {
      const authority = await newAuthority();
      const client = await newSecret(authority, CLIENT_ID);
      let dials = 0;
      const refuse = (): Promise<never> => {
        dials += 1;
        return Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }));
      };
      const pool = createHbonePool({
        dial: refuse,
        secret: async () => client,
        log: silentLogger,
        scope,
        clock: systemClock,
      });
      const address = await listen(scope, () => {});
      const failures = await Promise.allSettled(
        Array.from({ length: 5 }, () => pool.connect(keyFor(address), 'a:1', {})),
      );
      for (const failure of failures) {
        assert.equal(failure.status, 'rejected');
        assert.equal((failure.reason as { code?: string }).code, 'CONNECT_FAILED');
      }
      assert.equal(dials, 1);
      await assert.rejects(pool.connect(keyFor(address), 'a:1', {}), { code: 'CONNECT_FAILED' });
      assert.equal(dials, 2);
    }),
  );

  it(
    'ends a session whose peer stays silent',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      const running = await startServer(scope, { secret: async () => server, onRequest: acceptAll });
      // A relay that can stop relaying stands for a peer that is gone without a word.
      let isCut = false;
      const relay = await listen(scope, (inner) => {
        dial(running.address).then(
          (outer) => {
            scope.onClose(() => outer.destroy());
            outer.on('error', () => {});
            inner.on('data', (chunk) => !isCut && outer.write(chunk));
            outer.on('data', (chunk) => !isCut && inner.write(chunk));
          },
          () => inner.destroy(),
        );
      });
      const pool = newPool(scope, async () => client, { pingIntervalMs: 10, pingTimeoutMs: 50 });
      const { stream } = await pool.connect(keyFor(relay), 'a:1', {});
      const sink = record(stream);
      stream.write(Buffer.from('x'));
      await until('the echo came', () => sink.text === 'x');
      isCut = true;
      await until('the stream is over', () => sink.outcome !== undefined);
      assert.deepEqual(sink.outcome, { clean: false, reason: 'the peer did not answer a ping within 50 ms' });
      await until('the session is gone', () => pool.sessionCount === 0);
    }),
  );

  it(
    'answers nobody after close',
    scoped(async (scope) => {
      const { client, pool } = await pair(scope);
      const { stream } = await client.connect('a:1');
      const sink = record(stream);
      pool.close();
      await until('its streams are over', () => sink.outcome !== undefined);
      assert.equal(sink.outcome?.clean, false);
      await assert.rejects(client.connect('a:1'), { code: 'HBONE_DRAINING' });
    }),
  );

  it(
    'refuses an empty authority and an illegal header by itself',
    scoped(async (scope) => {
      const { client, requests } = await pair(scope);
      await assert.rejects(client.connect(''), { code: 'HBONE_PROTOCOL' });
      await assert.rejects(client.connect('a:1', { baggage: 'a\nb' }), { code: 'HBONE_PROTOCOL' });
      await client.connect('a:1');
      assert.equal(requests.length, 1);
    }),
  );
});

async function rawServer(
  scope: Scope,
  secret: Parameters<typeof createWorkloadTlsServer>[0],
  onSession: (session: http2.ServerHttp2Session) => void,
) {
  const server = createWorkloadTlsServer(secret, 10_000);
  server.on('secureConnection', (socket) => {
    const session = http2.performServerHandshake(socket);
    session.on('error', () => {});
    onSession(session);
  });
  return listen(scope, (socket) => server.emit('connection', socket));
}
