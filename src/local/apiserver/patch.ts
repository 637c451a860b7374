// Merge patch (RFC 7386) and JSON patch (RFC 6902). Strategic merge: strategic.ts; apply: apply.ts.

import { applyPatch, type Operation, Pointer } from 'rfc6902';
import { clone, isObject, type JsonObject } from './object.ts';
import { badRequest, StatusError } from './status.ts';

const MAX_OPERATIONS = 10_000;

/** A new value; neither argument is changed. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return clone(patch);
  const merged: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(Object.hasOwn(merged, key) ? merged[key] : undefined, value);
  }
  return merged;
}

/** A new value. Refused operations throw 422, malformed patches 400. */
export function jsonPatch(target: JsonObject, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest('a JSON patch is a list of operations');
  if (patch.length > MAX_OPERATIONS)
    throw new StatusError(
      413,
      'RequestEntityTooLarge',
      `the allowed maximum operations in a JSON patch is ${MAX_OPERATIONS}, got ${patch.length}`,
    );
  for (const operation of patch) checkOperation(operation);
  const root = { root: clone(target) };
  const operations = (patch as Operation[]).map((operation) => ({
    ...operation,
    path: `/root${operation.path}`,
    ...('from' in operation ? { from: `/root${operation.from}` } : {}),
  })) as Operation[];
  operations.forEach((operation, index) => {
    if (isTestOfAbsence(root, operation)) return;
    const [failure] = applyPatch(root, [operation]);
    if (failure === null || failure === undefined) return;
    const { op, path } = (patch as Operation[])[index]!;
    const message = `the server rejected our request due to an error in our request: operation ${index} (${op} ${path}): ${failure.message}`;
    throw new StatusError(422, 'Invalid', message);
  });
  return root.root;
}

/** To Kubernetes a field that is not there is null when it is tested (not so in RFC 6902 §4.6): "add unless there is one". */
function isTestOfAbsence(root: object, operation: Operation): boolean {
  if (operation.op !== 'test' || operation.value !== null) return false;
  const { parent, key } = Pointer.fromJSON(operation.path).evaluate(root);
  return isObject(parent) && !Object.hasOwn(parent, key);
}

const OPERATIONS = ['add', 'remove', 'replace', 'move', 'copy', 'test'];

function checkOperation(operation: unknown): void {
  if (!isObject(operation) || !OPERATIONS.includes(String(operation.op)))
    throw badRequest(`a JSON patch operation must be one of ${OPERATIONS.join(', ')}`);
  const pointers = [operation.path, ...(Object.hasOwn(operation, 'from') ? [operation.from] : [])];
  for (const pointer of pointers) {
    if (typeof pointer !== 'string' || (pointer !== '' && !pointer.startsWith('/')))
      throw badRequest(`${JSON.stringify(pointer)} is no JSON pointer`);
    if (/(^|\/)(__proto__|constructor|prototype)(\/|$)/.test(pointer))
      throw badRequest(`a JSON patch may not address ${JSON.stringify(pointer)}`);
  }
  if (['add', 'replace', 'test'].includes(String(operation.op)) && !Object.hasOwn(operation, 'value'))
    throw badRequest(`the operation ${String(operation.op)} needs a value`);
}
