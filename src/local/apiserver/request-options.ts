// What a request says about how to write: dry run, field manager, field validation, options of a deletion.

import type { WriteOptions } from './admit.ts';
import { decodeObject } from './decode.ts';
import type { ApiRequest } from './exchange.ts';
import { isObject } from './object.ts';
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
  };
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
