// Who is at the other end: the SPIFFE names of a peer's certificate, and whether they are acceptable (ztunnel.md §5.3).
// The chain itself is checked by TLS before any of this is asked.

import { parseSpiffeId, type SpiffeId } from '#model/identity.ts';

export type PeerVerdict =
  | { readonly ok: true; readonly identity: SpiffeId }
  | { readonly ok: false; readonly reason: string };

/** For a client: one of the certificate's identities must be expected. */
export function checkExpected(
  subjectAltName: string | undefined,
  expected: readonly SpiffeId[],
): PeerVerdict {
  const presented = spiffeIds(subjectAltName);
  const match = presented.find((id) => expected.includes(id));
  if (match !== undefined) return { ok: true, identity: match };
  return {
    ok: false,
    reason: `the peer is ${listOf(presented)}, expected ${listOf(expected)}`,
  };
}

/** For a server: one of the certificate's identities must be of our own trust domain. Which one it is, policies judge. */
export function checkTrustDomain(subjectAltName: string | undefined, own: SpiffeId): PeerVerdict {
  const presented = spiffeIds(subjectAltName);
  const trustDomain = parseSpiffeId(own)?.trustDomain;
  const match = presented.find((id) => parseSpiffeId(id)?.trustDomain === trustDomain);
  if (match !== undefined) return { ok: true, identity: match };
  return { ok: false, reason: `the peer is ${listOf(presented)}, not of trust domain ${trustDomain}` };
}

/** The first name that parses as a workload identity: the one policies and telemetry see. */
export function peerIdentity(subjectAltName: string | undefined): SpiffeId | undefined {
  return spiffeIds(subjectAltName)[0];
}

/** Names of the form of a workload identity, in the certificate's order. */
export function spiffeIds(subjectAltName: string | undefined): SpiffeId[] {
  return uriNames(subjectAltName ?? '').filter((uri): uri is SpiffeId => parseSpiffeId(uri) !== undefined);
}

/**
 * URI names out of Node's text form, `URI:spiffe://…, DNS:…`. A value with a comma, quote or control character stands as
 * a JSON string, so that a name cannot pose as two (CVE-2021-44532). Text that does not fit that form yields no name at
 * all: better to refuse a peer than to misread it.
 */
export function uriNames(subjectAltName: string): string[] {
  const uris: string[] = [];
  let at = 0;
  while (at < subjectAltName.length) {
    const colon = subjectAltName.indexOf(':', at);
    if (colon < 0) return [];
    const kind = subjectAltName.slice(at, colon);
    const value = readValue(subjectAltName, colon + 1);
    if (value === undefined) return [];
    if (kind === 'URI') uris.push(value.text);
    at = value.end;
    if (at === subjectAltName.length) break;
    if (!subjectAltName.startsWith(', ', at)) return [];
    at += 2;
  }
  return uris;
}

function readValue(text: string, start: number): { readonly text: string; readonly end: number } | undefined {
  if (text[start] !== '"') {
    const comma = text.indexOf(', ', start);
    const end = comma < 0 ? text.length : comma;
    return { text: text.slice(start, end), end };
  }
  let end = start + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  if (end >= text.length) return undefined;
  try {
    return { text: JSON.parse(text.slice(start, end + 1)) as string, end: end + 1 };
  } catch {
    return undefined;
  }
}

function listOf(ids: readonly SpiffeId[]): string {
  return ids.length === 0 ? 'without a SPIFFE identity' : ids.join(' or ');
}
