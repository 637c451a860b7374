// Time here is the test's own: timers and clock move only by tick().

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { SpiffeId } from '#model/identity.ts';
import { createLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority, parseCsr } from './issue.ts';
import type { SecretManager, WorkloadSecret } from './secret.ts';
import { createSecretManager, type SecretManagerOptions } from './secrets.ts';

const START_MS = Date.UTC(2030, 0, 1);
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const id = (name: string): SpiffeId => `spiffe://cluster.local/ns/shop/sa/${name}` as SpiffeId;
const WEB = id('web');

type Answer = (identity: SpiffeId, csrPem: string) => Promise<readonly string[]>;

interface Call {
  readonly identity: SpiffeId;
  readonly csrPem: string;
  readonly ttlSeconds: number;
  readonly atMs: number;
}

let scope: Scope;
let authority: Authority;
let calls: Call[];
let logged: string[];
let answer: Answer;
let manager: SecretManager;

const clock = { now: () => Date.now(), monotonicMs: () => Date.now() };

/** Certificates valid from now on for a day, unless told otherwise. */
const sign =
  (validForMs = DAY_MS, named?: SpiffeId): Answer =>
  async (identity, csrPem) => {
    const { certPem } = await authority.issue({
      uris: [named ?? identity],
      publicKey: parseCsr(csrPem).publicKeySpki,
      validForMs,
      backdateMs: 0,
    });
    return [certPem, authority.certPem];
  };

const away: Answer = () => Promise.reject(new MeshError('GRPC_STATUS', 'the authority is away'));

function start(options?: SecretManagerOptions, random = () => 0.5): void {
  const ca = {
    sign: (identity: SpiffeId, csrPem: string, ttlSeconds: number) => {
      calls.push({ identity, csrPem, ttlSeconds, atMs: Date.now() - START_MS });
      return answer(identity, csrPem);
    },
  };
  const log = createLogger('test', { format: 'plain', level: 'debug', write: (line) => logged.push(line) });
  manager = createSecretManager({ ca, clock, log, random, scope }, options);
}

/** Lets real work (keys, signatures) finish, without time passing for the code under test. */
async function settle(condition: () => boolean, what = 'the work is done'): Promise<void> {
  for (let turn = 0; !condition(); turn++) {
    if (turn > 100_000) throw new Error(`still waiting until ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Some turns of the loop, to show that nothing happens. */
async function quiet(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function callsAre(count: number): Promise<void> {
  await settle(() => calls.length >= count, `call ${count} is made`);
  assert.equal(calls.length, count);
}

const stateOf = (identity: SpiffeId): string | undefined => manager.entries().get(identity)?.state;
const serialOf = (identity: SpiffeId): string | undefined => {
  const entry = manager.entries().get(identity);
  return entry?.state === 'Available' ? entry.secret.serialNumber : undefined;
};
const unavailable = (message: RegExp) => ({ code: 'IDENTITY_UNAVAILABLE', message });

describe('the secret manager', () => {
  beforeEach(async () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: START_MS });
    scope = new Scope('test');
    authority = await createAuthority({ organization: 'cluster.local', validDays: 30, clock });
    calls = [];
    logged = [];
    answer = sign();
  });
  afterEach(() => {
    scope.close();
    mock.timers.reset();
  });

  it('fetches once for all who wait, with the identity, its time to live and a key of its own', async () => {
    start();
    const [first, second] = await Promise.all([manager.get(WEB), manager.get(WEB)]);
    assert.equal(first, second);
    assert.equal(calls.length, 1);
    assert.equal(calls[0]!.ttlSeconds, 86_400);
    assert.deepEqual(parseCsr(calls[0]!.csrPem).uris, [WEB]);
    assert.equal(first.identity, WEB);
    assert.equal(first.chainPem.length, 1);
    assert.equal(first.rootsPem.length, 1);
    assert.equal(first.notAfter.getTime(), START_MS + DAY_MS);
    assert.equal(stateOf(WEB), 'Available');
  });

  it('refreshes at half-life with a new key, and serves the old one meanwhile', async () => {
    start();
    const old = await manager.get(WEB);
    mock.timers.tick(DAY_MS / 2 - 1);
    await quiet();
    assert.equal(calls.length, 1);
    const slow = Promise.withResolvers<void>();
    answer = async (identity, csrPem) => {
      await slow.promise;
      return sign()(identity, csrPem);
    };
    mock.timers.tick(1);
    await callsAre(2);
    assert.equal(await manager.get(WEB), old);
    slow.resolve();
    await settle(() => serialOf(WEB) !== old.serialNumber);
    const keys = calls.map(({ csrPem }) => Buffer.from(parseCsr(csrPem).publicKeySpki).toString('hex'));
    assert.notEqual(keys[0], keys[1]);
    assert.equal((await manager.get(WEB)).notAfter.getTime(), START_MS + DAY_MS / 2 + DAY_MS);
  });

  it('refreshes certificates that live longer than a timer can wait', async () => {
    answer = sign(60 * DAY_MS);
    authority = await createAuthority({ validDays: 90, clock });
    start();
    await manager.get(WEB);
    for (let day = 1; day < 30; day++) {
      mock.timers.tick(DAY_MS);
      await quiet();
    }
    assert.equal(calls.length, 1);
    mock.timers.tick(DAY_MS);
    await callsAre(2);
  });

  it('fails those who wait, then everyone at once until a retry succeeds', async () => {
    answer = away;
    start();
    await assert.rejects(
      manager.get(WEB),
      unavailable(/no certificate for spiffe:.*web: the authority is away/),
    );
    await assert.rejects(manager.get(WEB), unavailable(/away/));
    assert.equal(calls.length, 1);
    assert.equal(stateOf(WEB), 'Unavailable');
    answer = sign();
    mock.timers.tick(1000);
    await settle(() => stateOf(WEB) === 'Available');
    assert.equal((await manager.get(WEB)).identity, WEB);
  });

  it('retries after 1 s, doubling to 150 s', async () => {
    answer = away;
    start();
    await assert.rejects(manager.get(WEB));
    const delays = [1, 2, 4, 8, 16, 32, 64, 128, 150, 150, 150];
    let at = 0;
    for (const [turn, delay] of delays.entries()) {
      mock.timers.tick(delay * 1000 - 1);
      await quiet();
      assert.equal(calls.length, turn + 1, `no retry ${turn + 1} before ${delay} s`);
      mock.timers.tick(1);
      await callsAre(turn + 2);
      at += delay * 1000;
      assert.equal(calls.at(-1)!.atMs, at);
      await settle(() => logged.length === turn + 2);
    }
  });

  it('spreads retries by a fifth to either side', async () => {
    answer = away;
    start({}, () => 0);
    await assert.rejects(manager.get(WEB));
    mock.timers.tick(800);
    await callsAre(2);
  });

  it('keeps a valid certificate while refreshes fail, and drops it when it expires', async () => {
    answer = sign(HOUR_MS);
    start();
    const secret = await manager.get(WEB);
    answer = away;
    // Half-life, then retries until the end: the last one falls on the end itself.
    let expected = 2;
    mock.timers.tick(HOUR_MS / 2);
    while (Date.now() < START_MS + HOUR_MS) {
      await callsAre(expected);
      await settle(() => logged.length === expected);
      assert.equal(await manager.get(WEB), secret);
      expected += 1;
      const before = calls.length;
      while (calls.length === before && Date.now() < START_MS + HOUR_MS) {
        mock.timers.tick(1000);
        await new Promise((resolve) => setImmediate(resolve));
        await quiet();
      }
    }
    await settle(() => stateOf(WEB) === 'Unavailable');
    assert.equal(calls.at(-1)!.atMs, HOUR_MS);
    await assert.rejects(manager.get(WEB), unavailable(/away/));
  });

  it('serves no expired certificate even while a refresh hangs', async () => {
    answer = sign(HOUR_MS);
    start();
    await manager.get(WEB);
    answer = () => new Promise(() => {});
    mock.timers.tick(HOUR_MS);
    await assert.rejects(manager.get(WEB), unavailable(/expired at 2030-01-01T01:00:00/));
  });

  it('gets a new certificate for whoever comes first after the machine slept over the refresh', async () => {
    answer = sign(HOUR_MS);
    start();
    const old = await manager.get(WEB);
    // The clock goes on, timers do not.
    mock.timers.setTime(START_MS + 2 * HOUR_MS);
    const [one, two] = await Promise.all([manager.get(WEB), manager.get(WEB)]);
    assert.notEqual(one, old);
    assert.equal(one, two);
    assert.equal(calls.length, 2);
  });

  for (const [random, refreshMs] of [
    [0, DAY_MS * 0.475],
    [0.999_999, DAY_MS * 0.525],
  ] as const) {
    it(`spreads refreshes by a twentieth of half the life (random ${random})`, async () => {
      start({}, () => random);
      await manager.get(WEB);
      mock.timers.tick(refreshMs - 2000);
      await quiet();
      assert.equal(calls.length, 1);
      mock.timers.tick(4000);
      await callsAre(2);
    });
  }

  it('has at most eight requests under way, connections before guesses', async () => {
    const gates: PromiseWithResolvers<void>[] = [];
    answer = async (identity, csrPem) => {
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      await gate.promise;
      return sign()(identity, csrPem);
    };
    start();
    for (let n = 0; n < 12; n++) manager.prefetch(id(`guess${n}`));
    await settle(() => calls.length === 8);
    await quiet();
    assert.equal(calls.length, 8);
    const wanted = manager.get(WEB);
    // Asked for after all: a guess becomes urgent.
    const promoted = manager.get(id('guess11'));
    gates[0]!.resolve();
    await callsAre(9);
    gates[1]!.resolve();
    await callsAre(10);
    assert.deepEqual(new Set(calls.slice(8).map(({ identity }) => identity)), new Set([WEB, id('guess11')]));
    gates[2]!.resolve();
    await callsAre(11);
    assert.equal(calls[10]!.identity, id('guess8'));
    for (const gate of gates) gate.resolve();
    await settle(() => gates.length >= 11);
    for (const gate of gates) gate.resolve();
    await Promise.all([wanted, promoted]);
  });

  it('does not let one failing identity delay another', async () => {
    answer = (identity, csrPem) => (identity === WEB ? away(identity, csrPem) : sign()(identity, csrPem));
    start();
    await assert.rejects(manager.get(WEB));
    assert.equal((await manager.get(id('cart'))).identity, id('cart'));
  });

  it('forgets: who waits is told, a late answer is discarded, the next get starts anew', async () => {
    const gate = Promise.withResolvers<void>();
    answer = async (identity, csrPem) => {
      await gate.promise;
      return sign()(identity, csrPem);
    };
    start();
    const waiting = manager.get(WEB);
    await callsAre(1);
    manager.forget(WEB);
    await assert.rejects(waiting, unavailable(/no longer needed/));
    gate.resolve();
    await quiet();
    assert.equal(manager.entries().size, 0);
    await manager.get(WEB);
    assert.equal(calls.length, 2);
    manager.forget(WEB);
    mock.timers.tick(DAY_MS);
    await quiet();
    assert.equal(calls.length, 2);
  });

  it('refuses a certificate that is not what was asked for', async () => {
    const wrong: Readonly<Record<string, [Answer, RegExp]>> = {
      identity: [sign(DAY_MS, id('other')), /it is for spiffe:.*other/],
      key: [
        async () => [(await authority.issue({ uris: [WEB], validForMs: DAY_MS })).certPem, authority.certPem],
        /another key/,
      ],
      'no root': [async (...request) => (await sign()(...request)).slice(0, 1), /1 elements/],
      'bad root': [async (...request) => [(await sign()(...request))[0]!, 'junk'], /no usable root/],
      'bad leaf': [async () => ['junk', authority.certPem], /leaf cannot be read/],
      'bad intermediate': [
        async (...request) => [(await sign()(...request))[0]!, 'junk', authority.certPem],
        /intermediate cannot be read/,
      ],
    };
    start();
    for (const [name, [wrongAnswer, reason]] of Object.entries(wrong)) {
      answer = wrongAnswer;
      await assert.rejects(manager.get(id('web')), unavailable(reason), name);
      manager.forget(WEB);
    }
  });

  it('takes several roots and intermediates, and skips a root that cannot be read', async () => {
    const other = await createAuthority({ commonName: 'other', validDays: 1, clock });
    const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    answer = async (...request) => [
      (await sign()(...request))[0]!,
      other.certPem,
      `${authority.certPem}${broken}${other.certPem}`,
    ];
    start();
    const secret: WorkloadSecret = await manager.get(WEB);
    assert.equal(secret.chainPem.length, 2);
    assert.equal(secret.rootsPem.length, 2);
    assert.ok(logged.some((line) => line.includes('a root certificate is skipped')));
  });

  it('does not loop over certificates that arrive past their half-life', async () => {
    answer = async (identity, csrPem) => {
      const { certPem } = await authority.issue({
        uris: [identity],
        publicKey: parseCsr(csrPem).publicKeySpki,
        validForMs: HOUR_MS,
        backdateMs: 2 * HOUR_MS,
      });
      return [certPem, authority.certPem];
    };
    start();
    await manager.get(WEB);
    await quiet();
    assert.equal(calls.length, 1);
    mock.timers.tick(1000);
    await callsAre(2);
  });

  it('tells who waits when it closes, and does nothing more', async () => {
    answer = () => new Promise(() => {});
    start();
    const waiting = manager.get(WEB);
    manager.close();
    await assert.rejects(waiting, unavailable(/shutting down/));
    await assert.rejects(manager.get(WEB), unavailable(/shutting down/));
    manager.prefetch(WEB);
    assert.equal(manager.entries().size, 0);
  });
});
