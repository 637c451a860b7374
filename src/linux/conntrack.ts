// The kernel's memory of connections (conntrack) of a network namespace, over netlink: list the UDP flows, forget some.
// A UDP flow keeps the endpoint it was first given for as long as packets come, also when that endpoint is gone.

import { readSync, writeSync } from 'node:fs';
import { MeshError } from '#base/errors.ts';
import { ipFromBytes } from '#net/ip.ts';
import { check, libc, SOCK_CLOEXEC } from './libc.ts';
import { closeFd, inNetns } from './netns.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_NETFILTER = 12;
/** include/uapi/linux/netfilter/nfnetlink.h: subsystem in the high byte. */
const CT_GET = (1 << 8) | 1;
const CT_DELETE = (1 << 8) | 2;
const NLM_REQUEST = 1;
const NLM_ACK = 4;
const NLM_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const HEADER_BYTES = 20;
const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const UDP = 17;
/** More than the kernel puts into one message of a dump. */
const READ_BYTES = 64 * 1024;
const ENOENT = 2;

export interface UdpFlow {
  /** Where the client sends to: a service's address, when the flow goes through one. */
  readonly to: { readonly ip: string; readonly port: number };
  /** Who answers: the endpoint. */
  readonly answeredBy: { readonly ip: string; readonly port: number };
}

/** Forgets the UDP flows of either family that `isStale` picks; returns how many. @throws MeshError SYSCALL_FAILED. */
export function forgetConnections(netnsFd: number, isStale: (flow: UdpFlow) => boolean): number {
  const context = 'reading the connections of a node';
  const fd = inNetns(netnsFd, () =>
    check(libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), 'socket', context),
  );
  try {
    writeSync(fd, message(CT_GET, NLM_REQUEST | NLM_DUMP, AF_UNSPEC));
    const stale = readAll(fd, context).flatMap((payload) => {
      const attributes = attributesOf(payload);
      const original = attributes.get(CTA_TUPLE_ORIG);
      const flow = flowOf(original, attributes.get(CTA_TUPLE_REPLY));
      return original !== undefined && flow !== undefined && isStale(flow)
        ? [{ original, family: flow.to.ip.includes(':') ? AF_INET6 : AF_INET }]
        : [];
    });
    for (const { original, family } of stale) {
      const tuple = attribute(CTA_TUPLE_ORIG | NESTED, original);
      writeSync(fd, message(CT_DELETE, NLM_REQUEST | NLM_ACK, family, tuple));
      readAll(fd, 'forgetting a connection of a node');
    }
    return stale.length;
  } catch (error) {
    throw MeshError.from(error, 'SYSCALL_FAILED', context);
  } finally {
    closeFd(fd);
  }
}

const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

function message(type: number, flags: number, family: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(HEADER_BYTES);
  head.writeUInt32LE(HEADER_BYTES + body.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(flags, 6);
  head.writeUInt8(family, 16); // struct nfgenmsg
  return Buffer.concat([head, body]);
}

function attribute(type: number, value: Buffer): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt16LE(4 + value.length, 0);
  head.writeUInt16LE(type, 2);
  return Buffer.concat([head, value, Buffer.alloc(-value.length & 3)]);
}

/** The payloads (after struct nfgenmsg) up to the end of the answer. The socket blocks, but the kernel never makes it wait. */
function readAll(fd: number, context: string): Buffer[] {
  const payloads: Buffer[] = [];
  for (;;) {
    const buffer = Buffer.alloc(READ_BYTES);
    const length = readSync(fd, buffer, 0, READ_BYTES, null);
    for (let at = 0; at + 16 <= length; ) {
      const size = buffer.readUInt32LE(at);
      const type = buffer.readUInt16LE(at + 4);
      if (type === NLMSG_DONE) return payloads;
      if (type === NLMSG_ERROR) {
        const errno = -buffer.readInt32LE(at + 16);
        // 0 acknowledges; a flow may end by itself before it is forgotten.
        if (errno === 0 || errno === ENOENT) return payloads;
        throw new MeshError('SYSCALL_FAILED', `${context}: the kernel answers with errno ${errno}`);
      }
      payloads.push(buffer.subarray(at + HEADER_BYTES, at + size));
      at += (size + 3) & ~3;
    }
  }
}

function attributesOf(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const size = bytes.readUInt16LE(at);
    if (size < 4) break;
    found.set(bytes.readUInt16LE(at + 2) & TYPE_MASK, bytes.subarray(at + 4, at + size));
    at += (size + 3) & ~3;
  }
  return found;
}

/** Undefined unless both directions are UDP. */
function flowOf(original: Buffer | undefined, reply: Buffer | undefined): UdpFlow | undefined {
  const to = endOf(original, [CTA_IP_V4_DST, CTA_IP_V6_DST], CTA_PROTO_DST_PORT);
  const answeredBy = endOf(reply, [CTA_IP_V4_SRC, CTA_IP_V6_SRC], CTA_PROTO_SRC_PORT);
  return to === undefined || answeredBy === undefined ? undefined : { to, answeredBy };
}

function endOf(
  tuple: Buffer | undefined,
  [v4, v6]: readonly [number, number],
  portType: number,
): UdpFlow['to'] | undefined {
  if (tuple === undefined) return undefined;
  const parts = attributesOf(tuple);
  const addresses = attributesOf(parts.get(CTA_TUPLE_IP) ?? Buffer.alloc(0));
  const ip = addresses.get(v4) ?? addresses.get(v6);
  const protocol = attributesOf(parts.get(CTA_TUPLE_PROTO) ?? Buffer.alloc(0));
  const port = protocol.get(portType);
  if (protocol.get(CTA_PROTO_NUM)?.[0] !== UDP || ip === undefined || port === undefined) return undefined;
  return { ip: ipFromBytes(ip), port: port.readUInt16BE(0) };
}
