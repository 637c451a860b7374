// Which ports of its services a workload serves (control-plane.md §2.9). Pure. A service stays in the map even when
// none of its ports resolves for the workload.

import type { Pod } from '#k8s/objects.ts';
import type { PortMap, ServiceKey } from '#model/workload.ts';
import { type RecordPort, recordKey, type ServiceRecord } from './service-record.ts';

export function servicesOfPod(pod: Pod, records: Iterable<ServiceRecord>): ReadonlyMap<ServiceKey, PortMap> {
  return mapped(records, (port, record) => {
    // The name of a container port; a pod that has none of that name does not serve the port.
    if (port.targetName !== undefined) return containerPort(pod, port.targetName);
    // ServiceEntries name no container port: a container port of the service port's name goes first.
    if (record.source.kind === 'ServiceEntry' && port.name !== '')
      return containerPort(pod, port.name) ?? port.target;
    return port.target;
  });
}

/** For endpoints outside Kubernetes, which say their ports by name. */
export function servicesOfEndpoint(
  ports: Readonly<Record<string, number>>,
  records: Iterable<ServiceRecord>,
): ReadonlyMap<ServiceKey, PortMap> {
  const named = (name: string): number | undefined => (Object.hasOwn(ports, name) ? ports[name] : undefined);
  return mapped(records, (port) =>
    port.targetName !== undefined ? named(port.targetName) : (named(port.name) ?? port.target),
  );
}

function mapped(
  records: Iterable<ServiceRecord>,
  targetOf: (port: RecordPort, record: ServiceRecord) => number | undefined,
): ReadonlyMap<ServiceKey, PortMap> {
  const entries: [ServiceKey, PortMap][] = [];
  for (const record of records) {
    const ports = new Map<number, number>();
    for (const port of record.ports) {
      const target = targetOf(port, record);
      if (target !== undefined) ports.set(port.port, target);
    }
    entries.push([recordKey(record), ports]);
  }
  // One order for one content: the version is a hash of the encoded bytes.
  return new Map(entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

function containerPort(pod: Pod, name: string): number | undefined {
  const sidecars = (pod.spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always');
  for (const container of [...pod.spec.containers, ...sidecars])
    for (const port of container.ports ?? [])
      if (port.name === name && (port.protocol ?? 'TCP') === 'TCP') return port.containerPort;
  return undefined;
}
