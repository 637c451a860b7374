// Reading environment variables into values: one form per kind of value, one sentence for what does not fit it.

import { parseDurationMs } from '#base/duration.ts';
import { MeshError } from '#base/errors.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a control-plane service is found; always over TLS. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Reads one variable at a time; @throws MeshError CONFIG_INVALID naming the variable, its value and the expected form. */
export class Reader {
  readonly #env: Environment;
  constructor(env: Environment) {
    this.#env = env;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.#env[name];
    if (value === undefined) return fallback;
    if (value === 'true') return true;
    if (value === 'false') return false;
    throw invalid(name, value, 'exactly "true" or "false"');
  }

  optionalBoolean(name: string): boolean | undefined {
    return this.#env[name] === undefined ? undefined : this.boolean(name, false);
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.#env[name];
    if (value === undefined) return fallback;
    const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    throw invalid(name, value, `a whole number from ${least} to ${most}`);
  }

  durationMs(name: string, fallbackMs: number): number {
    const value = this.#env[name];
    if (value === undefined) return fallbackMs;
    const parsed = parseDurationMs(value);
    if (parsed !== undefined) return parsed;
    throw invalid(name, value, 'a duration such as "5s", "1m30s" or "500ms"');
  }

  optionalDurationMs(name: string): number | undefined {
    return this.#env[name] === undefined ? undefined : this.durationMs(name, 0);
  }

  oneOf<const T extends string>(name: string, allowed: readonly T[], fallback: T): T {
    const value = this.#env[name];
    if (value === undefined) return fallback;
    const known = allowed.find((one) => one === value);
    if (known !== undefined) return known;
    throw invalid(name, value, allowed.map((one) => `"${one}"`).join(' or '));
  }

  ip(name: string, fallback: string): IpAddress {
    // A pod's address may be empty in the downward API when its status is not written yet.
    const value = this.#env[name] || fallback;
    const parsed = parseIp(value);
    if (parsed !== undefined) return parsed;
    throw invalid(name, value, 'an IP address');
  }

  required(name: string, what: string): string {
    const value = this.#env[name];
    if (value !== undefined && value !== '') return value;
    throw new MeshError('CONFIG_INVALID', `${name} is not set: expected ${what}`, {
      details: { variable: name },
    });
  }

  text(name: string): string | undefined {
    return this.#env[name];
  }

  /** Undefined when unset or empty. */
  nonEmpty(name: string): string | undefined {
    const value = this.#env[name];
    return value === '' ? undefined : value;
  }

  /** For a switch whose other position is not built: said at the start, instead of a proxy that behaves otherwise. */
  only(name: string, value: string, why: string): void {
    const given = this.#env[name];
    if (given !== undefined && given !== '' && given !== value)
      throw invalid(name, given, `${JSON.stringify(value)} (${why})`);
  }

  /** Variables whose name starts with `prefix`, the prefix taken off. */
  withPrefix(prefix: string): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const [name, value] of Object.entries(this.#env))
      if (value !== undefined && name.length > prefix.length && name.startsWith(prefix))
        found.set(name.slice(prefix.length), value);
    return found;
  }

  /** An empty value switches the service off; a value without a scheme is https, the only one supported. */
  endpoint(name: string, fallback: string): Endpoint | undefined {
    const value = this.#env[name] ?? fallback;
    if (value === '') return undefined;
    const expected = 'a URL such as "https://istiod.istio-system.svc:15012"';
    const url = URL.parse(value.includes('://') ? value : `https://${value}`);
    if (url === null || url.protocol !== 'https:' || url.hostname === '')
      throw invalid(name, value, expected);
    const port = url.port === '' ? 443 : Number(url.port);
    return { host: url.hostname.replace(/^\[|\]$/g, ''), port };
  }
}

export function invalid(name: string, value: string, expected: string): MeshError {
  return new MeshError(
    'CONFIG_INVALID',
    `${name}=${JSON.stringify(value)} is not valid: expected ${expected}`,
    {
      details: { variable: name },
    },
  );
}
