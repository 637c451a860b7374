// One delta response into the store: by the client, and by whoever keeps a copy of the store from the same bytes.

import { reasonOf } from '#base/errors.ts';
import type { Address } from '#model/address.ts';
import type { Policy } from '#model/policy.ts';
import type { Store } from '#model/store.ts';
import { AUTHORIZATION_TYPE_URL, decodeAuthorization } from '#proto/authorization.ts';
import type { DeltaResource, DeltaResponse } from '#proto/discovery.ts';
import type { Sharing } from '#proto/sharing.ts';
import { ADDRESS_TYPE_URL, decodeAddress } from '#proto/workload.ts';
import type { Logger } from '#telemetry/log.ts';

export interface ApplyDeps {
  readonly store: Store;
  readonly sharing: Sharing;
  readonly log: Logger;
}

export interface Applied {
  readonly accepted: readonly DeltaResource[];
  /** Resource name → why it could not be read: the NACK. */
  readonly problems: ReadonlyMap<string, string>;
}

/** In the order in which they are subscribed. */
export const APPLIED_TYPES = [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] as const;

/** Applies all that can be read of one of the types above. `encoded`: the response as it came. */
export function applyDelta(
  { store, sharing, log }: ApplyDeps,
  response: DeltaResponse,
  encoded?: Uint8Array,
): Applied {
  const problems = new Map<string, string>();
  const accepted: DeltaResource[] = [];
  const read = <T>(decode: (resource: DeltaResource) => T): T[] => {
    const values: T[] = [];
    for (const resource of response.resources) {
      try {
        values.push(decode(resource));
        accepted.push(resource);
      } catch (error) {
        problems.set(resource.name, reasonOf(error));
      }
    }
    return values;
  };
  if (response.typeUrl === ADDRESS_TYPE_URL) {
    const addresses = read<Address>((resource) => decodeAddress(resource.value, sharing));
    store.apply({ addresses, removedAddresses: response.removed }, encoded);
  } else {
    const policies = read<Policy>((resource) =>
      decodeAuthorization(resource.value, (what) =>
        log.warn(`policy ${resource.name}: ${what} cannot be read; nobody is let in by it`),
      ),
    );
    store.apply({ policies, removedPolicies: response.removed }, encoded);
  }
  return { accepted, problems };
}
