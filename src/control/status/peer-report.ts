// What is said in the status of PeerAuthentications. Istio's control plane says nothing there; a mode that does not
// hold where it is aimed is told here as for AuthorizationPolicies (docs/DIFFERENCES.md). Pure, given the view.

import { objectKey } from '#k8s/informer.ts';
import { hasSelector, oldest } from '#k8s/mutual-tls.ts';
import type { PeerAuthentication } from '#k8s/objects.ts';
import type { Report } from './condition.ts';
import { ZTUNNEL_ACCEPTED, ZTUNNEL_MANAGER } from './policy-report.ts';
import type { StatusView } from './view.ts';

interface Verdict {
  readonly status: boolean;
  readonly reason: 'Accepted' | 'Invalid' | 'Overridden' | 'UnsupportedValue';
  readonly message: string;
}

export function reportsOfPeerAuthentication(object: PeerAuthentication, view: StatusView): readonly Report[] {
  const { generation } = object.metadata;
  return [
    {
      manager: ZTUNNEL_MANAGER,
      types: [ZTUNNEL_ACCEPTED],
      statements: view.deps.isOurs(object)
        ? [{ type: ZTUNNEL_ACCEPTED, generation, ...verdict(object, view) }]
        : [],
    },
  ];
}

function verdict(object: PeerAuthentication, view: StatusView): Verdict {
  const { namespace = '' } = object.metadata;
  const { selector, mtls, portLevelMtls = {} } = object.spec ?? {};
  const selects = hasSelector(object);
  if (selects && namespace === view.rootNamespace)
    return refused(
      'Invalid',
      `selectors mean nothing in the root namespace ${namespace}; nothing is enforced`,
    );
  if (!selects) {
    const winner = oldest(
      [...view.deps.informers.peerAuthentications.all()].filter(
        (other) => other.metadata.namespace === namespace && !hasSelector(other) && view.deps.isOurs(other),
      ),
    );
    if (winner !== undefined && winner.metadata.name !== object.metadata.name)
      return refused('Overridden', `the older ${objectKey(winner)} says what holds here`);
    if (Object.keys(portLevelMtls).length > 0)
      return accepted('UnsupportedValue', 'enforced without portLevelMtls, which needs a selector');
  }
  const disables = [mtls, ...Object.values(portLevelMtls)].some((it) => it?.mode === 'DISABLE');
  const nobody =
    selects && selector !== undefined && !view.selectsAnybody(namespace, selector)
      ? '; its selector matches no workload at present'
      : '';
  return disables
    ? accepted(
        'UnsupportedValue',
        `DISABLE is enforced as PERMISSIVE: the mesh goes on encrypting, plain connections are taken${nobody}`,
      )
    : accepted('Accepted', `enforced by node proxies${nobody}`);
}

const accepted = (reason: Verdict['reason'], message: string): Verdict => ({ status: true, reason, message });
const refused = (reason: Verdict['reason'], message: string): Verdict => ({ status: false, reason, message });
