import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Secret } from '#k8s/objects.ts';
import { silentLogger } from '#telemetry/log.ts';
import { certificateBlocks } from '#tls/pem.ts';
import { newSigningCertificate } from '../../../test/lib/authorities.ts';
import { loadOrCreateRoot, type RootStoreDeps, refreshRoot } from './root-store.ts';

const OPTIONS = {
  namespace: 'istio-system',
  trustDomain: 'cluster.local',
  validDays: 100,
  renewBelowShare: 0.2,
};
const DAY_MS = 86_400_000;

/** One Secret; `race` is what another replica writes between our look and our create. */
function setUp(race?: () => Secret) {
  const state: { secret: Secret | undefined; writes: number } = { secret: undefined, writes: 0 };
  const refuse = (status: number, reason: string): never => {
    throw new MeshError('API_STATUS', reason, { details: { status, reason } });
  };
  const client = {
    get: async () => state.secret ?? refuse(404, 'NotFound'),
    create: async (_resource: unknown, object: Secret) => {
      if (race !== undefined) state.secret = race();
      if (state.secret !== undefined) refuse(409, 'AlreadyExists');
      state.writes++;
      state.secret = object;
      return object;
    },
    update: async (_resource: unknown, object: Secret) => {
      state.writes++;
      state.secret = object;
      return object;
    },
  } as unknown as KubeClient;
  let aheadMs = 0;
  const deps: RootStoreDeps = {
    client,
    log: silentLogger,
    clock: { now: () => Date.now() + aheadMs, monotonicMs: systemClock.monotonicMs },
  };
  return { state, deps, later: (ms: number) => (aheadMs = ms) };
}

const textOf = (secret: Secret | undefined, key: string): string =>
  Buffer.from(secret?.data?.[key] ?? '', 'base64').toString();

test('made once: type, keys, P-256, organisation; then loaded', async () => {
  const { state, deps } = setUp();
  const made = await loadOrCreateRoot(deps, OPTIONS);
  assert.equal(state.secret?.type, 'istio.io/ca-root');
  assert.deepEqual(Object.keys(state.secret?.data ?? {}).sort(), [
    'ca-cert.pem',
    'ca-key.pem',
    'cert-chain.pem',
    'key.pem',
    'root-cert.pem',
  ]);
  assert.equal(textOf(state.secret, 'root-cert.pem'), textOf(state.secret, 'ca-cert.pem'));
  assert.equal(
    createPrivateKey(textOf(state.secret, 'ca-key.pem')).asymmetricKeyDetails?.namedCurve,
    'prime256v1',
  );
  const certificate = new X509Certificate(made.rootsPem);
  assert.ok(certificate.ca);
  assert.equal(certificate.subject, 'O=cluster.local');
  const again = await loadOrCreateRoot(deps, OPTIONS);
  assert.equal(again.authority.certPem, made.authority.certPem);
  assert.equal(state.writes, 1);
});

test('who comes second takes the root of the first', async () => {
  const first = setUp();
  const theirs = await loadOrCreateRoot(first.deps, OPTIONS);
  const second = setUp(() => first.state.secret as Secret);
  const ours = await loadOrCreateRoot(second.deps, OPTIONS);
  assert.equal(ours.rootsPem, theirs.rootsPem);
});

test('renewed near its end, with the same key, so that old certificates stay valid', async () => {
  const { state, deps, later } = setUp();
  const first = await loadOrCreateRoot(deps, OPTIONS);
  later(79 * DAY_MS);
  assert.equal((await refreshRoot(first, deps, OPTIONS)).authority.certPem, first.authority.certPem);
  later(81 * DAY_MS);
  const renewed = await refreshRoot(first, deps, OPTIONS);
  assert.notEqual(renewed.authority.certPem, first.authority.certPem);
  assert.equal(renewed.authority.keyPem, first.authority.keyPem);
  assert.equal(textOf(state.secret, 'root-cert.pem'), renewed.rootsPem);
  const { certPem } = await first.authority.issue({ uris: ['spiffe://a/ns/b/sa/c'], validForMs: 1000 });
  assert.ok(new X509Certificate(certPem).verify(new X509Certificate(renewed.rootsPem).publicKey));
});

test('a deleted Secret is written again from what is in use', async () => {
  const { state, deps } = setUp();
  const root = await loadOrCreateRoot(deps, OPTIONS);
  state.secret = undefined;
  await refreshRoot(root, deps, OPTIONS);
  assert.equal(textOf(state.secret, 'ca-key.pem'), root.authority.keyPem);
});

test('a damaged Secret is an error that names it and the way out, never a new root', async () => {
  const { state, deps } = setUp();
  await loadOrCreateRoot(deps, OPTIONS);
  for (const key of ['ca-cert.pem', 'ca-key.pem'])
    for (const text of ['', 'nonsense']) {
      const good = state.secret as Secret;
      state.secret = { ...good, data: { ...good.data, [key]: Buffer.from(text).toString('base64') } };
      await assert.rejects(loadOrCreateRoot(deps, OPTIONS), (error: unknown) => {
        assert.ok(error instanceof MeshError && error.code === 'CERTIFICATE_INVALID');
        assert.match(error.message, /istio-system\/istio-ca-secret.*restore it, or delete it/);
        return true;
      });
      state.secret = good;
    }
  assert.equal(state.writes, 1);
});

test('an expired root is renewed at the start: a mesh that was away for long comes back by itself', async () => {
  const { state, deps, later } = setUp();
  const first = await loadOrCreateRoot(deps, OPTIONS);
  later(101 * DAY_MS);
  const renewed = await loadOrCreateRoot(deps, OPTIONS);
  assert.equal(renewed.authority.keyPem, first.authority.keyPem);
  assert.ok(renewed.notAfter.getTime() > deps.clock.now() + 99 * DAY_MS);
  assert.equal(textOf(state.secret, 'ca-cert.pem'), renewed.authority.certPem);
});

test('renewal keeps the roots of a rotation under way, and what others have put into the Secret', async () => {
  const { state, deps, later } = setUp();
  const first = await loadOrCreateRoot(deps, OPTIONS);
  const next = await newSigningCertificate({ name: 'next', notAfterMs: Date.now() + 1000 * DAY_MS });
  const secret = state.secret as Secret;
  const put = (text: string): string => Buffer.from(text).toString('base64');
  state.secret = {
    ...secret,
    data: {
      ...secret.data,
      'root-cert.pem': put(next.certPem + first.rootsPem),
      'next-ca-key.pem': put('kept'),
    },
  };
  later(81 * DAY_MS);
  const renewed = await refreshRoot(first, deps, OPTIONS);
  assert.equal(renewed.rootsPem, renewed.authority.certPem + next.certPem);
  assert.equal(textOf(state.secret, 'next-ca-key.pem'), 'kept');
});

test('two replicas renew at once: the one that comes second takes what the first wrote', async () => {
  const { state, deps, later } = setUp();
  const first = await loadOrCreateRoot(deps, OPTIONS);
  later(81 * DAY_MS);
  const slow: RootStoreDeps = {
    ...deps,
    client: {
      ...deps.client,
      update: async () => {
        await refreshRoot(first, deps, OPTIONS);
        throw new MeshError('API_STATUS', 'the object has been modified', {
          details: { status: 409, reason: 'Conflict' },
        });
      },
    },
  };
  const renewed = await refreshRoot(first, slow, OPTIONS);
  assert.equal(renewed.authority.certPem, textOf(state.secret, 'ca-cert.pem'));
  assert.notEqual(renewed.authority.certPem, first.authority.certPem);
});

test('two replicas write a deleted Secret at once: the first one counts', async () => {
  const { state, deps } = setUp();
  const root = await loadOrCreateRoot(deps, OPTIONS);
  const other = await loadOrCreateRoot(setUp().deps, OPTIONS);
  const theirs = state.secret as Secret;
  const late = setUp(() => theirs);
  const taken = await refreshRoot(other, late.deps, OPTIONS);
  assert.equal(taken.rootsPem, root.rootsPem);
});

test('Istio renews ca-cert.pem and leaves root-cert.pem: peers are told of both', async () => {
  const { state, deps } = setUp();
  const first = await loadOrCreateRoot(deps, OPTIONS);
  const renewed = await newSigningCertificate({ name: 'cluster.local', keyPem: first.authority.keyPem });
  const secret = state.secret as Secret;
  const certPem = Buffer.from(renewed.certPem).toString('base64');
  state.secret = { ...secret, data: { ...secret.data, 'ca-cert.pem': certPem } };
  const signer = await refreshRoot(first, deps, OPTIONS);
  assert.equal(signer.authority.certPem, renewed.certPem);
  assert.deepEqual(certificateBlocks(signer.rootsPem), certificateBlocks(renewed.certPem + first.rootsPem));
});
