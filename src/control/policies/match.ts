// Values of a policy as people write them → conditions of the L4 model (control-plane.md §3.4).

import type { ServiceAccountMatch, StringMatch } from '#model/policy.ts';
import { type Cidr, parseCidr } from '#net/cidr.ts';

export function stringMatch(text: string): StringMatch {
  if (text === '*') return { kind: 'presence' };
  if (text.startsWith('*')) return { kind: 'suffix', text: text.slice(1) };
  if (text.endsWith('*')) return { kind: 'prefix', text: text.slice(0, -1) };
  return { kind: 'exact', text };
}

/**
 * Identities without their scheme, `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, with wildcards at either end. A trust domain
 * that has other names stands for all of them: `trustDomains` are the names of ours.
 */
export function principalMatches(texts: readonly string[], trustDomains: readonly string[]): StringMatch[] {
  const named = texts.flatMap((text) => {
    const slash = text.indexOf('/');
    if (slash < 0 || !trustDomains.includes(text.slice(0, slash))) return [text];
    return trustDomains.map((domain) => `${domain}${text.slice(slash)}`);
  });
  return [...new Set(named)].map(stringMatch);
}

/** `namespace/account`, or `account` in the policy's own namespace. */
export function serviceAccountMatch(text: string, policyNamespace: string): ServiceAccountMatch {
  const slash = text.indexOf('/');
  if (slash < 0) return { namespace: policyNamespace, serviceAccount: text };
  return { namespace: text.slice(0, slash), serviceAccount: text.slice(slash + 1) };
}

/** What could be read, and what could not: dropping a value may widen a policy, so the caller must know. */
export interface Readable<T> {
  readonly values: readonly T[];
  readonly unreadable: readonly string[];
}

export function readCidrs(texts: readonly string[]): Readable<Cidr> {
  return readAll(texts, parseCidr);
}

export function readPorts(texts: readonly string[]): Readable<number> {
  return readAll(texts, (text) => {
    const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
    return port <= 65_535 ? port : undefined;
  });
}

function readAll<T>(texts: readonly string[], read: (text: string) => T | undefined): Readable<T> {
  const values: T[] = [];
  const unreadable: string[] = [];
  for (const text of texts) {
    const value = read(text);
    if (value === undefined) unreadable.push(text);
    else values.push(value);
  }
  return { values, unreadable };
}
