// Revoked certificates at the border of HBONE: new sessions on both sides, live ones when a list comes, and the file
// that the lists come from.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { HbonePool } from '#hbone/hbone.ts';
import type { SpiffeId } from '#model/identity.ts';
import { createLogger, silentLogger } from '#telemetry/log.ts';
import { parseRevocationLists } from '#tls/crl.ts';
import { followCrlFile } from '#tls/crl-file.ts';
import type { Authority } from '#tls/issue.ts';
import { Revocations } from '#tls/revocation.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { type CrlOptions, newCrl, newIntermediate } from '../lib/crls.ts';
import { until } from '../lib/until.ts';
import {
  CLIENT_ID,
  echo,
  keyFor,
  newAuthority,
  newPool,
  newSecret,
  record,
  SERVER_ID,
  scoped,
  startServer,
  type TestServer,
} from './hbone-peers.ts';

const THIRD_ID = 'spiffe://cluster.local/ns/shop/sa/ledger' as SpiffeId;

let root: Authority;
let server: WorkloadSecret;
let client: WorkloadSecret;

async function listing(...lists: readonly (readonly [Authority, CrlOptions])[]): Promise<Revocations> {
  const revocations = new Revocations();
  const made = await Promise.all(lists.map(([authority, options]) => newCrl(authority, options)));
  revocations.replace(made.flatMap((der) => parseRevocationLists(der)));
  return revocations;
}

interface Sides {
  readonly server?: WorkloadSecret;
  readonly client?: WorkloadSecret;
  readonly atServer?: Revocations;
  readonly atClient?: Revocations;
}

interface Pair {
  readonly running: TestServer;
  readonly pool: HbonePool;
}

async function pair(scope: Scope, sides: Sides): Promise<Pair> {
  const running = await startServer(scope, {
    secret: async () => sides.server ?? server,
    onRequest: (request) => echo(request.accept({})),
    ...(sides.atServer === undefined ? {} : { revocations: sides.atServer }),
  });
  const secret = async () => sides.client ?? client;
  const pool = newPool(scope, secret, {}, systemClock, undefined, sides.atClient);
  return { running, pool };
}

const connect = ({ pool, running }: Pair) => pool.connect(keyFor(running.address), '10.0.0.1:80', {});

async function refusalBy(side: 'client' | 'server', ends: Pair): Promise<{ code: string; message: string }> {
  const error = await connect(ends).then(
    () => assert.fail('it connected'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof MeshError);
  assert.equal(ends.running.requests.length, 0);
  if (side === 'client') return error;
  await until('the server says why', () => ends.running.refusals.length === 1);
  const { code, reason } = ends.running.refusals[0]!;
  return { code, message: reason };
}

describe('a revoked certificate', () => {
  before(async () => {
    root = await newAuthority();
    [server, client] = await Promise.all([newSecret(root, SERVER_ID), newSecret(root, CLIENT_ID)]);
  });

  it(
    "of a client is refused by the server, before there is a session, with serial and name in the server's words",
    scoped(async (scope) => {
      const atServer = await listing([root, { revoked: client.chainPem }]);
      const { code, message } = await refusalBy('server', await pair(scope, { atServer }));
      assert.equal(code, 'CERTIFICATE_REVOKED');
      assert.match(message, /revoked: serial [0-9a-f]+, URI:spiffe:\/\/cluster.local\/ns\/shop\/sa\/web$/);
      assert.equal(atServer.liveCount, 0);
    }),
  );

  it(
    'of a server is refused by the client',
    scoped(async (scope) => {
      const atClient = await listing([root, { revoked: server.chainPem }]);
      const { code, message } = await refusalBy('client', await pair(scope, { atClient }));
      assert.equal(code, 'CERTIFICATE_REVOKED');
      assert.match(message, /sa\/cart/);
    }),
  );

  for (const side of ['client', 'server'] as const) {
    it(
      `of an intermediate authority ends the trust in what it signed (seen by the ${side})`,
      scoped(async (scope) => {
        const between = await newIntermediate(root, 'between');
        const under = (id: SpiffeId) => newSecret(between, id, root.certPem, [between.certPem]);
        const ends = { server: await under(SERVER_ID), client: await under(CLIENT_ID) };
        const trusted = await listing([root, { revoked: ['99'] }], [between, { revoked: ['0123'] }]);
        await connect(await pair(scope, { ...ends, atServer: trusted, atClient: trusted }));
        const lists = await listing([root, { revoked: [between.certPem] }]);
        const seenBy = side === 'client' ? { atClient: lists } : { atServer: lists };
        const { code } = await refusalBy(side, await pair(scope, { ...ends, ...seenBy }));
        assert.equal(code, 'CERTIFICATE_REVOKED');
      }),
    );
  }

  const harmless: Readonly<Record<string, () => Promise<Revocations>>> = {
    'with no list at all': async () => new Revocations(),
    'whose serial is not in the list, which is late besides': () =>
      listing([
        root,
        { revoked: ['0a'], nextUpdate: new Date(Date.UTC(2001, 0, 2)), thisUpdate: new Date(0) },
      ]),
    'whose serial stands in the list of another authority': async () =>
      listing([
        await newIntermediate(root, 'somebody else'),
        { revoked: [...client.chainPem, ...server.chainPem] },
      ]),
    'whose serial stands in the list of another root of the same name': async () =>
      listing([await newAuthority(), { revoked: [...client.chainPem, ...server.chainPem] }]),
  };
  for (const [name, lists] of Object.entries(harmless)) {
    it(
      `is not what a peer has ${name}`,
      scoped(async (scope) => {
        const revocations = await lists();
        await connect(await pair(scope, { atServer: revocations, atClient: revocations }));
        assert.equal(revocations.liveCount, 2);
      }),
    );
  }

  it(
    'may hide behind a list with a wrong signature, so nobody of that issuer is let in',
    scoped(async (scope) => {
      const lists = await listing([root, { signedBy: await newAuthority() }]);
      const { code, message } = await refusalBy('client', await pair(scope, { atClient: lists }));
      assert.equal(code, 'CERTIFICATE_REVOKED');
      assert.match(message, /list of its issuer has a wrong signature/);
    }),
  );

  it(
    'is not looked for in a chain without end',
    scoped(async (scope) => {
      const others = await Promise.all(Array.from({ length: 10 }, () => newAuthority()));
      const sent = others.map(({ certPem }) => certPem);
      const long = await newSecret(root, CLIENT_ID, root.certPem, sent);
      const { message } = await refusalBy(
        'server',
        await pair(scope, { client: long, atServer: new Revocations() }),
      );
      assert.match(message, /chain of more than 10 certificates/);
    }),
  );

  it(
    'ends the live session of its owner on either side, and no other',
    scoped(async (scope) => {
      const third = await newSecret(root, THIRD_ID);
      const lists = new Revocations();
      const { running, pool } = await pair(scope, { atServer: lists });
      const other = newPool(scope, async () => third);
      const [first, second] = await Promise.all([
        connect({ running, pool }),
        connect({ running, pool: other }),
      ]);
      const [revoked, untouched] = [record(first.stream), record(second.stream)];
      assert.equal(lists.liveCount, 2);
      const der = await newCrl(root, { revoked: client.chainPem });
      assert.equal(lists.replace(parseRevocationLists(der)), 1);
      await until('the revoked one is cut', () => revoked.outcome !== undefined);
      assert.equal(revoked.outcome?.clean, false);
      second.stream.write(Buffer.from('still here'));
      await until('the other one lives', () => untouched.text === 'still here');
      assert.equal(lists.liveCount, 1);
      // And it does not come back.
      await assert.rejects(connect({ running, pool }));
    }),
  );

  it(
    'ends a live session at the client with its code, for the access log',
    scoped(async (scope) => {
      const lists = new Revocations();
      const ends = await pair(scope, { atClient: lists });
      const sink = record((await connect(ends)).stream);
      lists.replace(parseRevocationLists(await newCrl(root, { revoked: server.chainPem })));
      await until('it is cut', () => sink.outcome !== undefined);
      assert.equal(sink.outcome?.error?.code, 'CERTIFICATE_REVOKED');
      assert.equal(ends.pool.sessionCount, 0);
    }),
  );

  it(
    'is noticed when the list comes between the handshake and the first stream',
    scoped(async () => {
      const lists = new Revocations();
      const leaf = new X509Certificate(client.chainPem[0]!);
      const chain = lists.admit(leaf, server);
      assert.ok(!(chain instanceof MeshError));
      lists.replace(parseRevocationLists(await newCrl(root, { revoked: client.chainPem })));
      const cut: string[] = [];
      lists.track(chain, ({ code }) => cut.push(code));
      assert.deepEqual(cut, ['CERTIFICATE_REVOKED']);
      assert.equal(lists.liveCount, 0);
    }),
  );
});

describe('the file of revocation lists', () => {
  const inFolder = (body: (scope: Scope, folder: string) => Promise<void>) =>
    scoped(async (scope) => {
      const folder = mkdtempSync(join(tmpdir(), 'culvert-crl-'));
      try {
        await body(scope, folder);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

  const follow = async (scope: Scope, path: string, lines: string[] = []): Promise<Revocations> => {
    const revocations = new Revocations();
    const log = createLogger('test', { format: 'plain', level: 'info', write: (line) => lines.push(line) });
    // Without the regular look: what the folder tells must be enough.
    const options = { path, settleMs: 5, lookMs: 600_000 };
    await followCrlFile({ revocations, log, scope, random: () => 0.5 }, options);
    return revocations;
  };

  it(
    'may come later, may be replaced, and when it cannot be read the old lists stay',
    inFolder(async (scope, folder) => {
      const authority = await newAuthority();
      const lines: string[] = [];
      const path = join(folder, 'crl.der');
      const revocations = await follow(scope, path, lines);
      assert.equal(revocations.listCount, 0);
      assert.equal(lines.length, 1);
      assert.match(lines[0]!, /info.*there is no revocation list/);
      writeFileSync(path, await newCrl(authority));
      await until('it is read', () => revocations.listCount === 1);
      writeFileSync(path, 'nonsense');
      await until('it complains', () => lines.some((line) => line.includes('neither PEM nor DER')));
      assert.equal(revocations.listCount, 1);
      writeFileSync(path, '');
      await until('nothing is revoked any more', () => revocations.listCount === 0);
    }),
  );

  it(
    'is seen when Kubernetes swaps the link to its folder',
    inFolder(async (scope, folder) => {
      const authority = await newAuthority();
      const publish = (version: string, content: Buffer): void => {
        mkdirSync(join(folder, version));
        writeFileSync(join(folder, version, 'crl.pem'), content);
        symlinkSync(version, join(folder, '..data_tmp'));
        renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
      };
      publish('..1', Buffer.alloc(0));
      symlinkSync(join('..data', 'crl.pem'), join(folder, 'crl.pem'));
      const revocations = await follow(scope, join(folder, 'crl.pem'));
      publish('..2', await newCrl(authority));
      await until('the new one is read', () => revocations.listCount === 1);
    }),
  );

  it(
    'is found by looking now and then when its folder comes late',
    inFolder(async (scope, folder) => {
      const path = join(folder, 'late', 'crl.der');
      const revocations = new Revocations();
      const deps = { revocations, log: silentLogger, scope, random: () => 0.5 };
      await followCrlFile(deps, { path, settleMs: 5, lookMs: 10 });
      mkdirSync(join(folder, 'late'));
      writeFileSync(path, await newCrl(await newAuthority()));
      await until('it is read', () => revocations.listCount === 1);
    }),
  );
});
