// What a request says about how to write: dry run, field manager, field validation, options of a deletion.

import { checkBody, type TypeName, type WriteOptions } from './admit.ts';
import { decodeObject, mediaType } from './decode.ts';
import { duplicateFields } from './duplicate-fields.ts';
import type { ApiRequest } from './exchange.ts';
import { isObject, type JsonObject } from './object.ts';
import type { DeleteOptions } from './removal.ts';
import {
  badRequest,
  type FieldError,
  fieldForbidden,
  invalid,
  invalidObject,
  required,
  StatusError,
} from './status.ts';

/** As the API names the options of a write; findings about them are told under this name. */
export type OptionsKind = 'CreateOptions' | 'UpdateOptions' | 'PatchOptions';

const MAX_MANAGER_LENGTH = 128;

export function writeOptions(request: ApiRequest, kind: OptionsKind = 'CreateOptions'): WriteOptions {
  const { query } = request;
  const validation = query.get('fieldValidation') ?? '';
  if (!['', 'Ignore', 'Warn', 'Strict'].includes(validation))
    throw badRequest(
      `fieldValidation must be one of Ignore, Warn, Strict, not ${JSON.stringify(validation)}`,
    );
  const asked = query.get('fieldManager') ?? '';
  const findings = checkManager(asked);
  if (findings.length > 0) throw invalidOptions(kind, findings);
  return {
    dryRun: isDryRun(query.getAll('dryRun')),
    fieldManager: asked === '' ? managerOf(request.userAgent) : asked,
    fieldValidation: validation === '' ? 'Warn' : (validation as WriteOptions['fieldValidation']),
    warnings: [],
    duplicateFields: () =>
      NAMES_FIELDS.test(mediaType(request.contentType)) ? duplicateFields(request.body.toString()) : [],
    user: request.user,
  };
}

/** `force` belongs to apply, and an applier says who it is. */
export function patchOptions(
  request: ApiRequest,
  isApply: boolean,
): WriteOptions & { readonly force: boolean } {
  const { query } = request;
  const force = query.get('force');
  if (force !== null && !isApply)
    throw invalidOptions('PatchOptions', [
      fieldForbidden('force', 'may not be specified for non-apply patch'),
    ]);
  if (isApply && (query.get('fieldManager') ?? '') === '')
    throw invalidOptions('PatchOptions', [required('fieldManager', 'is required for apply patch')]);
  return { ...writeOptions(request, 'PatchOptions'), force: force === 'true' || force === '1' };
}

const invalidOptions = (kind: OptionsKind, findings: readonly FieldError[]): StatusError =>
  invalidObject({ group: 'meta.k8s.io', plural: kind, kind }, '', findings);

const isPrintable = (character: string): boolean => /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u.test(character);

function checkManager(name: string): FieldError[] {
  const findings: FieldError[] = [];
  if (Buffer.byteLength(name) > MAX_MANAGER_LENGTH)
    findings.push({
      path: 'fieldManager',
      type: 'TooLong',
      message: `may not be more than ${MAX_MANAGER_LENGTH} bytes`,
    });
  for (const [index, character] of [...name].entries())
    if (!isPrintable(character))
      findings.push(invalid('fieldManager', name, `invalid character at position ${index}`));
  return findings;
}

/** The program's name: what stands before the first slash of its user agent. */
function managerOf(userAgent: string | undefined): string {
  const name = [...(userAgent ?? '').split('/', 1)[0]!].filter(isPrintable).join('');
  return name.slice(0, MAX_MANAGER_LENGTH) || 'unknown';
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
