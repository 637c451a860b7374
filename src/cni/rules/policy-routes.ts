// The way back to ztunnel inside a pod: marked packets are delivered locally (cni.md A.7.2).

import { MeshError } from '#base/errors.ts';
import { addLocalDelivery, type LocalDelivery, removeLocalDelivery } from '#linux/policy-routes.ts';
import { MARK_MASK, PROXIED_MARK, ROUTE_TABLE, RULE_PRIORITY } from '../constants.ts';

const RETURN_PATH: LocalDelivery = {
  mark: PROXIED_MARK,
  mask: MARK_MASK,
  table: ROUTE_TABLE,
  priority: RULE_PRIORITY,
};

/** Idempotent, by family. @throws MeshError `RULES_FAILED` */
export function setPolicyRoutes(netnsFd: number, action: 'add' | 'del', ipv6: boolean): void {
  try {
    const set = action === 'add' ? addLocalDelivery : removeLocalDelivery;
    set(netnsFd, RETURN_PATH, ipv6);
  } catch (error) {
    throw MeshError.from(
      error,
      'RULES_FAILED',
      `${action === 'add' ? 'adding' : 'removing'} the return route of a pod`,
    );
  }
}
