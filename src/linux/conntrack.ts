// The kernel's memory of connections (conntrack) of a network namespace, over netlink: list flows, forget some, teach
// it connections that are older than itself.

import type { IpAddress } from '#net/ip.ts';
import { familyOf, ipFromBytes, ipToBytes } from '#net/ip.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import {
  attribute,
  attributesOf,
  EEXIST,
  ENOENT,
  NETLINK_NETFILTER,
  type Netlink,
  NLM_ACK,
  NLM_CREATE,
  NLM_DUMP,
  NLM_EXCLUSIVE,
  nested,
  withNetlink,
} from './netlink.ts';

/** include/uapi/linux/netfilter/nfnetlink.h: subsystem in the high byte. */
const CT_NEW = 1 << 8;
const CT_GET = (1 << 8) | 1;
const CT_DELETE = (1 << 8) | 2;
const CT_GET_STATS = (1 << 8) | 5;
const CTA_STATS_GLOBAL_ENTRIES = 1;
/** struct nfgenmsg: family, version, resource. */
const FAMILY_HEADER_BYTES = 4;
const AF_UNSPEC = 0;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_TIMEOUT = 7;
const CTA_MARK = 8;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY = 5;
const TCP_CONNTRACK_ESTABLISHED = 3;
/** Only TCP_CONNTRACK_CLOSE is higher. */
const TCP_CONNTRACK_TIME_WAIT = 7;
const TCP = 6;
const UDP = 17;
const IPS_SEEN_REPLY = 1 << 1;
const IPS_ASSURED = 1 << 2;
/** In the table for good; a new entry has it and may not lose it. */
const IPS_CONFIRMED = 1 << 3;
const IPS_SRC_NAT = 1 << 4;
/** The destination was changed: the flow was redirected. */
const IPS_DST_NAT = 1 << 5;
/** The window of an older connection is not known, so packets outside it are not "invalid". */
const BE_LIBERAL = 0x08;
/**
 * enum tcp_conntrack, and the kernel's own time limits; each packet renews them (nf_conntrack_tcp_timeout_*). One that is
 * connecting is entered as established, too: it may be answered before its entry stands, and to a kernel that believes it
 * unanswered all that follows would be invalid. A first packet sent again, and its answer, fit an established one as well.
 */
const STAGES = {
  connecting: { state: 3, timeoutS: 120, status: IPS_SEEN_REPLY | IPS_ASSURED },
  accepting: { state: 2, timeoutS: 60, status: IPS_SEEN_REPLY },
  established: { state: 3, timeoutS: 5 * 24 * 3600, status: IPS_SEEN_REPLY | IPS_ASSURED },
} as const;

export interface FlowEnd {
  readonly ip: IpAddress;
  readonly port: number;
}

export interface Flow {
  readonly protocol: 'tcp' | 'udp';
  readonly from: FlowEnd;
  /** Where the client sends to: a service's address, when the flow goes through one. */
  readonly to: FlowEnd;
  /** Who answers: the endpoint. */
  readonly answeredBy: FlowEnd;
  readonly isRedirected: boolean;
  /** It has another source for who answers it. */
  readonly isMasqueraded: boolean;
  /** Packets were seen both ways. */
  readonly isAnswered: boolean;
  /** A TCP connection of which neither end was seen: remembered for days after its last packet. */
  readonly isEstablished: boolean;
  /** A TCP connection that both ends have closed, or that one has reset: remembered for a while. */
  readonly hasEnded: boolean;
  /** The connection mark; 0 when none. */
  readonly mark: number;
}

/** The flows of TCP and UDP, both families. @throws MeshError SYSCALL_FAILED. */
export function listFlows(netnsFd: number): Flow[] {
  return withNetlink(netnsFd, NETLINK_NETFILTER, 'reading the connections of a namespace', (netlink) =>
    dump(netlink).map(({ flow }) => flow),
  );
}

/** Forgets the flows of either family that `isStale` picks; returns how many. @throws MeshError SYSCALL_FAILED. */
export function forgetFlows(netnsFd: number, isStale: (flow: Flow) => boolean): number {
  return withNetlink(netnsFd, NETLINK_NETFILTER, 'forgetting connections of a namespace', (netlink) => {
    const stale = dump(netlink).filter(({ flow }) => isStale(flow));
    netlink.requestAll(
      stale.map(({ flow, original }) => ({
        type: CT_DELETE,
        flags: 0,
        body: Buffer.concat([familyHeader(flow.to.ip), nested(CTA_TUPLE_ORIG, original)]),
        // A flow may end by itself before it is forgotten.
        accepted: [ENOENT],
      })),
    );
    return stale.length;
  });
}

export interface OlderConnection {
  readonly from: FlowEnd;
  readonly to: FlowEnd;
  /** `connecting`: the first packet is out and unanswered; `accepting`: answered, not yet confirmed. */
  readonly stage: keyof typeof STAGES;
  /** The connection mark; 0 unless given. */
  readonly mark?: number;
}

/**
 * Makes the kernel know TCP connections that began before it tracked any, as connections without address translation:
 * their next packet is then one of a known connection and not the first of a new one, which rules would redirect.
 * Those known already are left as they are. @throws MeshError SYSCALL_FAILED.
 */
export function trackConnections(netnsFd: number, connections: readonly OlderConnection[]): void {
  if (connections.length === 0) return;
  const requests = connections.map(({ from, to, stage, mark = 0 }) => {
    const { state, timeoutS, status } = STAGES[stage];
    return {
      type: CT_NEW,
      flags: NLM_CREATE | NLM_EXCLUSIVE,
      body: Buffer.concat([
        familyHeader(to.ip),
        nested(CTA_TUPLE_ORIG, tupleOf(from, to)),
        nested(CTA_TUPLE_REPLY, tupleOf(to, from)),
        attribute(CTA_STATUS, uint32(IPS_CONFIRMED | status)),
        attribute(CTA_TIMEOUT, uint32(timeoutS)),
        attribute(CTA_MARK, uint32(mark)),
        nested(
          CTA_PROTOINFO,
          nested(
            CTA_PROTOINFO_TCP,
            attribute(CTA_PROTOINFO_TCP_STATE, Buffer.of(state)),
            // struct nf_ct_tcp_flags: flags, and which of them are set by this.
            attribute(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, Buffer.of(BE_LIBERAL, BE_LIBERAL)),
            attribute(CTA_PROTOINFO_TCP_FLAGS_REPLY, Buffer.of(BE_LIBERAL, BE_LIBERAL)),
          ),
        ),
      ]),
      accepted: [EEXIST],
    };
  });
  withNetlink(netnsFd, NETLINK_NETFILTER, 'entering older connections', (netlink) =>
    netlink.requestAll(requests),
  );
}

function dump(netlink: Netlink): { flow: Flow; original: Buffer }[] {
  const body = familyHeader(undefined);
  // A dump walks the table of all namespaces: milliseconds, even for nothing.
  if (countOf(netlink) === 0) return [];
  return netlink.request({ type: CT_GET, flags: NLM_DUMP, body }).flatMap((payload) => {
    const attributes = attributesOf(payload.subarray(FAMILY_HEADER_BYTES));
    const original = attributes.get(CTA_TUPLE_ORIG);
    const flow = flowOf(attributes);
    return original === undefined || flow === undefined ? [] : [{ flow, original }];
  });
}

/** How many entries the namespace has, of any protocol. */
function countOf(netlink: Netlink): number {
  const [answer] = netlink.request({ type: CT_GET_STATS, flags: NLM_ACK, body: familyHeader(undefined) });
  if (answer === undefined) throw new TypeError('the kernel did not count the connections of a namespace');
  return attributesOf(answer.subarray(FAMILY_HEADER_BYTES)).get(CTA_STATS_GLOBAL_ENTRIES)!.readUInt32BE(0);
}

/** Undefined unless both directions are TCP or UDP. */
function flowOf(attributes: ReadonlyMap<number, Buffer>): Flow | undefined {
  const original = readTuple(attributes.get(CTA_TUPLE_ORIG));
  const reply = readTuple(attributes.get(CTA_TUPLE_REPLY));
  if (original === undefined || reply === undefined) return undefined;
  const status = attributes.get(CTA_STATUS)?.readUInt32BE(0) ?? 0;
  const state = tcpState(attributes.get(CTA_PROTOINFO));
  return {
    protocol: original.protocol,
    from: original.source,
    to: original.destination,
    answeredBy: reply.source,
    isRedirected: (status & IPS_DST_NAT) !== 0,
    isMasqueraded: (status & IPS_SRC_NAT) !== 0,
    isAnswered: (status & IPS_SEEN_REPLY) !== 0,
    isEstablished: state === TCP_CONNTRACK_ESTABLISHED,
    hasEnded: state >= TCP_CONNTRACK_TIME_WAIT,
    mark: attributes.get(CTA_MARK)?.readUInt32BE(0) ?? 0,
  };
}

/** enum tcp_conntrack; 0 where there is none. */
function tcpState(protocol: Buffer | undefined): number {
  const tcp = protocol && attributesOf(protocol).get(CTA_PROTOINFO_TCP);
  return (tcp && attributesOf(tcp).get(CTA_PROTOINFO_TCP_STATE)?.[0]) ?? 0;
}

interface Tuple {
  readonly protocol: 'tcp' | 'udp';
  readonly source: FlowEnd;
  readonly destination: FlowEnd;
}

function readTuple(bytes: Buffer | undefined): Tuple | undefined {
  if (bytes === undefined) return undefined;
  const parts = attributesOf(bytes);
  const addresses = attributesOf(parts.get(CTA_TUPLE_IP) ?? Buffer.alloc(0));
  const source = addresses.get(CTA_IP_V4_SRC) ?? addresses.get(CTA_IP_V6_SRC);
  const destination = addresses.get(CTA_IP_V4_DST) ?? addresses.get(CTA_IP_V6_DST);
  const protocol = attributesOf(parts.get(CTA_TUPLE_PROTO) ?? Buffer.alloc(0));
  const number = protocol.get(CTA_PROTO_NUM)?.[0];
  const sourcePort = protocol.get(CTA_PROTO_SRC_PORT)?.readUInt16BE(0);
  const destinationPort = protocol.get(CTA_PROTO_DST_PORT)?.readUInt16BE(0);
  if (source === undefined || destination === undefined) return undefined;
  if (sourcePort === undefined || destinationPort === undefined) return undefined;
  if (number !== TCP && number !== UDP) return undefined;
  return {
    protocol: number === TCP ? 'tcp' : 'udp',
    source: { ip: ipFromBytes(source), port: sourcePort },
    destination: { ip: ipFromBytes(destination), port: destinationPort },
  };
}

function tupleOf(from: FlowEnd, to: FlowEnd): Buffer {
  const isV4 = familyOf(from.ip) === 4;
  return Buffer.concat([
    nested(
      CTA_TUPLE_IP,
      attribute(isV4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, ipToBytes(from.ip)),
      attribute(isV4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, ipToBytes(to.ip)),
    ),
    nested(
      CTA_TUPLE_PROTO,
      attribute(CTA_PROTO_NUM, Buffer.of(TCP)),
      attribute(CTA_PROTO_SRC_PORT, uint16(from.port)),
      attribute(CTA_PROTO_DST_PORT, uint16(to.port)),
    ),
  ]);
}

/** `ip` undefined: both families. */
function familyHeader(ip: IpAddress | undefined): Buffer {
  const family = ip === undefined ? AF_UNSPEC : familyOf(ip) === 4 ? AF_INET : AF_INET6;
  return Buffer.of(family, 0, 0, 0);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
