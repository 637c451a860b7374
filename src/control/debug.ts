// Debug pages: what the control plane believes, and who has heard of it (control-plane.md §10.1, the first few).

import { decodeAuthorization } from '#proto/authorization.ts';
import { decodeAddress } from '#proto/workload.ts';
import type { XdsClientInfo } from '#xds/client-stream.ts';
import type { AmbientIndex } from './ambient/ambient-index.ts';
import type { ResourceSet } from './ambient/resource-set.ts';
import type { ControlPlaneOptions } from './config.ts';
import type { Informers } from './informers.ts';
import type { PolicyIndex } from './policies/policy-index.ts';

export interface DebugDeps {
  readonly addresses: ResourceSet;
  readonly policies: ResourceSet;
  readonly index: AmbientIndex;
  readonly policyIndex: PolicyIndex;
  readonly informers: Informers;
  readonly clients: () => readonly XdsClientInfo[];
  readonly options: ControlPlaneOptions;
}

export function debugPages(deps: DebugDeps): Readonly<Record<string, () => unknown>> {
  return {
    /** Every client and, per type, what was sent and what it acknowledged or rejected. */
    syncz: () => deps.clients(),
    /** The mesh as node proxies get it. */
    ambientz: () => {
      const addresses = [...deps.addresses.list()].map(({ bytes }) => decodeAddress(bytes));
      return {
        workloads: addresses.flatMap((it) => (it.kind === 'workload' ? [it.workload] : [])),
        services: addresses.flatMap((it) => (it.kind === 'service' ? [it.service] : [])),
        policies: [...deps.policies.list()].map(({ bytes }) => decodeAuthorization(bytes)),
      };
    },
    /** How each AuthorizationPolicy was understood: what is enforced, what is not, and why. */
    authorizationz: () =>
      [...deps.policyIndex.conversions()].map(([name, { kind, explain }]) => ({ name, kind, explain })),
    /** Services and ServiceEntries that name a waypoint: through which they go, or why not. */
    waypointz: () =>
      [...deps.index.bindings()].map(([kind, object, { waypoint, error }]) => ({
        kind,
        object,
        waypoint: waypoint === undefined ? null : `${waypoint.namespace}/${waypoint.name}`,
        ...(error === undefined ? {} : { problem: error.reason, with: error.waypoint }),
      })),
    /** The policies as they were applied, and the settings. */
    configz: () => ({
      options: { ...deps.options, trustedNodeAccounts: [...deps.options.trustedNodeAccounts] },
      authorizationPolicies: [...deps.informers.authorizationPolicies.all()],
      peerAuthentications: [...deps.informers.peerAuthentications.all()],
    }),
  };
}
