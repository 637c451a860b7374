// Reads a pcap stream as tcpdump writes it (`-w -`), and TCP payload out of its Ethernet frames.
// Formats: pcap savefile (draft-ietf-opsawg-pcap), link type 1; RFC 791, RFC 8200, RFC 9293.

import { MeshError } from '#base/errors.ts';

export interface TcpSegment {
  readonly timeMs: number;
  /** `address:port`. */
  readonly source: string;
  readonly destination: string;
  readonly payload: Buffer;
}

interface Packet {
  readonly timeMs: number;
  readonly frame: Buffer;
}

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const MAX_PACKET_BYTES = 256 * 1024;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const LINK_ETHERNET = 1;

/** Feed chunks, get packets. @throws MeshError CONFIG_INVALID when it is no such stream */
export class PcapDecoder {
  #rest: Buffer = Buffer.alloc(0);
  #littleEndian: boolean | undefined;

  push(chunk: Buffer): Packet[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    if (this.#littleEndian === undefined) {
      if (this.#rest.length < FILE_HEADER_BYTES) return [];
      this.#readFileHeader();
    }
    const packets: Packet[] = [];
    for (;;) {
      if (this.#rest.length < RECORD_HEADER_BYTES) return packets;
      const lengthBytes = this.#uint32(8);
      if (lengthBytes > MAX_PACKET_BYTES) throw broken(`a packet of ${lengthBytes} bytes`);
      if (this.#rest.length < RECORD_HEADER_BYTES + lengthBytes) return packets;
      packets.push({
        timeMs: this.#uint32(0) * 1000 + Math.floor(this.#uint32(4) / 1000),
        frame: this.#rest.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + lengthBytes),
      });
      this.#rest = this.#rest.subarray(RECORD_HEADER_BYTES + lengthBytes);
    }
  }

  #readFileHeader(): void {
    this.#littleEndian = this.#rest.readUInt32LE(0) === MAGIC_MICROSECONDS;
    if (this.#uint32(0) !== MAGIC_MICROSECONDS) throw broken('no pcap header');
    const link = this.#uint32(20) & 0xffff;
    if (link !== LINK_ETHERNET) throw broken(`link type ${link}, expected Ethernet`);
    this.#rest = this.#rest.subarray(FILE_HEADER_BYTES);
  }

  #uint32(at: number): number {
    return this.#littleEndian === true ? this.#rest.readUInt32LE(at) : this.#rest.readUInt32BE(at);
  }
}

const broken = (what: string): MeshError =>
  new MeshError('CONFIG_INVALID', `the capture cannot be read: ${what}`);

const ETHERNET_BYTES = 14;
const IPV6_BYTES = 40;
const PROTOCOL_TCP = 6;

/** Undefined for anything but a TCP segment that carries bytes. */
export function tcpSegment({ timeMs, frame }: Packet): TcpSegment | undefined {
  if (frame.length < ETHERNET_BYTES + 20) return undefined;
  const etherType = frame.readUInt16BE(12);
  const ip = frame.subarray(ETHERNET_BYTES);
  let tcp: Buffer;
  let source: string;
  let destination: string;
  if (etherType === 0x0800) {
    const headerBytes = ((ip[0] ?? 0) & 0x0f) * 4;
    if (ip[9] !== PROTOCOL_TCP || headerBytes < 20) return undefined;
    // Fragments but the first hold no TCP header.
    if ((ip.readUInt16BE(6) & 0x1fff) !== 0) return undefined;
    // Short frames are padded: the packet's own length counts. 0 is left to offloading hardware.
    const totalBytes = ip.readUInt16BE(2) || ip.length;
    tcp = ip.subarray(headerBytes, totalBytes);
    source = [...ip.subarray(12, 16)].join('.');
    destination = [...ip.subarray(16, 20)].join('.');
  } else if (etherType === 0x86dd) {
    // Extension headers are not followed: nobody sends them on these links.
    if (ip.length < IPV6_BYTES || ip[6] !== PROTOCOL_TCP) return undefined;
    tcp = ip.subarray(IPV6_BYTES, IPV6_BYTES + ip.readUInt16BE(4));
    source = `[${ipv6(ip.subarray(8, 24))}]`;
    destination = `[${ipv6(ip.subarray(24, 40))}]`;
  } else {
    return undefined;
  }
  if (tcp.length < 20) return undefined;
  const payload = tcp.subarray(((tcp[12] ?? 0) >> 4) * 4);
  if (payload.length === 0) return undefined;
  return {
    timeMs,
    source: `${source}:${tcp.readUInt16BE(0)}`,
    destination: `${destination}:${tcp.readUInt16BE(2)}`,
    payload,
  };
}

function ipv6(bytes: Buffer): string {
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(bytes.readUInt16BE(at).toString(16));
  return groups.join(':');
}
