// The verbs over HTTP: path and method to an operation on stored objects. Reading: read.ts; subresources other than
// status: subresources.ts.

import type { WriteOptions } from './admit.ts';
import { envelope } from './admit.ts';
import { applyObject } from './apply.ts';
import { decode, decodeObject, mediaType } from './decode.ts';
import { type ApiAnswer, type ApiRequest, json } from './exchange.ts';
import type { Kind } from './kind.ts';
import { type ApiObject, isObject, type JsonObject } from './object.ts';
import { createObject, getStored, type ObjectsDeps, type Part, updateObject } from './objects.ts';
import { jsonPatch, mergePatch } from './patch.ts';
import type { ResourcePath } from './paths.ts';
import { isTrue, list, listOf, selected, single, watch } from './read.ts';
import { deleteObject } from './removal.ts';
import { deleteOptions, patchOptions, writeOptions } from './request-options.ts';
import { builtInSchema } from './schema-bundle.ts';
import { badRequest, methodNotAllowed, notFound, unsupportedMediaType } from './status.ts';
import type { Stored } from './store.ts';
import { strategicMerge } from './strategic.ts';
import { type Door, writerOf } from './tracking.ts';

export function serveCollection(
  deps: ObjectsDeps,
  kind: Kind,
  path: ResourcePath,
  request: ApiRequest,
): ApiAnswer {
  switch (request.method) {
    case 'GET':
      return isTrue(request.query.get('watch'))
        ? watch(deps, kind, path.namespace, request)
        : list(deps, kind, path.namespace, request);
    case 'POST':
      return create(deps, kind, path.namespace, request);
    case 'DELETE':
      return deleteCollection(deps, kind, path.namespace, request);
    default:
      throw methodNotAllowed();
  }
}

export function serveObject(
  deps: ObjectsDeps,
  kind: Kind,
  path: ResourcePath & { readonly name: string },
  part: Part,
  request: ApiRequest,
): ApiAnswer {
  const { namespace, name } = path;
  switch (request.method) {
    case 'GET':
      return single(deps, kind, getStored(deps, kind, namespace, name), request);
    case 'PUT': {
      const body = decodeObject(request.body, request.contentType);
      const options = writeOptions(request, 'UpdateOptions');
      const stored = updateObject(
        deps,
        kind,
        getStored(deps, kind, namespace, name),
        () => body,
        part,
        options,
      );
      return single(deps, kind, stored, request, 200, options.warnings);
    }
    case 'PATCH':
      return patch(deps, kind, namespace, name, part, request);
    case 'DELETE': {
      if (part !== 'object') throw methodNotAllowed();
      return remove(deps, kind, namespace, name, request);
    }
    default:
      throw methodNotAllowed();
  }
}

function create(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  request: ApiRequest,
): ApiAnswer {
  if (kind.namespaced && namespace === undefined)
    throw badRequest('an empty namespace may not be set during creation');
  const options = writeOptions(request, 'CreateOptions');
  const body = decodeObject(request.body, request.contentType);
  const stored = createObject(deps, kind, namespace, body, options);
  return single(deps, kind, stored, request, 201, options.warnings);
}

const PATCH_TYPES: Readonly<Record<string, 'merge' | 'json' | 'strategic' | 'apply'>> = {
  'application/merge-patch+json': 'merge',
  'application/json-patch+json': 'json',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
};

function patch(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  name: string,
  part: Part,
  request: ApiRequest,
): ApiAnswer {
  const type = mediaType(request.contentType);
  const how = Object.hasOwn(PATCH_TYPES, type) ? PATCH_TYPES[type] : undefined;
  const schema = builtInSchema(kind.group, kind.version, kind.kind);
  // Custom resources have no patch strategies.
  if (how === undefined || (how === 'strategic' && schema === undefined))
    throw unsupportedMediaType(
      `the body of the request was in an unknown format - accepted media types include: ${Object.keys(
        PATCH_TYPES,
      )
        .filter((each) => schema !== undefined || !each.includes('strategic'))
        .join(', ')}`,
    );
  const body = decode(request.body, how === 'apply' ? 'yaml' : 'json');
  const options = patchOptions(request, how === 'apply');
  if (how === 'apply') {
    const { stored, code } = apply(deps, kind, namespace, name, part, body, options);
    return single(deps, kind, stored, request, code, options.warnings);
  }
  const stored = getStored(deps, kind, namespace, name);
  const change = (current: ApiObject): JsonObject => {
    const changed =
      how === 'merge'
        ? mergePatch(current, body)
        : how === 'json'
          ? jsonPatch(current, body)
          : strategicMerge(schema!, current, body);
    if (!isObject(changed)) throw badRequest('the patch does not leave an object');
    return changed;
  };
  return single(
    deps,
    kind,
    updateObject(deps, kind, stored, change, part, options),
    request,
    200,
    options.warnings,
  );
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Creates what is not there, through the object itself only. */
export function apply(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  name: string,
  door: Door,
  body: unknown,
  options: WriteOptions & { readonly force: boolean },
): { readonly stored: Stored; readonly code: number } {
  if (!isObject(body)) throw badRequest('an apply patch is an object');
  // What is owned depends on the version spoken, so here it is not guessed.
  if (body.apiVersion !== kind.apiVersion || body.kind !== kind.kind)
    throw badRequest(
      `invalid object type: ${textOf(body.apiVersion)}, Kind=${textOf(body.kind)}; expected ${kind.apiVersion}, Kind=${kind.kind}`,
    );
  const applied = envelope(kind, body, namespace);
  if (applied.metadata.name === '') applied.metadata.name = name;
  if (applied.metadata.name !== name)
    throw badRequest(
      `the name of the object (${applied.metadata.name}) does not match the name on the URL (${name})`,
    );
  const applier = { ...writerOf(kind, door, options, deps.clock.now()), force: options.force };
  const stored = deps.store.get(kind.resource, namespace, name);
  if (stored === undefined) {
    if (door !== 'object') throw notFound(kind, name);
    const made = applyObject(kind, undefined, applied, applier);
    return { stored: createObject(deps, kind, namespace, made, { ...options, applied: true }), code: 201 };
  }
  const change = (current: ApiObject): JsonObject => {
    const next = applyObject(kind, current, applied, applier);
    // A version in the applied object is a precondition, as in an update.
    if (applied.metadata.resourceVersion !== undefined)
      next.metadata.resourceVersion = applied.metadata.resourceVersion;
    return next;
  };
  const part = door === 'scale' ? 'object' : door;
  return { stored: updateObject(deps, kind, stored, change, part, { ...options, applied: true }), code: 200 };
}

function remove(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  name: string,
  request: ApiRequest,
): ApiAnswer {
  const stored = getStored(deps, kind, namespace, name);
  const result = deleteObject(deps, kind, stored, deleteOptions(request));
  // Pods answer themselves; most others a Status once they are gone.
  if (result.kind === 'terminating' || kind.plural === 'pods')
    return json(200, { ...result.object, apiVersion: kind.apiVersion });
  return json(200, {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name,
      ...(kind.group === '' ? {} : { group: kind.group }),
      kind: kind.plural,
      uid: stored.object.metadata.uid,
    },
  });
}

function deleteCollection(
  deps: ObjectsDeps,
  kind: Kind,
  namespace: string | undefined,
  request: ApiRequest,
): ApiAnswer {
  const options = deleteOptions(request);
  const chosen = selected(deps, kind, namespace, request);
  for (const { object } of chosen) {
    // Removing one (a definition) may have removed another already.
    const stored = deps.store.get(kind.resource, object.metadata.namespace, object.metadata.name);
    if (stored !== undefined) deleteObject(deps, kind, stored, options);
  }
  return json(200, listOf(deps, kind, chosen));
}
