// What the driver and the process of the clients say to one another. Times are milliseconds since the epoch, with fractions:
// both processes run on one machine.

export interface Connect {
  readonly kind: 'connect';
  readonly host: string;
  readonly port: number;
  readonly serverName: string;
  readonly rootPem: string;
  /** One for each client. */
  readonly tokens: readonly string[];
}

/** From now on, look for these resources. */
export interface Watch {
  readonly kind: 'watch';
  readonly id: number;
  readonly sets: readonly string[];
  readonly removals: readonly string[];
}

export type ToClients = Connect | Watch | { readonly kind: 'totals' } | { readonly kind: 'reconnects' };

/** A watched resource has been acknowledged by every client, the last time now. */
export interface Seen {
  readonly kind: 'seen';
  readonly id: number;
  readonly name: string;
  readonly atMs: number;
}

/** All clients have acknowledged a response of every type on their present streams. */
export interface Settled {
  readonly kind: 'settled';
  readonly atMs: number;
}

export interface Totals {
  readonly kind: 'totals';
  readonly bytes: number;
  readonly responses: number;
  readonly resources: number;
  /** The fewest workloads, services and policies that any client holds. */
  readonly held: number;
}

export type FromClients = Seen | Settled | Totals | { readonly kind: 'watching' };

export const nowMs = (): number => performance.timeOrigin + performance.now();
