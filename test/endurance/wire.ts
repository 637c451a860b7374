// What travels on a node's cable: every TCP packet, read from tcpdump as it comes.

import { type ChildProcess, spawn } from 'node:child_process';
import { until } from '../e2e/harness.ts';

/** pcap: one header for the file, one for each packet (libpcap's savefile format); Ethernet frames within. */
const FILE_HEADER_BYTES = 24;
const PACKET_HEADER_BYTES = 16;
const ETHERNET_BYTES = 14;
const IPV6 = 0x86dd;
const IPV6_BYTES = 40;

export interface Wire {
  readonly packets: number;
  /** What arrived before the call has been looked at. @throws Error when the kernel dropped packets unseen. */
  stop(): Promise<void>;
}

/** `enter`: the command that runs another where the interface is. */
export async function watchWire(
  enter: readonly string[],
  interfaceName: string,
  onPacket: (frame: Buffer) => void,
): Promise<Wire> {
  const [program, ...args] = [
    ...enter,
    'tcpdump',
    ...['--immediate-mode', '-U', '-n', '-s', '0', '-B', '16384', '-i', interfaceName, '-w', '-', 'tcp'],
  ] as [string, ...string[]];
  const tcpdump = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let words = '';
  tcpdump.stderr.setEncoding('utf8').on('data', (text: string) => {
    words += text;
  });
  let packets = 0;
  let held: Buffer = Buffer.alloc(0);
  let isBegun = false;
  tcpdump.stdout.on('data', (chunk: Buffer) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    if (!isBegun) {
      if (held.length < FILE_HEADER_BYTES) return;
      held = held.subarray(FILE_HEADER_BYTES);
      isBegun = true;
    }
    while (held.length >= PACKET_HEADER_BYTES) {
      const end = PACKET_HEADER_BYTES + held.readUInt32LE(8);
      if (held.length < end) break;
      packets += 1;
      onPacket(held.subarray(PACKET_HEADER_BYTES, end));
      held = held.subarray(end);
    }
  });
  await until(() => /listening on/.test(words) || hasEnded(tcpdump), `tcpdump to listen (${words})`);
  if (hasEnded(tcpdump)) throw new Error(`tcpdump on ${interfaceName}: ${words}`);
  return {
    get packets() {
      return packets;
    },
    async stop() {
      const ended = new Promise((resolve) => tcpdump.once('close', resolve));
      tcpdump.kill('SIGINT');
      await ended;
      const dropped = Number(/(\d+) packets? dropped by kernel/.exec(words)?.[1]);
      if (dropped !== 0)
        throw new Error(`the capture is not whole: ${dropped} packets dropped by the kernel; ${words}`);
    },
  };
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean =>
  exitCode !== null || signalCode !== null;

/** From where to where, and the flags: one line about a TCP packet. */
export function describePacket(frame: Buffer): string {
  const isV6 = frame.readUInt16BE(ETHERNET_BYTES - 2) === IPV6;
  const ip = frame.subarray(ETHERNET_BYTES);
  const [from, to] = isV6
    ? [v6(ip.subarray(8, 24)), v6(ip.subarray(24, 40))]
    : [ip.subarray(12, 16).join('.'), ip.subarray(16, 20).join('.')];
  const tcp = ip.subarray(isV6 ? IPV6_BYTES : (ip[0]! & 0xf) * 4);
  const flags = ['FIN', 'SYN', 'RST', 'PSH', 'ACK'].filter((_, bit) => ((tcp[13]! >> bit) & 1) === 1);
  return `${from} port ${tcp.readUInt16BE(0)} → ${to} port ${tcp.readUInt16BE(2)} ${flags.join(' ')}, ${frame.length} bytes`;
}

const v6 = (bytes: Buffer): string =>
  Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(2 * at).toString(16)).join(':');
