// Notices at once when somebody changes the rules in an enrolled pod: without them its connections leave it in the clear.
// The kernel tells of nftables (and of iptables over it); legacy iptables is left to the periodic comparison.

import { reasonOf } from '#base/errors.ts';
import { watchNft } from '#linux/nft-rules.ts';
import type { Logger } from '#telemetry/log.ts';
import type { NetnsHolder } from './pod-table.ts';

export interface RuleWatchDeps {
  /** Also told of what the agent itself writes. */
  readonly onChange: (uid: string) => void;
  readonly log: Logger;
}

export function createRuleWatch({ onChange, log }: RuleWatchDeps): NetnsHolder {
  const watches = new Map<string, { close(): void }>();
  return {
    hold(uid, netnsFd) {
      try {
        watches.set(
          uid,
          watchNft(netnsFd, () => onChange(uid)),
        );
      } catch (error) {
        // The periodic comparison notices as well, later.
        log.warn('the rules of a pod cannot be watched', { uid, error: reasonOf(error) });
      }
    },
    release(uid) {
      watches.get(uid)?.close();
      watches.delete(uid);
    },
  };
}
