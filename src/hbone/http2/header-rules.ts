// What makes a header list a CONNECT request or an answer to one (RFC 9113 §8.2, §8.3, §8.5), and the headers out of it.

import type { HboneHeaders } from '../hbone.ts';

/** `malformed`: RST_STREAM with PROTOCOL_ERROR. `other`: well formed, but no CONNECT. */
export type RequestVerdict =
  | { readonly kind: 'connect'; readonly authority: string }
  | { readonly kind: 'other' }
  | { readonly kind: 'malformed' };

const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// Not at the ends: blanks. Nowhere: NUL and line breaks.
const VALUE = /^(?:[^\0\r\n \t](?:[^\0\r\n]*[^\0\r\n \t])?)?$/;
/** They speak of one connection of HTTP/1.1 and have no meaning here. */
const CONNECTION_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const REQUEST_PSEUDO: ReadonlySet<string> = new Set([':method', ':scheme', ':authority', ':path']);
const MALFORMED: RequestVerdict = { kind: 'malformed' };

export function judgeRequest(list: readonly string[]): RequestVerdict {
  const pseudo = pseudoHeaders(list, REQUEST_PSEUDO);
  const method = pseudo?.get(':method');
  if (pseudo === undefined || method === undefined || method === '') return MALFORMED;
  const authority = pseudo.get(':authority');
  if (method === 'CONNECT') {
    // §8.5: authority alone, and it is host and port, not a path.
    if (pseudo.has(':scheme') || pseudo.has(':path')) return MALFORMED;
    if (authority === undefined || !/^[^\s/?#@]+$/.test(authority)) return MALFORMED;
    return { kind: 'connect', authority };
  }
  if (!pseudo.get(':scheme') || !pseudo.get(':path')) return MALFORMED;
  return { kind: 'other' };
}

/** The status of an answer; undefined when it is malformed. */
export function statusOf(list: readonly string[]): number | undefined {
  const status = pseudoHeaders(list, STATUS_ONLY)?.get(':status');
  return status !== undefined && /^[1-9][0-9]{2}$/.test(status) ? Number(status) : undefined;
}
const STATUS_ONLY: ReadonlySet<string> = new Set([':status']);

/** Trailers hold no pseudo-headers (§8.1). */
export function areTrailersWellFormed(list: readonly string[]): boolean {
  return pseudoHeaders(list, new Set()) !== undefined;
}

/** The pseudo-headers, each once and in front, all of them allowed; undefined when the list breaks a rule. */
function pseudoHeaders(
  list: readonly string[],
  allowed: ReadonlySet<string>,
): ReadonlyMap<string, string> | undefined {
  const pseudo = new Map<string, string>();
  for (let at = 0; at < list.length; at += 2) {
    const name = list[at]!;
    const value = list[at + 1]!;
    if (!VALUE.test(value)) return undefined;
    if (name.startsWith(':')) {
      if (!allowed.has(name) || pseudo.has(name) || pseudo.size * 2 !== at) return undefined;
      pseudo.set(name, value);
    } else if (!NAME.test(name) || CONNECTION_HEADERS.has(name) || (name === 'te' && value !== 'trailers')) {
      return undefined;
    }
  }
  return pseudo;
}

/** Repeated headers are joined by a bare comma: a space behind it would become part of a baggage key. */
export function ordinaryHeaders(list: readonly string[]): HboneHeaders {
  const headers: Record<string, string> = {};
  for (let at = 0; at + 1 < list.length; at += 2) {
    const name = list[at]!;
    const value = list[at + 1]!;
    if (!name.startsWith(':')) headers[name] = name in headers ? `${headers[name]},${value}` : value;
  }
  return headers;
}

/** Why a request of our own could not be sent as it is; undefined when it can. */
export function unsendable(authority: string, headers: HboneHeaders): string | undefined {
  if (authority === '') return 'the authority is empty';
  for (const name in headers) {
    if (!NAME.test(name)) return `${JSON.stringify(name)} is no header name`;
    if (!VALUE.test(headers[name]!)) return `the header ${name} holds a line break, NUL or outer blanks`;
  }
  return undefined;
}
