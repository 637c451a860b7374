// Two captures side by side: inside the pod, where the application speaks plain TCP, and on its node's uplink, where the
// rest of the world could listen.

import { MeshError } from '#base/errors.ts';
import type { NodeProcess } from '../command.ts';
import { PcapDecoder, type TcpSegment, tcpSegment } from './pcap.ts';
import type { Place } from './render.ts';

export interface CaptureTarget {
  readonly podUid: string;
  /** One of each family. */
  readonly podIps: readonly string[];
  /** In the mesh the application's bytes pass through the pod's loopback, to and from the proxy. */
  readonly enrolled: boolean;
}

const UPLINK = 'eth0';

/** The commands whose output is read, by place. */
export function captureCommands({
  podUid,
  podIps,
  enrolled,
}: CaptureTarget): Readonly<Record<Place, readonly string[]>> {
  const tcpdump = (link: string, ...filter: readonly string[]): string[] => [
    'tcpdump',
    // Every packet at once, none resolved; its user stays: without root there is only one.
    ...['-i', link, '-n', '-U', '--immediate-mode', '-Z', 'root', '-w', '-'],
    ...filter,
  ];
  return {
    pod: ['nsenter', `--net=/var/run/netns/cni-${podUid}`, ...tcpdump(enrolled ? 'lo' : 'eth0', 'tcp')],
    wire: tcpdump(UPLINK, `tcp and (${podIps.map((ip) => `host ${ip}`).join(' or ')})`),
  };
}

/** Hands out segments as they come, until the process ends. @throws MeshError TOOL_MISSING, CONFIG_INVALID */
export async function readSegments(
  { output, ended }: NodeProcess,
  onSegment: (segment: TcpSegment) => void,
): Promise<void> {
  const decoder = new PcapDecoder();
  for await (const chunk of output)
    for (const packet of decoder.push(chunk)) {
      const segment = tcpSegment(packet);
      if (segment !== undefined) onSegment(segment);
    }
  const { code, complaints } = await ended;
  if (code === 127 || /failed to execute tcpdump/.test(complaints))
    throw new MeshError('TOOL_MISSING', 'tcpdump is not installed (Debian: apt-get install tcpdump)');
  if (code !== 0 && code !== null)
    throw new MeshError('CONFIG_INVALID', `tcpdump failed: ${complaints.trim().split('\n').at(-1) ?? ''}`);
}
