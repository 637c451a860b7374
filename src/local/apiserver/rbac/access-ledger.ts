// What was asked for and granted, and what was refused, since this server started: counted, bounded, and readable at
// `/debug/access`. Least privilege is tested against it, and whoever writes a role finds there what it must hold.

import type { User } from '../user-info.ts';
import { type Access, refusalText } from './access.ts';

export interface LedgerEntry {
  readonly user: string;
  readonly verb: string;
  readonly group?: string;
  /** With its part: `pods/status`. */
  readonly resource?: string;
  readonly path?: string;
  readonly count: number;
}

export interface LedgerDenial extends LedgerEntry {
  readonly namespace?: string;
  readonly name?: string;
  readonly message: string;
}

const MAX_GRANTED = 5_000;
const MAX_DENIED = 1_000;

interface Counted<T> {
  readonly entry: T;
  count: number;
}

export class AccessLedger {
  readonly #granted = new Map<string, Counted<Omit<LedgerEntry, 'count'>>>();
  readonly #denied = new Map<string, Counted<Omit<LedgerDenial, 'count'>>>();
  #deniedTotal = 0;

  get deniedTotal(): number {
    return this.#deniedTotal;
  }

  granted(user: User, access: Access): void {
    const key =
      access.kind === 'path'
        ? `${user.name} ${access.verb} ${access.path}`
        : `${user.name} ${access.verb} ${access.group} ${access.resource} ${access.subresource}`;
    const known = this.#granted.get(key);
    if (known !== undefined) known.count++;
    else if (this.#granted.size < MAX_GRANTED)
      this.#granted.set(key, { entry: { user: user.name, ...thingOf(access) }, count: 1 });
  }

  /** How often the very same was refused by now; undefined when there is no room to remember it. */
  denied(user: User, access: Access): number | undefined {
    this.#deniedTotal++;
    const message = refusalText(user.name, access);
    const name = access.kind === 'path' ? '' : access.name;
    const key = `${message} ${name}`;
    const known = this.#denied.get(key);
    if (known !== undefined) return ++known.count;
    if (this.#denied.size >= MAX_DENIED) return undefined;
    this.#denied.set(key, {
      entry: {
        user: user.name,
        ...thingOf(access),
        ...(access.kind === 'path' || access.namespace === '' ? {} : { namespace: access.namespace }),
        ...(name === '' ? {} : { name }),
        message,
      },
      count: 1,
    });
    return 1;
  }

  report(): { granted: LedgerEntry[]; denied: LedgerDenial[]; deniedTotal: number } {
    return {
      granted: [...this.#granted.values()].map(({ entry, count }) => ({ ...entry, count })),
      denied: [...this.#denied.values()].map(({ entry, count }) => ({ ...entry, count })),
      deniedTotal: this.#deniedTotal,
    };
  }
}

function thingOf(access: Access): Omit<LedgerEntry, 'user' | 'count'> {
  if (access.kind === 'path') return { verb: access.verb, path: access.path };
  const { verb, group, resource, subresource } = access;
  return { verb, group, resource: subresource === '' ? resource : `${resource}/${subresource}` };
}
