// Service-account tokens: made for TokenRequest, read for requests and TokenReview. A token is bound to its service
// account and, if asked, to a pod: when either goes, it is worth nothing.

import { createHash, type KeyObject, randomUUID } from 'node:crypto';
import { exportJWK, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import type { Clock } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import { type ApiObject, at, isObject, type JsonObject, kubeTime } from './object.ts';
import { badRequest, invalid, invalidObject } from './status.ts';
import { resourceKey, type Store } from './store.ts';
import { type User, userInfo } from './user-info.ts';

/** Issuer, and the audience of tokens that are for this server itself. */
export const ISSUER = 'https://kubernetes.default.svc.cluster.local';

const DEFAULT_SECONDS = 3600;
const MIN_SECONDS = 600;
const MAX_SECONDS = 2 ** 32;
/** A pod that is ending may still use its token until it is gone, and a moment longer. */
const DELETED_POD_LEEWAY_MS = 60_000;
const PODS = resourceKey('', 'pods');
const NODES = resourceKey('', 'nodes');
const SERVICE_ACCOUNTS = resourceKey('', 'serviceaccounts');
const TOKEN_REQUEST = { group: 'authentication.k8s.io', plural: 'tokenrequests', kind: 'TokenRequest' };

export interface TokensDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly key: KeyObject;
  readonly publicKey: KeyObject;
}

export type TokenVerdict =
  | { readonly kind: 'valid'; readonly user: User; readonly audiences: readonly string[] }
  | { readonly kind: 'invalid'; readonly reason: string };

/** Answers `POST …/serviceaccounts/NAME/token`. */
export async function requestToken(
  deps: TokensDeps,
  account: ApiObject,
  body: JsonObject,
): Promise<JsonObject> {
  const spec = isObject(body.spec) ? body.spec : {};
  const wanted = spec.audiences;
  if (wanted !== undefined && wanted !== null && !isStringList(wanted))
    throw badRequest('spec.audiences is a list of strings');
  const audiences = isStringList(wanted) && wanted.length > 0 ? wanted : [ISSUER];
  const seconds = Number(spec.expirationSeconds ?? DEFAULT_SECONDS);
  if (!Number.isInteger(seconds) || seconds < MIN_SECONDS || seconds > MAX_SECONDS)
    throw invalidObject(TOKEN_REQUEST, '', [
      invalid(
        'spec.expirationSeconds',
        spec.expirationSeconds,
        'may not specify a duration less than 10 minutes or more than 2^32 seconds',
      ),
    ]);
  const issuedAt = Math.floor(deps.clock.now() / 1000);
  const { name, namespace, uid } = account.metadata;
  const binding = isObject(spec.boundObjectRef)
    ? podBinding(deps.store, namespace!, name, spec.boundObjectRef)
    : {};
  const token = await new SignJWT({
    'kubernetes.io': { namespace, serviceaccount: { name, uid }, ...binding },
  })
    .setProtectedHeader({ alg: 'ES256', kid: await keyId(deps.publicKey) })
    .setIssuer(ISSUER)
    .setSubject(`system:serviceaccount:${namespace}:${name}`)
    .setAudience([...audiences])
    .setIssuedAt(issuedAt)
    .setNotBefore(issuedAt)
    .setExpirationTime(issuedAt + seconds)
    .setJti(randomUUID())
    .sign(deps.key);
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name, namespace, creationTimestamp: kubeTime(deps.clock.now()) },
    spec: { audiences, expirationSeconds: seconds, boundObjectRef: spec.boundObjectRef ?? null },
    status: { token, expirationTimestamp: kubeTime((issuedAt + seconds) * 1000) },
  };
}

function podBinding(store: Store, namespace: string, account: string, reference: JsonObject): JsonObject {
  const { kind, name, uid } = reference;
  const refuse = (path: string, value: unknown, why: string): Error =>
    invalidObject(TOKEN_REQUEST, '', [invalid(`spec.boundObjectRef.${path}`, value, why)]);
  if (kind !== 'Pod') throw refuse('kind', kind, 'tokens can be bound to a Pod only');
  const pod = store.get(PODS, namespace, String(name))?.object;
  if (pod === undefined)
    throw refuse('name', name, `pod ${JSON.stringify(name)} does not exist in namespace ${namespace}`);
  if (uid !== undefined && uid !== '' && uid !== pod.metadata.uid)
    throw refuse('uid', uid, `the pod ${String(name)} has another uid (${pod.metadata.uid})`);
  if (at(pod, 'spec', 'serviceAccountName') !== account)
    throw refuse(
      'name',
      name,
      `the pod runs as ${String(at(pod, 'spec', 'serviceAccountName'))}, not as ${account}`,
    );
  const nodeName = at(pod, 'spec', 'nodeName');
  if (typeof nodeName !== 'string' || nodeName === '') return { pod: { name, uid: pod.metadata.uid } };
  const nodeUid = store.get(NODES, undefined, nodeName)?.object.metadata.uid;
  return {
    pod: { name, uid: pod.metadata.uid },
    node: { name: nodeName, ...(nodeUid === undefined ? {} : { uid: nodeUid }) },
  };
}

/** Checks signature, time, audience (any of those given) and that account and pod still exist. */
export async function verifyToken(
  deps: TokensDeps,
  token: string,
  audiences: readonly string[],
): Promise<TokenVerdict> {
  let payload: JWTPayload;
  try {
    ({ payload } = await jwtVerify(token, deps.publicKey, {
      issuer: ISSUER,
      algorithms: ['ES256'],
      currentDate: new Date(deps.clock.now()),
    }));
  } catch (error) {
    return { kind: 'invalid', reason: `invalid bearer token: ${reasonOf(error)}` };
  }
  const held = typeof payload.aud === 'string' ? [payload.aud] : (payload.aud ?? []);
  const common = audiences.filter((audience) => held.includes(audience));
  if (common.length === 0)
    return {
      kind: 'invalid',
      reason: `token audiences ${JSON.stringify(held)} is invalid for the target audiences ${JSON.stringify(audiences)}`,
    };
  return boundUser(deps, payload, common);
}

function boundUser(deps: TokensDeps, payload: JWTPayload, audiences: readonly string[]): TokenVerdict {
  const claims = payload['kubernetes.io'];
  const text = (...path: string[]): string => String(at(claims, ...path) ?? '');
  const refuse = (reason: string): TokenVerdict => ({ kind: 'invalid', reason });
  const namespace = text('namespace');
  const name = text('serviceaccount', 'name');
  const account = deps.store.get(SERVICE_ACCOUNTS, namespace, name)?.object;
  if (account === undefined) return refuse(`service account ${namespace}/${name} has been deleted`);
  if (account.metadata.uid !== text('serviceaccount', 'uid'))
    return refuse(`service account ${namespace}/${name} has been deleted and made again: its uid differs`);
  const extra: Record<string, readonly string[]> = {
    'authentication.kubernetes.io/credential-id': [`JTI=${payload.jti ?? ''}`],
  };
  if (at(claims, 'pod') !== undefined) {
    const pod = deps.store.get(PODS, namespace, text('pod', 'name'))?.object;
    if (pod === undefined || pod.metadata.uid !== text('pod', 'uid'))
      return refuse(
        `pod ${namespace}/${text('pod', 'name')} with uid ${text('pod', 'uid')} does not exist any more`,
      );
    const deletedAt = pod.metadata.deletionTimestamp;
    if (deletedAt !== undefined && deps.clock.now() > Date.parse(deletedAt) + DELETED_POD_LEEWAY_MS)
      return refuse(`pod ${namespace}/${pod.metadata.name} has been deleted`);
    extra['authentication.kubernetes.io/pod-name'] = [pod.metadata.name];
    extra['authentication.kubernetes.io/pod-uid'] = [pod.metadata.uid ?? ''];
  }
  if (at(claims, 'node') !== undefined) {
    extra['authentication.kubernetes.io/node-name'] = [text('node', 'name')];
    if (text('node', 'uid') !== '') extra['authentication.kubernetes.io/node-uid'] = [text('node', 'uid')];
  }
  const user: User = {
    name: `system:serviceaccount:${namespace}:${name}`,
    uid: account.metadata.uid ?? '',
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    extra,
  };
  return { kind: 'valid', user, audiences };
}

/** Answers `POST …/tokenreviews`. A bad token is an answer, not an error. */
export async function reviewToken(deps: TokensDeps, body: JsonObject): Promise<JsonObject> {
  const spec = isObject(body.spec) ? body.spec : {};
  const token = spec.token;
  if (typeof token !== 'string' || token === '')
    throw invalidObject({ group: 'authentication.k8s.io', plural: 'tokenreviews', kind: 'TokenReview' }, '', [
      { path: 'spec.token', type: 'Required', message: '' },
    ]);
  const audiences = isStringList(spec.audiences) && spec.audiences.length > 0 ? spec.audiences : [ISSUER];
  const verdict = await verifyToken(deps, token, audiences);
  const status =
    verdict.kind === 'valid'
      ? { authenticated: true, user: userInfo(verdict.user), audiences: verdict.audiences }
      : { authenticated: false, user: {}, error: verdict.reason };
  return {
    kind: 'TokenReview',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { creationTimestamp: null },
    // The token is a credential: it is not echoed.
    spec: { ...spec, token: '' },
    status,
  };
}

/** The name by which verifiers find the key. */
async function keyId(publicKey: KeyObject): Promise<string> {
  return createHash('sha256')
    .update(JSON.stringify(await exportJWK(publicKey)))
    .digest('base64url')
    .slice(0, 22);
}

/** The public key for anybody who checks tokens without asking us. */
export async function keySet(publicKey: KeyObject): Promise<JsonObject> {
  return {
    keys: [{ ...(await exportJWK(publicKey)), use: 'sig', alg: 'ES256', kid: await keyId(publicKey) }],
  };
}

const isStringList = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');
