// Per-pod settings of the redirection, from annotations (cni.md A.4.6). Never fails: what cannot be read is told and ignored.

import {
  BYPASS_INBOUND_ANNOTATION,
  DNS_CAPTURE_ANNOTATION,
  VIRTUAL_INTERFACES_ANNOTATION,
} from './constants.ts';
import type { PodRuleOptions } from './rules/nft.ts';

export interface RuleDefaults {
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
}

export interface Overrides {
  readonly options: PodRuleOptions;
  /** One sentence per annotation that was ignored. */
  readonly ignored: readonly string[];
}

export function podRuleOptions(
  annotations: Readonly<Record<string, string>> | undefined,
  defaults: RuleDefaults,
): Overrides {
  const ignored: string[] = [];
  const flag = (name: string, fallback: boolean): boolean => {
    const text = annotations?.[name];
    if (text === undefined) return fallback;
    const value = parseBoolean(text);
    if (value === undefined)
      ignored.push(`annotation ${name}=${JSON.stringify(text)} is neither true nor false`);
    return value ?? fallback;
  };
  const virtualInterfaces: string[] = [];
  for (const entry of (annotations?.[VIRTUAL_INTERFACES_ANNOTATION] ?? '').split(',')) {
    const name = entry.trim();
    if (name === '') continue;
    if (isInterfaceName(name)) virtualInterfaces.push(name);
    else
      ignored.push(
        `annotation ${VIRTUAL_INTERFACES_ANNOTATION} names ${JSON.stringify(name)}, which is no interface name`,
      );
  }
  return {
    options: {
      ipv6: defaults.ipv6,
      dnsCapture: flag(DNS_CAPTURE_ANNOTATION, defaults.dnsCapture),
      bypassInbound: flag(BYPASS_INBOUND_ANNOTATION, false),
      virtualInterfaces,
    },
    ignored,
  };
}

/** The words that Go's strconv.ParseBool takes: the field's manifests use them. */
function parseBoolean(text: string): boolean | undefined {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  return undefined;
}

/** The name becomes part of a ruleset: nothing that could end a string passes (stricter than the kernel). */
function isInterfaceName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}$/.test(text);
}
