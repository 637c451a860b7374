// Names below an object that are more than a part of it: scale, binding, token, log.

import { reasonOf } from '#base/errors.ts';
import type { Pod } from '#k8s/objects.ts';
import { checkBody, type TypeName, type WriteOptions } from './admit.ts';
import { selectorText } from './cells.ts';
import { decode, mediaType } from './decode.ts';
import { type ApiAnswer, type ApiRequest, json } from './exchange.ts';
import { evaluateJsonPath, parseJsonPath, setAtJsonPath } from './json-path.ts';
import type { Kind } from './kind.ts';
import type { PodLogOptions, PodLogs } from './logs.ts';
import { type ApiObject, at, isObject, type JsonObject } from './object.ts';
import { getStored, type ObjectsDeps, updateObject } from './objects.ts';
import { jsonPatch, mergePatch } from './patch.ts';
import type { ResourcePath } from './paths.ts';
import { nodeOf } from './rbac/node-access.ts';
import { patchOptions, typedBody, writeOptions } from './request-options.ts';
import { apply } from './rest.ts';
import {
  badRequest,
  conflict,
  type FieldError,
  fieldForbidden,
  forbidden,
  invalid,
  invalidObject,
  MODIFIED,
  methodNotAllowed,
  notServed,
  type StatusError,
} from './status.ts';
import type { Stored } from './store.ts';
import { requestToken, type TokensDeps } from './tokens.ts';

export interface SubresourceDeps extends ObjectsDeps {
  readonly tokens: TokensDeps;
  readonly podLogs: PodLogs | undefined;
}

type ObjectPath = ResourcePath & { readonly name: string };

export function serveScale(deps: ObjectsDeps, kind: Kind, path: ObjectPath, request: ApiRequest): ApiAnswer {
  const stored = getStored(deps, kind, path.namespace, path.name);
  if (request.method === 'GET') return json(200, scaleOf(kind, stored));
  if (request.method !== 'PUT' && request.method !== 'PATCH') throw methodNotAllowed();
  const isApply = mediaType(request.contentType) === 'application/apply-patch+yaml';
  const options =
    request.method === 'PUT' ? writeOptions(request, 'UpdateOptions') : patchOptions(request, isApply);
  const wanted = isApply
    ? appliedScale(request, options)
    : request.method === 'PUT'
      ? typedBody(request, SCALE, options)
      : patched(scaleOf(kind, stored), request, options);
  const version = at(wanted, 'metadata', 'resourceVersion');
  if (typeof version === 'string' && version !== '' && version !== stored.object.metadata.resourceVersion)
    throw conflict(kind, path.name, MODIFIED);
  const replicas = at(wanted, 'spec', 'replicas') ?? 0;
  if (!Number.isInteger(replicas) || (replicas as number) < 0)
    throw invalidObject({ group: 'autoscaling', plural: 'scales', kind: 'Scale' }, path.name, [
      invalid('spec.replicas', replicas, 'must be greater than or equal to 0'),
    ]);
  const target = parseJsonPath(kind.scale!.specReplicas) ?? [];
  const change = (object: JsonObject): JsonObject => {
    setAtJsonPath(target, object, replicas);
    return object;
  };
  const { apiVersion, kind: kindName } = kind;
  const written = isApply
    ? apply(
        deps,
        kind,
        path.namespace,
        path.name,
        'scale',
        change({ apiVersion, kind: kindName, metadata: { name: path.name } }),
        { force: false, ...options },
      ).stored
    : updateObject(deps, kind, stored, change, 'object', { ...options, door: 'scale' });
  return json(200, scaleOf(kind, written), options.warnings);
}

const SCALE: TypeName = { group: 'autoscaling', version: 'v1', kind: 'Scale' };
const BINDING: TypeName = { group: '', version: 'v1', kind: 'Binding' };
const TOKEN_REQUEST: TypeName = { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' };

function appliedScale(request: ApiRequest, options: WriteOptions): JsonObject {
  const body = decode(request.body, 'yaml');
  if (!isObject(body) || body.kind !== 'Scale' || body.apiVersion !== 'autoscaling/v1')
    throw badRequest('what is applied to a scale is a Scale of autoscaling/v1');
  checkBody(SCALE, body, options);
  return body;
}

function patched(scale: JsonObject, request: ApiRequest, options: WriteOptions): JsonObject {
  const body = decode(request.body, 'json');
  const next =
    mediaType(request.contentType) === 'application/json-patch+json'
      ? jsonPatch(scale, body)
      : mergePatch(scale, body);
  if (!isObject(next)) throw badRequest('the patch does not leave an object');
  checkBody(SCALE, next, options);
  return next;
}

function scaleOf(kind: Kind, stored: Stored): JsonObject {
  const { object } = stored;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const read = (path: string | undefined): unknown =>
    path === undefined ? undefined : evaluateJsonPath(parseJsonPath(path) ?? [], object)[0];
  const selector = read(kind.scale!.labelSelector);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: read(kind.scale!.specReplicas) ?? 0 },
    status: {
      replicas: read(kind.scale!.statusReplicas) ?? 0,
      ...(selector === undefined
        ? {}
        : { selector: isObject(selector) ? selectorText(selector) : String(selector) }),
    },
  };
}

/** A scheduler's decision: the pod gets its node, once. */
export function serveBinding(
  deps: ObjectsDeps,
  kind: Kind,
  path: ObjectPath,
  request: ApiRequest,
): ApiAnswer {
  if (request.method !== 'POST') throw methodNotAllowed();
  const options = writeOptions(request);
  const binding = typedBody(request, BINDING, options);
  const node = at(binding, 'target', 'name');
  if (typeof node !== 'string' || node === '')
    throw invalidObject({ group: '', plural: 'bindings', kind: 'Binding' }, path.name, [
      { path: 'target.name', type: 'Required', message: '' },
    ]);
  const stored = getStored(deps, kind, path.namespace, path.name);
  const uid = at(binding, 'metadata', 'uid');
  if (uid !== undefined && uid !== stored.object.metadata.uid)
    throw conflict(
      kind,
      path.name,
      `Precondition failed: UID in precondition: ${String(uid)}, UID in object meta: ${stored.object.metadata.uid}`,
    );
  const present = at(stored.object, 'spec', 'nodeName');
  if (stored.object.metadata.deletionTimestamp !== undefined)
    throw conflict(kind, path.name, `pod ${path.name} is being deleted, cannot be assigned to a host`);
  if (present !== undefined && present !== '')
    throw conflict(
      kind,
      path.name,
      `pod ${path.name} is already assigned to node ${JSON.stringify(present)}`,
    );
  updateObject(
    deps,
    kind,
    stored,
    (current) => ({ ...current, spec: { ...(current.spec as JsonObject), nodeName: node } }),
    'object',
    { ...options, door: 'untracked' },
  );
  return json(201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });
}

export async function serveToken(
  deps: SubresourceDeps,
  kind: Kind,
  path: ObjectPath,
  request: ApiRequest,
): Promise<ApiAnswer> {
  if (request.method !== 'POST') throw methodNotAllowed();
  const body = typedBody(request, TOKEN_REQUEST);
  if (nodeOf(request.user) !== undefined && at(body, 'spec', 'boundObjectRef', 'kind') !== 'Pod')
    throw forbidden(kind, path.name, 'a kubelet asks for tokens that are bound to a pod');
  const account = getStored(deps, kind, path.namespace, path.name).object;
  return json(201, await requestToken(deps.tokens, account, body));
}

export function serveLog(
  deps: SubresourceDeps,
  kind: Kind,
  path: ObjectPath,
  request: ApiRequest,
): ApiAnswer {
  if (request.method !== 'GET') throw methodNotAllowed();
  const pod = getStored(deps, kind, path.namespace, path.name).object;
  const container = chosenContainer(pod, request.query.get('container') ?? '');
  const { podLogs } = deps;
  if (podLogs === undefined)
    throw notServed('this API server runs without a kubelet: there are no container logs');
  const options = logOptions(request.query);
  return {
    kind: 'stream',
    open: (signal) => readable(podLogs.open(pod as unknown as Pod, container, { ...options, signal })),
  };
}

/** A failure before the first byte is the client's answer; Kubernetes sends it as 400. */
async function* readable(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  let started = false;
  try {
    for await (const chunk of source) {
      started = true;
      yield chunk;
    }
  } catch (error) {
    throw started ? error : badRequest(reasonOf(error));
  }
}

export function chosenContainer(pod: ApiObject, asked: string): string {
  const names = (group: string): string[] => {
    const found = at(pod, 'spec', group);
    return Array.isArray(found) ? found.map((container) => String(at(container, 'name'))) : [];
  };
  const running = names('containers');
  const all = [...running, ...names('initContainers')];
  if (asked !== '') {
    if (all.includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${pod.metadata.name}`);
  }
  if (running.length === 1) return running[0]!;
  throw badRequest(
    `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${all.join(' ')}]`,
  );
}

function logOptions(query: URLSearchParams): Omit<PodLogOptions, 'signal'> {
  const flag = (name: string): boolean => query.get(name) === 'true' || query.get(name) === '1';
  const wrong = (...errors: FieldError[]): StatusError =>
    invalidObject({ group: '', plural: 'podlogoptions', kind: 'PodLogOptions' }, '', errors);
  const whole = (name: string, least: number): { [option: string]: number } => {
    const text = query.get(name);
    if (text === null || text === '') return {};
    const value = Number(text);
    if (!Number.isInteger(value) || value < least)
      throw wrong(invalid(name, text, `must be greater than or equal to ${least}`));
    return { [name]: value };
  };
  const sinceSeconds = whole('sinceSeconds', 1);
  const sinceTime = query.get('sinceTime') ?? '';
  if (sinceTime !== '' && Number.isNaN(Date.parse(sinceTime)))
    throw badRequest(`sinceTime: ${JSON.stringify(sinceTime)} is not a time such as 2026-01-02T15:04:05Z`);
  if (sinceTime !== '' && sinceSeconds.sinceSeconds !== undefined)
    throw wrong(fieldForbidden('', 'at most one of `sinceTime` or `sinceSeconds` may be specified'));
  return {
    follow: flag('follow'),
    previous: flag('previous'),
    timestamps: flag('timestamps'),
    ...whole('tailLines', 0),
    ...sinceSeconds,
    ...whole('limitBytes', 1),
    ...(sinceTime === '' ? {} : { sinceTime }),
  };
}
