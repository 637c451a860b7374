// How many queries may wait for another server at once: each holds a socket. Every pod has its own limit, the process has
// one, and a pod that waits for little is never refused because others wait for much.

export interface PendingBudget {
  /** Takes a place for a pod that holds `own` already; false when there is none for it. */
  take(own: number): boolean;
  give(): void;
  readonly taken: number;
}

const MOST_PER_POD = 256;
const MOST = 1024;
/** Always granted, whatever the others hold: the real bound is MOST plus this for every pod. */
const RESERVED_PER_POD = 16;

export function createPendingBudget(
  limits = { perPod: MOST_PER_POD, total: MOST, reserved: RESERVED_PER_POD },
): PendingBudget {
  let taken = 0;
  return {
    take: (own) => {
      if (own >= limits.perPod || (taken >= limits.total && own >= limits.reserved)) return false;
      taken++;
      return true;
    },
    give: () => {
      taken--;
    },
    get taken() {
      return taken;
    },
  };
}
