// Which connections `culvert logs` shows. Pure.

import type { AccessRecord } from './screen/access-line.ts';
import { isWorthShowing } from './screen/connection-line.ts';

export interface ConnectionWish {
  /** Either end in this namespace. */
  readonly namespace?: string | undefined;
  /** Either end is this workload. */
  readonly pod?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly denied?: boolean | undefined;
  /** Both ends' records of a connection instead of one. */
  readonly all?: boolean | undefined;
}

type End = 'src' | 'dst';

/**
 * A name matches a workload of that name, the pods of a deployment of that name, a service by its first word, or an
 * address; `NAMESPACE/NAME` both.
 */
export function matchesEnd(record: AccessRecord, end: End, wanted: string): boolean {
  const field = (name: string): string => record.fields.get(`${end}.${name}`) ?? '';
  const slash = wanted.indexOf('/');
  if (slash >= 0 && field('namespace') !== wanted.slice(0, slash)) return false;
  const name = wanted.slice(slash + 1);
  if (name === '') return true;
  const addresses = [field('addr'), end === 'dst' ? field('hbone_addr') : ''].map((text) =>
    text.replace(/:\d+$/, ''),
  );
  return (
    field('workload') === name ||
    isReplicaOf(field('workload'), name) ||
    field('service').split('.')[0] === name ||
    field('service') === name ||
    addresses.includes(name)
  );
}

/** `web-5f7c9d8b6-x2x4z` is a replica of `web`, `web-0` too; `web-admin-…` is not. */
function isReplicaOf(workload: string, name: string): boolean {
  const rest = workload.startsWith(`${name}-`) ? workload.slice(name.length + 1) : undefined;
  return rest !== undefined && /^(?:[a-z0-9]{6,10}-[a-z0-9]{5}|[a-z0-9]{5}|\d+)$/.test(rest);
}

export function isWanted(record: AccessRecord, wish: ConnectionWish): boolean {
  const either = (test: (end: End) => boolean): boolean => test('src') || test('dst');
  if (wish.all !== true && !isWorthShowing(record)) return false;
  if (wish.denied === true && !record.fields.has('error')) return false;
  const { namespace, pod, from, to } = wish;
  if (namespace !== undefined && !either((end) => record.fields.get(`${end}.namespace`) === namespace))
    return false;
  if (pod !== undefined && !either((end) => matchesEnd(record, end, pod))) return false;
  if (from !== undefined && !matchesEnd(record, 'src', from)) return false;
  return to === undefined || matchesEnd(record, 'dst', to);
}
