// What makes a pod's namespace redirect, whichever tool writes it; every call is idempotent.

import type { PodRuleOptions } from './nft.ts';

/**
 * `none`: nothing of ours. `steering`: everything is there as planned. `other`: something is missing or left over (an
 * enrolment or its removal was interrupted, a hand has been at work, another version wrote it).
 */
export type PodRuleState = 'none' | 'steering' | 'other';

export interface PodRules {
  /** In a namespace with nothing of ours: the kernel tracks connections from now on, and redirects none yet. */
  track(netnsFd: number, options: PodRuleOptions): Promise<void>;
  /** After `track`: new connections go to ztunnel. */
  steer(netnsFd: number, options: PodRuleOptions): Promise<void>;
  /** Both, whatever stands there. */
  apply(netnsFd: number, options: PodRuleOptions): Promise<void>;
  /** New connections go their own way again; redirected ones go on. */
  release(netnsFd: number, options: Pick<PodRuleOptions, 'ipv6'>): Promise<void>;
  /** Leaves the namespace as it was found. */
  remove(netnsFd: number, options: Pick<PodRuleOptions, 'ipv6'>): Promise<void>;
  /** What the namespace itself says, whatever the annotation claims. */
  state(netnsFd: number, options: PodRuleOptions): Promise<PodRuleState>;
}
