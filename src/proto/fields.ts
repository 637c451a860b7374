// Fields that workload and service messages share: addresses, port lists, gateway references (ztunnel.md §3.6).

import { create } from '@bufbuild/protobuf';
import { MeshError } from '#base/errors.ts';
import type { GatewayRef, NetworkAddress, PortMap } from '#model/workload.ts';
import { type IpAddress, ipFromBytes, ipToBytes } from '#net/ip.ts';
import * as wire from './gen/workload_pb.js';

// Most workloads without ports share this.
const NO_PORTS: PortMap = new Map();

export function reject(reason: string): never {
  throw new MeshError('XDS_RESOURCE_REJECTED', reason);
}

export function optional<K extends string, T, M>(
  key: K,
  value: T | undefined,
  convert: (value: T) => M,
): { [P in K]?: M } {
  return value === undefined ? {} : ({ [key]: convert(value) } as { [P in K]?: M });
}

export function ipFrom(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16)
    reject(`an address has ${bytes.length} bytes; 4 or 16 are expected`);
  return ipFromBytes(bytes);
}

/** Ports are 16 bits wide wherever they are used; the wire's 32 are cut (ztunnel.md §3.6). */
export const port16 = (port: number): number => port & 0xffff;

export function portsFrom(ports: readonly wire.Port[]): PortMap {
  if (ports.length === 0) return NO_PORTS;
  return new Map(ports.map(({ servicePort, targetPort }) => [port16(servicePort), port16(targetPort)]));
}

export function portsTo(
  ports: PortMap,
  appProtocolOf: (servicePort: number) => wire.AppProtocol = () => wire.AppProtocol.UNKNOWN,
): wire.Port[] {
  return [...ports].map(([servicePort, targetPort]) =>
    create(wire.PortSchema, { servicePort, targetPort, appProtocol: appProtocolOf(servicePort) }),
  );
}

export function gatewayFrom(message: wire.GatewayAddress | undefined, what: string): GatewayRef | undefined {
  if (message === undefined) return undefined;
  const hbonePort = port16(message.hboneMtlsPort);
  const { destination } = message;
  switch (destination.case) {
    case 'address':
      return {
        destination: {
          kind: 'address',
          address: { network: destination.value.network, ip: ipFrom(destination.value.address) },
        },
        hbonePort,
      };
    case 'hostname':
      return {
        destination: {
          kind: 'hostname',
          namespace: destination.value.namespace,
          hostname: destination.value.hostname,
        },
        hbonePort,
      };
    default:
      return reject(`the ${what} has no destination`);
  }
}

export function gatewayTo(gateway: GatewayRef): wire.GatewayAddress {
  const { destination, hbonePort } = gateway;
  return create(wire.GatewayAddressSchema, {
    hboneMtlsPort: hbonePort,
    destination:
      destination.kind === 'address'
        ? { case: 'address', value: networkAddressTo(destination.address) }
        : {
            case: 'hostname',
            value: create(wire.NamespacedHostnameSchema, {
              namespace: destination.namespace,
              hostname: destination.hostname,
            }),
          },
  });
}

export function networkAddressTo({ network, ip }: NetworkAddress): wire.NetworkAddress {
  return create(wire.NetworkAddressSchema, { network, address: ipToBytes(ip) });
}
