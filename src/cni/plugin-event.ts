// What the CNI plugin tells the agent of a new pod (cni.md A.6.3), and what it is told back. Shared by both ends.

import { MeshError } from '#base/errors.ts';
import { type IpAddress, parseIp } from '#net/ip.ts';

export interface PluginEvent {
  /** Path as the runtime gave it. */
  readonly netns: string;
  readonly podName: string;
  readonly podNamespace: string;
  /** Culvert's own addition: tells a pod from its predecessor of the same name. */
  readonly podUid: string | undefined;
  readonly ips: readonly IpAddress[];
}

export interface PluginAnswer {
  readonly enrolled: boolean;
  readonly reason: string;
}

interface WireEvent {
  readonly Netns?: unknown;
  readonly PodName?: unknown;
  readonly PodNamespace?: unknown;
  readonly PodUID?: unknown;
  readonly IPs?: unknown;
}

/** @throws MeshError `CNI_REFUSED` when it is not the agreed form. */
export function parsePluginEvent(text: string): PluginEvent {
  let wire: WireEvent | null;
  try {
    wire = JSON.parse(text) as WireEvent | null;
  } catch (error) {
    throw new MeshError('CNI_REFUSED', 'the plugin event is no JSON', { cause: error });
  }
  if (typeof wire !== 'object' || wire === null)
    throw new MeshError('CNI_REFUSED', 'the plugin event is no JSON object');
  const required = (field: 'Netns' | 'PodName' | 'PodNamespace'): string => {
    const value = wire[field];
    if (typeof value !== 'string' || value === '')
      throw new MeshError('CNI_REFUSED', `the plugin event has no ${field}`);
    return value;
  };
  return {
    netns: required('Netns'),
    podName: required('PodName'),
    podNamespace: required('PodNamespace'),
    podUid: typeof wire.PodUID === 'string' && wire.PodUID !== '' ? wire.PodUID : undefined,
    ips: Array.isArray(wire.IPs) ? wire.IPs.map(addressOf).filter((ip) => ip !== undefined) : [],
  };
}

function addressOf(entry: unknown): IpAddress | undefined {
  const ip = (entry as { readonly Address?: { readonly IP?: unknown } } | null)?.Address?.IP;
  return typeof ip === 'string' ? parseIp(ip) : undefined;
}

/** One address of a CNI result: `{address: "10.244.1.5/32", interface: 1, gateway: "…"}`. */
export interface CniResultIp {
  readonly address?: unknown;
  readonly interface?: unknown;
  readonly gateway?: unknown;
}

/** The field's form: mask as base64 bytes, interface as index or null. */
export function formatPluginEvent(
  event: Omit<PluginEvent, 'ips'>,
  resultIps: readonly CniResultIp[],
): string {
  return JSON.stringify({
    Netns: event.netns,
    PodName: event.podName,
    PodNamespace: event.podNamespace,
    ...(event.podUid === undefined ? {} : { PodUID: event.podUid }),
    IPs: resultIps.flatMap(({ address, interface: index, gateway }) => {
      const [ip = '', length = ''] = typeof address === 'string' ? address.split('/') : [];
      const parsed = parseIp(ip);
      if (parsed === undefined) return [];
      const widthBytes = parsed.includes(':') ? 16 : 4;
      return [
        {
          Interface: typeof index === 'number' ? index : null,
          Address: { IP: parsed, Mask: maskOf(Number(length || widthBytes * 8), widthBytes) },
          Gateway: typeof gateway === 'string' ? gateway : '',
        },
      ];
    }),
  });
}

function maskOf(prefixLength: number, widthBytes: number): string {
  const mask = Uint8Array.from({ length: widthBytes }, (_, index) => {
    const bits = Math.max(0, Math.min(8, prefixLength - index * 8));
    return (0xff << (8 - bits)) & 0xff;
  });
  return Buffer.from(mask).toString('base64');
}
