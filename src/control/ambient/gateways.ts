// The stage above services and workloads: Gateways become waypoints, gateways to other networks, and policies that let
// only a waypoint in. Who looked at what changes here is marked by `touch`.

import { isDeepStrictEqual } from 'node:util';
import { policyKey } from '#model/policy.ts';
import { encodeAuthorization } from '#proto/authorization.ts';
import { allowanceOf, allowancesFor } from '../policies/waypoint-allowance.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { type NetworkGateway, networkGatewaysOf, referenceTo, workloadOfGateway } from './network-gateway.ts';
import type { Publisher } from './publisher.ts';
import type { ResourceSet } from './resource-set.ts';
import { type Waypoint, waypointOf } from './waypoint.ts';
import { TOKEN, type World } from './world.ts';

export interface GatewaysDeps {
  readonly world: World;
  readonly publisher: Publisher;
  /** Where policies are published that come of waypoints. */
  readonly policySet: ResourceSet;
  readonly mesh: () => MeshFacts;
  readonly touch: (token: string) => void;
}

/** In the place of an object's key: what is published of all of them together. */
export const NETWORK_GATEWAYS = 'network gateways';

export class Gateways {
  readonly #deps: GatewaysDeps;

  constructor(deps: GatewaysDeps) {
    this.#deps = deps;
  }

  /** The Gateway came, changed or went, or something that it looks at. */
  rebuild(key: string, unit: string): void {
    const { world, mesh, touch } = this.#deps;
    const { objects, waypoints } = world;
    const gateway = objects.gateway.get(key);
    const before = waypoints.get(key);
    const now = world.look(unit, (look) => {
      if (gateway === undefined) return undefined;
      const gatewayClass = look.gatewayClass(gateway.spec?.gatewayClassName ?? '');
      return waypointOf(gateway, gatewayClass, mesh().network, this.#accountsOf(key));
    });
    if (now === undefined) waypoints.delete(key);
    else waypoints.set(key, now);
    if (isDeepStrictEqual(before, now)) return;
    touch(TOKEN.waypoint(key));
    if (mesh().onlyByWaypoint) this.#publishAllowance(before, now);
  }

  /** All of them at once: they are few, and two Gateways may name the same one. */
  publishToOtherNetworks(): void {
    const { world, publisher, mesh, touch } = this.#deps;
    const { networkGateways } = world;
    const gateways = this.toOtherNetworks();
    const before = new Map(networkGateways);
    networkGateways.clear();
    // Proxies use the first one of a network.
    for (const gateway of gateways)
      if (!networkGateways.has(gateway.network)) networkGateways.set(gateway.network, referenceTo(gateway));
    for (const network of new Set([...before.keys(), ...networkGateways.keys()]))
      if (!isDeepStrictEqual(before.get(network), networkGateways.get(network)))
        touch(TOKEN.network(network));
    publisher.publish(
      NETWORK_GATEWAYS,
      gateways.map((gateway) => ({ kind: 'workload', workload: workloadOfGateway(gateway, mesh()) })),
    );
  }

  toOtherNetworks(): readonly NetworkGateway[] {
    const { gateway } = this.#deps.world.objects;
    return [...gateway.keys()].sort().flatMap((key) => networkGatewaysOf(gateway.get(key)!));
  }

  #accountsOf(gateway: string): readonly string[] {
    const { world, mesh } = this.#deps;
    if (!mesh().onlyByWaypoint) return [];
    const { objects, podsOfGateway } = world;
    const accounts = [...podsOfGateway.get(gateway)].map(
      (pod) => objects.pod.get(pod)?.spec.serviceAccountName,
    );
    return [...new Set(accounts.filter((name) => name !== undefined))].sort();
  }

  #publishAllowance(before: Waypoint | undefined, now: Waypoint | undefined): void {
    const { policySet, mesh } = this.#deps;
    const policy = now === undefined ? undefined : allowanceOf(now, mesh().trustDomain);
    if (policy !== undefined) policySet.set(policyKey(policy), encodeAuthorization(policy));
    else for (const key of before === undefined ? [] : allowancesFor([before])) policySet.delete(key);
  }
}
