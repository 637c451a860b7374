// What a request says about how to write: dry run, field manager, field validation, options of a deletion.

import { checkBody, type TypeName, type WriteOptions } from './admit.ts';
import { decodeObject, mediaType } from './decode.ts';
import { duplicateFields } from './duplicate-fields.ts';
import type { ApiRequest } from './exchange.ts';
import { isObject, type JsonObject } from './object.ts';
import type { DeleteOptions } from './removal.ts';
import { badRequest, StatusError } from './status.ts';

export function writeOptions(request: ApiRequest): WriteOptions {
  const { query } = request;
  const validation = query.get('fieldValidation') ?? '';
  if (!['', 'Ignore', 'Warn', 'Strict'].includes(validation))
    throw badRequest(
      `fieldValidation must be one of Ignore, Warn, Strict, not ${JSON.stringify(validation)}`,
    );
  return {
    dryRun: isDryRun(query.getAll('dryRun')),
    fieldManager: query.get('fieldManager') ?? (request.userAgent ?? 'unknown').split('/', 1)[0]!,
    fieldValidation: validation === '' ? 'Warn' : (validation as WriteOptions['fieldValidation']),
    warnings: [],
    duplicateFields: () =>
      NAMES_FIELDS.test(mediaType(request.contentType)) ? duplicateFields(request.body.toString()) : [],
    user: request.user,
  };
}

/** Bodies that are objects in JSON; a JSON patch is a list of operations, and YAML with a field twice is no YAML. */
const NAMES_FIELDS = /^application\/(?:(?:strategic-)?merge-patch\+)?json$/;

/** The body of a question, an option or a subresource, which is of one type and never stored. */
export function typedBody(
  request: ApiRequest,
  type: TypeName,
  options: WriteOptions = writeOptions(request),
): JsonObject {
  const body = decodeObject(request.body, request.contentType);
  const { group, version, kind } = type;
  const apiVersion = group === '' ? version : `${group}/${version}`;
  if ((body.kind ?? kind) !== kind || (body.apiVersion ?? apiVersion) !== apiVersion)
    throw badRequest(
      `no kind ${JSON.stringify(body.kind ?? '')} of ${JSON.stringify(body.apiVersion ?? '')} is taken here, but ${kind} of ${apiVersion}`,
    );
  checkBody(type, body, options);
  return body;
}

function isDryRun(values: readonly unknown[]): boolean {
  const bad = values.find((value) => value !== 'All' && value !== '');
  if (bad !== undefined)
    throw badRequest(`dryRun: Unsupported value: ${JSON.stringify(bad)}: supported values: "All"`);
  return values.includes('All');
}

/** From the body (DeleteOptions) or the query; the body speaks first. */
export function deleteOptions(request: ApiRequest): DeleteOptions {
  const body = request.body.length === 0 ? {} : decodeObject(request.body, request.contentType);
  if (body.kind !== undefined && body.kind !== 'DeleteOptions')
    throw badRequest(`the body of a deletion is DeleteOptions, not ${String(body.kind)}`);
  checkBody({ group: '', version: 'v1', kind: 'DeleteOptions' }, body, writeOptions(request));
  const { query } = request;
  const grace = body.gracePeriodSeconds ?? query.get('gracePeriodSeconds') ?? undefined;
  const policy = body.propagationPolicy ?? query.get('propagationPolicy') ?? undefined;
  if (policy !== undefined && !['Orphan', 'Background', 'Foreground'].includes(String(policy)))
    throw new StatusError(
      422,
      'Invalid',
      `DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: ${JSON.stringify(policy)}: supported values: "Foreground", "Background", "Orphan"`,
      {},
    );
  if (grace !== undefined && !Number.isInteger(Number(grace)))
    throw badRequest(`gracePeriodSeconds must be a whole number, not ${JSON.stringify(grace)}`);
  const preconditions = isObject(body.preconditions) ? body.preconditions : {};
  const dryRun = Array.isArray(body.dryRun) ? body.dryRun : [];
  return {
    ...(grace === undefined ? {} : { gracePeriodSeconds: Number(grace) }),
    ...(policy === undefined ? {} : { propagationPolicy: String(policy) }),
    preconditions: {
      ...(typeof preconditions.uid === 'string' ? { uid: preconditions.uid } : {}),
      ...(typeof preconditions.resourceVersion === 'string'
        ? { resourceVersion: preconditions.resourceVersion }
        : {}),
    },
    dryRun: isDryRun([...dryRun, ...query.getAll('dryRun')]),
  };
}
