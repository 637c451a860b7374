// Functions that Kubernetes adds to CEL, as far as the definitions of Istio and the Gateway API and common ones use them:
// addresses, URLs, regular expressions, and the small helpers for lists. `quantity`, `format` and optionals are absent.

import { isIP } from 'node:net';
import type { CelFunc, CelValue } from '@bufbuild/cel';
import { parseCidr } from '#net/cidr.ts';

type Cel = typeof import('@bufbuild/cel');

export function celFunctions(cel: Cel): CelFunc[] {
  const { BOOL, STRING, INT, DYN } = cel.CelScalar;
  const list = cel.listType(DYN);
  // A URL travels as its text with a mark, so that `getHost` of any string is an error.
  const url = cel.mapType(STRING, STRING);
  const part = (name: string, read: (url: URL) => string): CelFunc =>
    cel.celMethod(name, url, [], STRING, function () {
      return read(new URL(String(this.get('url'))));
    });
  return [
    cel.celFunc('isIP', [STRING], BOOL, (text) => isIP(text) !== 0),
    cel.celFunc('isCIDR', [STRING], BOOL, (text) => text.includes('/') && parseCidr(text) !== undefined),
    cel.celFunc('isURL', [STRING], BOOL, isUrl),
    cel.celFunc('url', [STRING], url, (text) => {
      if (!isUrl(text)) throw new Error(`URL parse error during conversion from string: ${text}`);
      return new Map([['url', text]]);
    }),
    part('getScheme', ({ protocol }) => protocol.slice(0, -1)),
    part('getHost', ({ host }) => host),
    part('getHostname', ({ hostname }) => hostname.replace(/^\[|\]$/g, '')),
    part('getPort', ({ port }) => port),
    part('getEscapedPath', ({ pathname }) => pathname),
    cel.celMethod('find', STRING, [STRING], STRING, function (pattern) {
      return new RegExp(pattern, 'u').exec(String(this))?.[0] ?? '';
    }),
    cel.celMethod('isSorted', list, [], BOOL, function () {
      const items = [...this];
      return items.every((item, index) => index === 0 || compare(items[index - 1]!, item) <= 0);
    }),
    cel.celMethod('min', list, [], DYN, function () {
      return extreme([...this], -1);
    }),
    cel.celMethod('max', list, [], DYN, function () {
      return extreme([...this], 1);
    }),
    cel.celMethod('sum', list, [], DYN, function () {
      const items = [...this];
      return items.some((item) => typeof item === 'number')
        ? items.reduce((sum: number, item) => sum + Number(item), 0)
        : items.reduce((sum: bigint, item) => sum + BigInt(item as bigint), 0n);
    }),
    cel.celMethod('indexOf', list, [DYN], INT, function (wanted) {
      return BigInt([...this].indexOf(wanted));
    }),
    cel.celMethod('lastIndexOf', list, [DYN], INT, function (wanted) {
      return BigInt([...this].lastIndexOf(wanted));
    }),
  ];
}

/** Absolute, or a path from the root, as Go's ParseRequestURI has it; what we cannot take apart is none. */
const isUrl = (text: string): boolean => URL.canParse(text);

type Comparable = string | number | bigint | boolean;

function compare(a: CelValue, b: CelValue): number {
  const [left, right] = [a as Comparable, b as Comparable];
  return left < right ? -1 : left > right ? 1 : 0;
}

function extreme(items: readonly CelValue[], sign: 1 | -1): CelValue {
  const [first, ...rest] = items;
  if (first === undefined) throw new Error('the list is empty');
  return rest.reduce<CelValue>((best, item) => (compare(item, best) * sign > 0 ? item : best), first);
}
