// Who may talk to whom: every refusal at the TLS border, with the reason on the side that can know it.

import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import tls from 'node:tls';
import type { Scope } from '#base/scope.ts';
import type { HboneRequest } from '#hbone/hbone.ts';
import type { SpiffeId } from '#model/identity.ts';
import { silentLogger } from '#telemetry/log.ts';
import { DEFAULT_TLS_POLICY, type TlsPolicy, tlsParameters } from '#tls/options.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { readWorkloadSecret } from '#tls/workload-certificate.ts';
import { until } from '../lib/until.ts';
import {
  CLIENT_ID,
  dialTcp,
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
  startServer,
  type TestServer,
} from './hbone-peers.ts';

const OTHER_ID = 'spiffe://cluster.local/ns/shop/sa/payment' as SpiffeId;
const acceptAll = (request: HboneRequest): void => echo(request.accept({}));

interface Ends {
  readonly server: WorkloadSecret;
  readonly client: WorkloadSecret;
}

async function attempt(
  scope: Scope,
  { server, client }: Ends,
): Promise<{ running: TestServer; error: Error }> {
  const running = await startServer(scope, { secret: async () => server, onRequest: acceptAll });
  const pool = newPool(scope, async () => client);
  const error = await pool.connect(keyFor(running.address), '10.0.0.1:80', {}).then(
    () => assert.fail('it connected'),
    (thrown: Error) => thrown,
  );
  assert.equal(pool.sessionCount, 0);
  return { running, error };
}

describe('HBONE over TLS', () => {
  it(
    'a server with another identity is refused by the client, before any request',
    scoped(async (scope) => {
      const authority = await newAuthority();
      const { running, error } = await attempt(scope, {
        server: await newSecret(authority, OTHER_ID),
        client: await newSecret(authority, CLIENT_ID),
      });
      assert.equal((error as { code?: string }).code, 'PEER_IDENTITY_MISMATCH');
      assert.match(error.message, new RegExp(`the peer is ${OTHER_ID}, expected ${SERVER_ID}`));
      assert.equal(running.requests.length, 0);
    }),
  );

  it(
    'a server of a foreign root is refused by the client',
    scoped(async (scope) => {
      const [ours, foreign] = await Promise.all([newAuthority(), newAuthority()]);
      const { running, error } = await attempt(scope, {
        server: await newSecret(foreign, SERVER_ID, foreign.certPem + ours.certPem),
        client: await newSecret(ours, CLIENT_ID),
      });
      assert.equal((error as { code?: string }).code, 'TLS_HANDSHAKE_FAILED');
      assert.equal(running.requests.length, 0);
      await until('the server says so too', () => running.refusals.length === 1);
    }),
  );

  it(
    'a client of a foreign root is refused by the server, which knows why',
    scoped(async (scope) => {
      const [ours, foreign] = await Promise.all([newAuthority(), newAuthority()]);
      const { running, error } = await attempt(scope, {
        server: await newSecret(ours, SERVER_ID),
        client: await newSecret(foreign, CLIENT_ID, foreign.certPem + ours.certPem),
      });
      assert.equal((error as { code?: string }).code, 'TLS_HANDSHAKE_FAILED');
      assert.match(error.message, /refuses our certificate/);
      await until('the refusal is reported', () => running.refusals.length === 1);
      assert.match(running.refusals[0]!.reason, /certificate is not accepted: .*UNABLE|SELF_SIGNED|ISSUER/);
      assert.equal(running.refusals[0]!.address.ip, '127.0.0.1');
      assert.equal(running.requests.length, 0);
    }),
  );

  it(
    'a client of another trust domain is refused by the server',
    scoped(async (scope) => {
      const authority = await newAuthority();
      const { running } = await attempt(scope, {
        server: await newSecret(authority, SERVER_ID),
        client: await newSecret(authority, 'spiffe://other.example/ns/shop/sa/web' as SpiffeId),
      });
      await until('the refusal is reported', () => running.refusals.length === 1);
      assert.match(
        running.refusals[0]!.reason,
        /spiffe:\/\/other\.example\/.*, not of trust domain cluster\.local/,
      );
      assert.equal(running.requests.length, 0);
    }),
  );

  it(
    'one trusted root among several is enough',
    scoped(async (scope) => {
      const [old, fresh] = await Promise.all([newAuthority(), newAuthority()]);
      const bundle = old.certPem + fresh.certPem;
      const server = await newSecret(old, SERVER_ID, bundle);
      const client = await newSecret(fresh, CLIENT_ID, bundle);
      const running = await startServer(scope, { secret: async () => server, onRequest: acceptAll });
      const pool = newPool(scope, async () => client);
      await pool.connect(keyFor(running.address), '10.0.0.1:80', {});
      assert.equal(running.requests.length, 1);
    }),
  );

  const strangers: Readonly<Record<string, { options: tls.ConnectionOptions; reason: RegExp }>> = {
    'without a client certificate': {
      options: { ALPNProtocols: ['h2'] },
      reason: /TLS handshake failed: .*peer did not return a certificate/i,
    },
    'that offers http/1.1 only': {
      options: { ALPNProtocols: ['http/1.1'] },
      reason: /TLS handshake failed: .*application protocol/i,
    },
    'that speaks TLS 1.2 only': {
      options: { ALPNProtocols: ['h2'], maxVersion: 'TLSv1.2' },
      reason: /TLS handshake failed: .*(protocol|version)/i,
    },
  };
  for (const [name, { options, reason }] of Object.entries(strangers)) {
    it(
      `a client ${name} is refused`,
      scoped(async (scope) => {
        const authority = await newAuthority();
        const secret = await newSecret(authority, SERVER_ID);
        const running = await startServer(scope, { secret: async () => secret });
        const socket = tls.connect({
          ...options,
          socket: await dialTcp(running.address, false),
          rejectUnauthorized: false,
        });
        scope.onClose(() => socket.destroy());
        socket.on('error', () => {});
        socket.resume();
        await until('it is cut off', () => socket.destroyed);
        await until('the refusal is reported', () => running.refusals.length === 1);
        assert.match(running.refusals[0]!.reason, reason);
      }),
    );
  }

  const policies: Readonly<
    Record<
      string,
      {
        policy: TlsPolicy;
        over: tls.ConnectionOptions;
        admits: boolean;
      }
    >
  > = {
    'by default a client with classical groups only is admitted': {
      policy: { allowsTls12: false, requiresPostQuantum: false },
      over: { ecdhCurve: 'P-384' },
      admits: true,
    },
    'by default a client with the hybrid group only is admitted': {
      policy: { allowsTls12: false, requiresPostQuantum: false },
      over: { ecdhCurve: 'X25519MLKEM768' },
      admits: true,
    },
    'where post-quantum is required, classical groups are refused': {
      policy: { allowsTls12: false, requiresPostQuantum: true },
      over: { ecdhCurve: 'X25519:P-256:P-384' },
      admits: false,
    },
    'where post-quantum is required, the hybrid group is admitted': {
      policy: { allowsTls12: false, requiresPostQuantum: true },
      over: { ecdhCurve: 'X25519MLKEM768' },
      admits: true,
    },
    'where TLS 1.2 is allowed, a client that knows no other is admitted': {
      policy: { allowsTls12: true, requiresPostQuantum: false },
      over: { maxVersion: 'TLSv1.2' },
      admits: true,
    },
    'where TLS 1.2 is allowed, its old suites are not': {
      policy: { allowsTls12: true, requiresPostQuantum: false },
      over: { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305' },
      admits: false,
    },
    'ChaCha20 is refused': {
      policy: { allowsTls12: false, requiresPostQuantum: false },
      over: { ciphers: 'TLS_CHACHA20_POLY1305_SHA256' },
      admits: false,
    },
  };
  for (const [name, { policy, over, admits }] of Object.entries(policies)) {
    it(
      name,
      scoped(async (scope) => {
        const authority = await newAuthority();
        const server = await newSecret(authority, SERVER_ID, authority.certPem, [], policy);
        const running = await startServer(scope, { secret: async () => server });
        const { certPem, keyPem } = await authority.issue({ uris: [CLIENT_ID], validForMs: 60_000 });
        const socket = tls.connect({
          ...{ cert: certPem, key: keyPem!, ca: authority.certPem, ALPNProtocols: ['h2'] },
          ...over,
          socket: await dialTcp(running.address, false),
          checkServerIdentity: () => undefined,
        });
        scope.onClose(() => socket.destroy());
        // The first bytes of a session are the server's SETTINGS.
        const outcome = await new Promise<string>((resolve) => {
          socket.once('data', () => resolve('admitted'));
          socket.on('error', ({ message }) => resolve(message));
          socket.once('close', () => resolve('closed'));
        });
        if (admits) assert.equal(outcome, 'admitted');
        else await until('the refusal is reported', () => running.refusals.length === 1);
        assert.equal(running.refusals.length, admits ? 0 : 1);
        assert.equal(socket.isSessionReused(), false);
      }),
    );
  }

  // Groups in the order of a client's wish; a classical one must not be asked for a second hello.
  for (const [who, groups, agreed] of [
    ['Culvert', tlsParameters(DEFAULT_TLS_POLICY).ecdhCurve, 'X25519MLKEM768'],
    ['a peer that has the hybrid group last', 'X25519:P-256:P-384:X25519MLKEM768', 'X25519'],
    ['a peer without the hybrid group', 'X25519:P-256', 'X25519'],
  ] as const) {
    it(
      `the key exchange with ${who} is ${agreed}`,
      scoped(async (scope) => {
        const authority = await newAuthority();
        const server = await newSecret(authority, SERVER_ID);
        const running = await startServer(scope, { secret: async () => server });
        const { certPem, keyPem } = await authority.issue({ uris: [CLIENT_ID], validForMs: 60_000 });
        const socket = tls.connect({
          ...{ cert: certPem, key: keyPem!, ca: authority.certPem, ALPNProtocols: ['h2'] },
          ecdhCurve: groups,
          socket: await dialTcp(running.address, false),
          checkServerIdentity: () => undefined,
        });
        scope.onClose(() => socket.destroy());
        await once(socket, 'secureConnect');
        assert.equal((socket.getEphemeralKeyInfo() as { name?: string }).name, agreed);
      }),
    );
  }

  for (const [name, usage] of [
    ['a client', { server: true }],
    ['a server', { client: true }],
  ] as const) {
    it(
      `${name} whose certificate is for the other role only is refused`,
      scoped(async (scope) => {
        const authority = await newAuthority();
        const id = name === 'a client' ? CLIENT_ID : SERVER_ID;
        const { certPem, keyPem } = await authority.issue({ uris: [id], validForMs: 60_000, ...usage });
        const odd = readWorkloadSecret(
          id,
          createPrivateKey(keyPem!),
          [certPem, authority.certPem],
          silentLogger,
        );
        const { running, error } = await attempt(scope, {
          server: name === 'a server' ? odd : await newSecret(authority, SERVER_ID),
          client: name === 'a client' ? odd : await newSecret(authority, CLIENT_ID),
        });
        assert.equal((error as { code?: string }).code, 'TLS_HANDSHAKE_FAILED');
        assert.equal(running.requests.length, 0);
      }),
    );
  }

  it(
    'no session can be taken up again: every one proves its certificates',
    scoped(async (scope) => {
      const authority = await newAuthority();
      const policy = { allowsTls12: true, requiresPostQuantum: false };
      const server = await newSecret(authority, SERVER_ID, authority.certPem, [], policy);
      const running = await startServer(scope, { secret: async () => server });
      const { certPem, keyPem } = await authority.issue({ uris: [CLIENT_ID], validForMs: 60_000 });
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        let session: Buffer | undefined;
        for (let turn = 0; turn < 2; turn++) {
          const socket = tls.connect({
            ...{ cert: certPem, key: keyPem!, ca: authority.certPem, ALPNProtocols: ['h2'], maxVersion },
            ...(session === undefined ? {} : { session }),
            socket: await dialTcp(running.address, false),
            checkServerIdentity: () => undefined,
          });
          scope.onClose(() => socket.destroy());
          socket.on('session', (offered: Buffer) => {
            session = offered;
          });
          await new Promise((resolve, reject) => socket.once('data', resolve).once('error', reject));
          assert.equal(socket.isSessionReused(), false, maxVersion);
          session ??= socket.getSession();
        }
      }
    }),
  );

  it(
    'a client without ALPN is refused after the handshake',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      const running = await startServer(scope, { secret: async () => server });
      const socket = tls.connect({
        socket: await dialTcp(running.address, false),
        secureContext: client.context,
        checkServerIdentity: () => undefined,
      });
      socket.on('error', () => {});
      socket.resume();
      await until('it is cut off', () => socket.destroyed);
      await until('the refusal is reported', () => running.refusals.length === 1);
      assert.equal(running.refusals[0]!.reason, 'the peer does not offer ALPN h2');
    }),
  );

  it(
    'a server without ALPN h2 is refused by the client',
    scoped(async (scope) => {
      const authority = await newAuthority();
      const issued = await authority.issue({ uris: [SERVER_ID], validForMs: 60_000 });
      const server = tls.createServer({ cert: issued.certPem, key: issued.keyPem!, ca: authority.certPem });
      const address = await listen(scope, (socket) => server.emit('connection', socket));
      const client = await newSecret(authority, CLIENT_ID);
      const pool = newPool(scope, async () => client);
      await assert.rejects(pool.connect(keyFor(address), 'a:1', {}), {
        code: 'TLS_HANDSHAKE_FAILED',
        message: /does not speak ALPN h2/,
      });
    }),
  );

  it(
    'both ends give up a handshake that does not move',
    scoped(async (scope) => {
      const { server, client } = await newSecrets();
      const mute = await listen(scope, () => {});
      const pool = newPool(scope, async () => client, { handshakeTimeoutMs: 30 });
      await assert.rejects(pool.connect(keyFor(mute), 'a:1', {}), {
        code: 'TLS_HANDSHAKE_FAILED',
        message: /within 30 ms/,
      });

      const running = await startServer(scope, {
        secret: async () => server,
        limits: { handshakeTimeoutMs: 30 },
      });
      const socket = await dialTcp(running.address, false);
      await until('the server hangs up', () => running.refusals.length === 1);
      assert.match(running.refusals[0]!.reason, /timeout/i);
      socket.destroy();
    }),
  );

  it(
    'without a certificate of its own, a server refuses and a client does not dial',
    scoped(async (scope) => {
      const none = (): Promise<WorkloadSecret> => Promise.reject(new Error('the authority is away'));
      const running = await startServer(scope, { secret: none });
      const socket = await dialTcp(running.address, false);
      socket.on('error', () => {}).resume();
      await until('the refusal is reported', () => running.refusals.length === 1);
      assert.match(running.refusals[0]!.reason, /the authority is away/);
      await until('the connection is closed', () => socket.destroyed);

      const pool = newPool(scope, none);
      await assert.rejects(pool.connect(keyFor(running.address), 'a:1', {}), {
        code: 'IDENTITY_UNAVAILABLE',
      });
      assert.equal(running.connections(), 1);
    }),
  );

  it(
    'a server waits a bounded time for its certificate',
    scoped(async (scope) => {
      const running = await startServer(scope, {
        secret: () => new Promise(() => {}),
        limits: { secretTimeoutMs: 20 },
      });
      const socket = await dialTcp(running.address, false);
      socket.on('error', () => {}).resume();
      await until('the refusal is reported', () => running.refusals.length === 1);
      assert.match(running.refusals[0]!.reason, /no certificate of our own in time/);
    }),
  );

  it(
    'a rotated certificate serves new connections and leaves open streams alone',
    scoped(async (scope) => {
      const authority = await newAuthority();
      const [first, second, client] = await Promise.all([
        newSecret(authority, SERVER_ID),
        newSecret(authority, OTHER_ID),
        newSecret(authority, CLIENT_ID),
      ]);
      let current = first;
      const running = await startServer(scope, { secret: async () => current, onRequest: acceptAll });
      const pool = newPool(scope, async () => client);
      const { stream } = await pool.connect(keyFor(running.address), 'a:1', {});
      const sink = record(stream);
      current = second;
      const expectSecond = keyFor(running.address, { expected: [OTHER_ID] });
      const fresh = await pool.connect(expectSecond, 'a:1', {});
      assert.equal(fresh.peer.identity, OTHER_ID);
      stream.write(Buffer.from('still here'));
      await until('the first stream echoes', () => sink.text === 'still here');
      assert.equal(running.connections(), 2);
    }),
  );
});
