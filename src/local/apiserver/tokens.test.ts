import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { decodeJwt, SignJWT } from 'jose';
import type { ApiObject, JsonObject } from './object.ts';
import { StatusError } from './status.ts';
import { makeRig, podNamed, type Rig } from './test-rig.ts';
import { ISSUER, requestToken, reviewToken, type TokensDeps } from './tokens.ts';

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const depsOf = (rig: Rig): TokensDeps => ({
  store: rig.store,
  clock: rig.clock,
  key: keys.privateKey,
  publicKey: keys.publicKey,
});

interface Scene {
  readonly rig: Rig;
  readonly deps: TokensDeps;
  readonly account: ApiObject;
  readonly pod: ApiObject;
  readonly node: ApiObject;
}

function scene(): Scene {
  const rig = makeRig();
  const account = rig.create('serviceaccounts', { metadata: { name: 'ztunnel' } });
  const node = rig.create('nodes', { metadata: { name: 'n1' } });
  const pod = rig.create('pods', podNamed('zt', { serviceAccountName: 'ztunnel', nodeName: 'n1' }));
  return { rig, deps: depsOf(rig), account, pod, node };
}

const spec = (extra: JsonObject = {}): JsonObject => ({
  spec: { audiences: ['istio-ca'], expirationSeconds: 3600, ...extra },
});
const tokenOf = (answer: JsonObject): string => (answer.status as { token: string }).token;
const bound = (pod: ApiObject): JsonObject =>
  spec({ boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'zt', uid: pod.metadata.uid } });
const review = async (
  deps: TokensDeps,
  token: string,
  audiences: string[] = ['istio-ca'],
): Promise<JsonObject> => (await reviewToken(deps, { spec: { token, audiences } })).status as JsonObject;

test('a token says who, for whom, how long, in which pod and on which node', async () => {
  const { deps, account, pod, node } = scene();
  const claims = decodeJwt(tokenOf(await requestToken(deps, account, bound(pod))));
  assert.equal(claims.iss, ISSUER);
  assert.deepEqual(claims.aud, ['istio-ca']);
  assert.equal(claims.sub, 'system:serviceaccount:default:ztunnel');
  assert.equal(claims.exp! - claims.iat!, 3600);
  assert.deepEqual(claims['kubernetes.io'], {
    namespace: 'default',
    serviceaccount: { name: 'ztunnel', uid: account.metadata.uid },
    pod: { name: 'zt', uid: pod.metadata.uid },
    node: { name: 'n1', uid: node.metadata.uid },
  });
});

test('a review names the account, its groups, its pod and its node', async () => {
  const { deps, account, pod } = scene();
  const token = tokenOf(await requestToken(deps, account, bound(pod)));
  const status = await review(deps, token, ['other', 'istio-ca']);
  assert.equal(status.authenticated, true);
  assert.deepEqual(status.audiences, ['istio-ca']);
  const user = status.user as {
    username: string;
    uid: string;
    groups: string[];
    extra: Record<string, string[]>;
  };
  assert.equal(user.username, 'system:serviceaccount:default:ztunnel');
  assert.equal(user.uid, account.metadata.uid);
  assert.deepEqual(user.groups, [
    'system:serviceaccounts',
    'system:serviceaccounts:default',
    'system:authenticated',
  ]);
  assert.deepEqual(user.extra['authentication.kubernetes.io/pod-name'], ['zt']);
  assert.deepEqual(user.extra['authentication.kubernetes.io/pod-uid'], [pod.metadata.uid]);
  assert.deepEqual(user.extra['authentication.kubernetes.io/node-name'], ['n1']);
});

const invalid = async (deps: TokensDeps, token: string, why: RegExp, audiences?: string[]): Promise<void> => {
  const status = await review(deps, token, audiences);
  assert.equal(status.authenticated, false);
  assert.match(String(status.error), why);
};

test('a token is worth nothing for another audience, after its time, or under another key', async () => {
  const { rig, deps, account } = scene();
  const token = tokenOf(await requestToken(deps, account, spec()));
  await invalid(deps, token, /audiences/, ['vault']);
  assert.equal(
    (await reviewToken(deps, { spec: { token } })).status &&
      ((await reviewToken(deps, { spec: { token } })).status as JsonObject).authenticated,
    false,
  );
  rig.advance(3_601_000);
  await invalid(deps, token, /exp/);
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const forged = await new SignJWT({})
    .setProtectedHeader({ alg: 'ES256' })
    .setIssuer(ISSUER)
    .setAudience('istio-ca')
    .setExpirationTime('1h')
    .sign(other.privateKey);
  await invalid(deps, forged, /signature/);
  await invalid(deps, 'rubbish', /invalid bearer token/);
});

test('a token ends with its pod: gone, made again, or long deleted', async () => {
  const { rig, deps, account, pod } = scene();
  const token = tokenOf(await requestToken(deps, account, bound(pod)));
  rig.remove('pods', 'zt', { gracePeriodSeconds: 30 });
  assert.equal((await review(deps, token)).authenticated, true, 'while it ends it may still speak');
  rig.advance(30_000 + 60_001);
  await invalid(deps, token, /has been deleted/);
  rig.remove('pods', 'zt', { gracePeriodSeconds: 0 });
  await invalid(deps, token, /does not exist any more/);
  rig.create('pods', podNamed('zt', { serviceAccountName: 'ztunnel' }));
  await invalid(deps, token, /does not exist any more/);
});

test('a token ends with its account', async () => {
  const { rig, deps, account } = scene();
  const token = tokenOf(await requestToken(deps, account, spec()));
  rig.remove('serviceaccounts', 'ztunnel');
  await invalid(deps, token, /has been deleted/);
  rig.create('serviceaccounts', { metadata: { name: 'ztunnel' } });
  await invalid(deps, token, /uid differs/);
});

test('requests that cannot be met are refused', async () => {
  const { rig, deps, account } = scene();
  rig.create('pods', podNamed('foreign'));
  const reference = (extra: JsonObject): JsonObject =>
    spec({ boundObjectRef: { kind: 'Pod', name: 'zt', ...extra } });
  for (const body of [
    spec({ expirationSeconds: 60 }),
    spec({ expirationSeconds: 'long' }),
    reference({ uid: 'other' }),
    reference({ name: 'missing' }),
    reference({ name: 'foreign' }),
    reference({ kind: 'Secret' }),
  ])
    await assert.rejects(
      requestToken(deps, account, body),
      (error) => error instanceof StatusError && error.body.code === 422,
    );
});
