// The table of paths: discovery, health, reviews, resources. Everything here is past the gate.

import { acceptsAggregatedDiscovery } from './accept.ts';
import {
  aggregatedDiscovery,
  coreVersions,
  etagOf,
  groupDocument,
  groupList,
  resourceList,
  versionDocument,
} from './discovery.ts';
import { serveEviction } from './eviction.ts';
import { type ApiAnswer, type ApiRequest, json } from './exchange.ts';
import type { Kind } from './kind.ts';
import { VIRTUAL_KINDS, type VirtualKind } from './kinds.ts';
import type { JsonObject } from './object.ts';
import type { OpenApi } from './openapi.ts';
import { OPENAPI_V2_PROTOBUF_TYPE, openApiV2Protobuf } from './openapi-protobuf.ts';
import { parseResourcePath, type ResourcePath } from './paths.ts';
import { type PodStreamDeps, servePodStreams } from './pod-streams.ts';
import type { AccessControl } from './rbac/access-control.ts';
import { reviewAccess, reviewRules, reviewSelf } from './rbac/reviews.ts';
import { typedBody, writeOptions } from './request-options.ts';
import { serveCollection, serveObject } from './rest.ts';
import { methodNotAllowed, notServed, pathNotFound } from './status.ts';
import { type SubresourceDeps, serveBinding, serveLog, serveScale, serveToken } from './subresources.ts';
import { ISSUER, keySet, reviewToken } from './tokens.ts';

export interface RouteDeps extends SubresourceDeps, PodStreamDeps {
  readonly openApi: OpenApi;
  readonly control: AccessControl;
  /** Shown to clients that ask where the server is. */
  readonly serverAddress: string;
}

const HEALTH_PATHS: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/livez']);

export async function route(deps: RouteDeps, request: ApiRequest): Promise<ApiAnswer> {
  const path = parseResourcePath(request.path);
  if (path !== undefined) {
    const answer = await serveResource(deps, path, request);
    if (answer !== undefined) return answer;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') throw pathNotFound();
  const answer = await document(deps, request);
  if (answer === undefined) throw pathNotFound();
  return answer;
}

async function document(deps: RouteDeps, request: ApiRequest): Promise<ApiAnswer | undefined> {
  const path = request.path.length > 1 ? request.path.replace(/\/$/, '') : request.path;
  if (HEALTH_PATHS.has(path)) return { kind: 'text', code: 200, text: 'ok' };
  const { registry } = deps;
  switch (path) {
    case '/':
      return json(200, {
        paths: ['/api', '/api/v1', '/apis', '/healthz', '/livez', '/openapi/v3', '/readyz', '/version'],
      });
    case '/version':
      return json(200, versionDocument());
    case '/api':
      return acceptsAggregatedDiscovery(request.accept)
        ? aggregated(deps, 'core')
        : json(200, coreVersions(deps.serverAddress));
    case '/apis':
      return acceptsAggregatedDiscovery(request.accept)
        ? aggregated(deps, 'groups')
        : json(200, groupList(registry));
    case '/debug/access':
      return json(200, deps.control.ledger.report());
    case '/openapi/v3':
      return json(200, deps.openApi.index());
    case '/openapi/v2':
      return request.accept?.includes('protobuf') === true
        ? {
            kind: 'bytes',
            code: 200,
            bytes: openApiV2Protobuf(deps.openApi.swagger()),
            contentType: OPENAPI_V2_PROTOBUF_TYPE,
          }
        : json(200, deps.openApi.swagger());
    case '/.well-known/openid-configuration':
      return json(200, {
        issuer: ISSUER,
        jwks_uri: `${ISSUER}/openid/v1/jwks`,
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256'],
      });
    case '/openid/v1/jwks':
      return json(200, await keySet(deps.tokens.publicKey));
  }
  if (path.startsWith('/openapi/v3/')) {
    const found = deps.openApi.document(path.slice('/openapi/v3/'.length));
    return found === undefined ? undefined : { kind: 'json', code: 200, ...found };
  }
  const [, root, first, second, ...more] = path.split('/');
  if (more.length > 0) return undefined;
  const found =
    root === 'api' && first !== undefined && second === undefined
      ? resourceList(registry, '', first)
      : root === 'apis' && first !== undefined
        ? second === undefined
          ? groupDocument(registry, first)
          : resourceList(registry, first, second)
        : undefined;
  return found === undefined ? undefined : json(200, found);
}

function aggregated(deps: RouteDeps, part: 'core' | 'groups'): ApiAnswer {
  const text = JSON.stringify(aggregatedDiscovery(deps.registry, part));
  return {
    kind: 'json',
    code: 200,
    text,
    // Clients take the older way when these parameters are missing.
    contentType: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList',
    etag: etagOf(text),
  };
}

/** Undefined when the path names no kind that is served. */
async function serveResource(
  deps: RouteDeps,
  path: ResourcePath,
  request: ApiRequest,
): Promise<ApiAnswer | undefined> {
  const kind = deps.registry.find(path.group, path.version, path.plural);
  if (kind === undefined) {
    const question = VIRTUAL_KINDS.find(
      (each) => each.group === path.group && each.version === path.version && each.plural === path.plural,
    );
    return question === undefined ? undefined : await ask(deps, question, path, request);
  }
  if (path.namespace !== undefined && !kind.namespaced) return undefined;
  if (request.method !== 'GET' && kind.strategy.load !== undefined) {
    const { namespace, name } = path;
    const stored = name === undefined ? undefined : deps.store.get(kind.resource, namespace, name);
    await kind.strategy.load(request.body, stored?.object);
  }
  if (path.name === undefined) return serveCollection(deps, kind, path, request);
  if (kind.namespaced && path.namespace === undefined) return undefined;
  return await serveNamed(deps, kind, { ...path, name: path.name }, request);
}

async function serveNamed(
  deps: RouteDeps,
  kind: Kind,
  path: ResourcePath & { readonly name: string },
  request: ApiRequest,
): Promise<ApiAnswer | undefined> {
  const { subresource } = path;
  if (subresource === undefined) return serveObject(deps, kind, path, 'object', request);
  if (subresource === 'status' && kind.status) return serveObject(deps, kind, path, 'status', request);
  if (subresource === 'scale' && kind.scale !== undefined) return serveScale(deps, kind, path, request);
  if (kind.extra.some((extra) => extra.name === subresource))
    switch (subresource) {
      case 'finalize':
        if (request.method !== 'PUT') throw methodNotAllowed();
        return serveObject(deps, kind, path, 'finalize', request);
      case 'binding':
        return serveBinding(deps, kind, path, request);
      case 'eviction':
        return serveEviction(deps, kind, path, request);
      case 'token':
        return await serveToken(deps, kind, path, request);
      case 'log':
        return serveLog(deps, kind, path, request);
      case 'exec':
      case 'attach':
      case 'portforward':
        return servePodStreams(deps, kind, path, subresource, request);
    }
  if (kind.plural === 'pods' && subresource === 'proxy')
    throw notServed('the proxy subresource is not served by this API server');
  return undefined;
}

async function ask(
  deps: RouteDeps,
  kind: VirtualKind,
  path: ResourcePath,
  request: ApiRequest,
): Promise<ApiAnswer | undefined> {
  if (path.name !== undefined || (path.namespace !== undefined) !== kind.namespaced) return undefined;
  if (request.method !== 'POST') throw methodNotAllowed();
  const options = writeOptions(request);
  const body = typedBody(request, kind, options);
  return json(201, await review(deps, kind, body, request, path.namespace), options.warnings);
}

function review(
  deps: RouteDeps,
  { kind }: VirtualKind,
  body: JsonObject,
  request: ApiRequest,
  namespace: string | undefined,
): JsonObject | Promise<JsonObject> {
  switch (kind) {
    case 'TokenReview':
      return reviewToken(deps.tokens, body);
    case 'SelfSubjectReview':
      return reviewSelf(request.user);
    case 'SelfSubjectRulesReview':
      return reviewRules(deps.control, body, request.user);
    default:
      return reviewAccess(deps.control, kind, body, request.user, namespace);
  }
}
