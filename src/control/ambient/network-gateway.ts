// Gateways to other networks: as workloads, so that a proxy knows whom to expect behind the address, and as the
// `network_gateway` of the workloads of their network (control-plane.md §2.8, §7.2). Pure.

import type { Gateway } from '#k8s/mesh-objects.ts';
import type { GatewayRef, Workload, WorkloadUid } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import { ANNOTATION, annotationsOf, LABEL, labelsOf } from './labels.ts';
import type { MeshFacts } from './mesh-facts.ts';
import { plainWorkload } from './workload.ts';

export interface NetworkGateway {
  readonly network: string;
  /** An IP address or a host name. */
  readonly address: string;
  readonly port: number;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** The class by which a cluster names the gateways of other networks. */
const REMOTE_CLASS = 'istio-remote';

export function networkGatewaysOf(gateway: Gateway): NetworkGateway[] {
  const network = labelsOf(gateway)[LABEL.network] ?? '';
  const listener = gateway.spec?.listeners?.find(({ protocol }) => protocol === 'HBONE');
  if (network === '' || gateway.spec?.gatewayClassName !== REMOTE_CLASS || listener === undefined) return [];
  const serviceAccount =
    annotationsOf(gateway)[ANNOTATION.gatewayServiceAccount] || `${gateway.metadata.name}-${REMOTE_CLASS}`;
  return (gateway.status?.addresses ?? [])
    .filter(({ type = 'IPAddress' }) => type === 'IPAddress' || type === 'Hostname')
    .map(({ value }) => ({
      network,
      address: value,
      port: listener.port,
      namespace: gateway.metadata.namespace ?? '',
      serviceAccount,
    }));
}

export function workloadOfGateway(gateway: NetworkGateway, mesh: MeshFacts): Workload {
  const uid = `NetworkGateway/${gateway.network}/${gateway.address}/${gateway.port}` as WorkloadUid;
  const ip = parseIp(gateway.address);
  return {
    ...plainWorkload(mesh),
    uid,
    name: uid,
    namespace: gateway.namespace,
    serviceAccount: gateway.serviceAccount,
    network: gateway.network,
    ips: ip === undefined ? [] : [ip],
    hostname: ip === undefined ? gateway.address : '',
    // It stands in another cluster, whose name is not known here.
    clusterId: '',
  };
}

export function referenceTo({ network, address, port, namespace }: NetworkGateway): GatewayRef {
  const ip = parseIp(address);
  return {
    destination:
      ip === undefined
        ? { kind: 'hostname', namespace, hostname: address }
        : { kind: 'address', address: { network, ip } },
    hbonePort: port,
  };
}
