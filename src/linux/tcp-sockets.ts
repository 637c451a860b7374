// The TCP sockets of a network namespace as the kernel lists them, and closing one from outside (man 7 sock_diag,
// include/uapi/linux/inet_diag.h).

import type { IpAddress } from '#net/ip.ts';
import { ipFromBytes } from '#net/ip.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import {
  attributesOf,
  ENOENT,
  NETLINK_SOCK_DIAG,
  type Netlink,
  NLM_ACK,
  NLM_DUMP,
  withNetlink,
} from './netlink.ts';

const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const IPPROTO_TCP = 6;
/** struct inet_diag_req_v2: family, protocol, ext, pad, states (4), then the socket's id. */
const ID_AT_IN_REQUEST = 8;
/** struct inet_diag_msg: family, state, timer, retrans, then the socket's id. */
const ID_AT_IN_ANSWER = 4;
const ID_BYTES = 48;
const ANSWER_BYTES = ID_AT_IN_ANSWER + ID_BYTES + 20;
const INET_DIAG_MARK = 15;

/** include/net/tcp_states.h */
export type TcpState = 'established' | 'connecting' | 'accepting' | 'closing' | 'listening';
const STATES: readonly (TcpState | undefined)[] = [
  undefined,
  'established',
  'connecting', // SYN_SENT
  'accepting', // SYN_RECV
  'closing', // FIN_WAIT1
  'closing', // FIN_WAIT2
  undefined, // TIME_WAIT: no process holds it
  undefined, // CLOSE
  'closing', // CLOSE_WAIT
  'closing', // LAST_ACK
  'listening',
  'closing', // CLOSING
  'accepting', // NEW_SYN_RECV
];
const ALL_STATES = 0xffff_ffff;

export interface TcpSocket {
  readonly state: TcpState;
  readonly localIp: IpAddress;
  readonly localPort: number;
  readonly remoteIp: IpAddress;
  readonly remotePort: number;
  /** SO_MARK; 0 when none, or when we may not know. */
  readonly mark: number;
  /** What the kernel knows it by; for `closeSocket`. */
  readonly handle: { readonly family: number; readonly id: Buffer };
}

/** Both families; an IPv6 socket that speaks IPv4 is told by its IPv4 addresses. @throws MeshError SYSCALL_FAILED. */
export function listTcpSockets(netnsFd: number | undefined): TcpSocket[] {
  return withNetlink(netnsFd, NETLINK_SOCK_DIAG, 'listing the TCP sockets of a namespace', (netlink) => [
    ...listFamily(netlink, AF_INET),
    ...listFamily(netlink, AF_INET6),
  ]);
}

/**
 * Closes the socket as if its process had aborted it: both ends see a reset. One that is gone already is no error.
 * @throws MeshError SYSCALL_FAILED, also where the kernel was built without CONFIG_INET_DIAG_DESTROY.
 */
export function closeTcpSockets(netnsFd: number, sockets: readonly TcpSocket[]): void {
  if (sockets.length === 0) return;
  withNetlink(netnsFd, NETLINK_SOCK_DIAG, 'closing TCP sockets of a namespace', (netlink) => {
    for (const { handle } of sockets)
      netlink.request({
        type: SOCK_DESTROY,
        flags: NLM_ACK,
        body: requestFor(handle.family, handle.id),
        accepted: [ENOENT],
      });
  });
}

function requestFor(family: number, id?: Buffer): Buffer {
  const body = Buffer.alloc(ID_AT_IN_REQUEST + ID_BYTES);
  body[0] = family;
  body[1] = IPPROTO_TCP;
  body.writeUInt32LE(ALL_STATES, 4);
  if (id !== undefined) body.set(id, ID_AT_IN_REQUEST);
  return body;
}

function listFamily(netlink: Netlink, family: number): TcpSocket[] {
  const answers = netlink.request({
    type: SOCK_DIAG_BY_FAMILY,
    flags: NLM_DUMP,
    body: requestFor(family),
    // No IPv6 in this kernel, then there are no such sockets.
    accepted: family === AF_INET6 ? [ENOENT] : [],
  });
  return answers.flatMap((answer) => {
    const state = STATES[answer[1] ?? 0];
    if (state === undefined) return [];
    const id = answer.subarray(ID_AT_IN_ANSWER, ID_AT_IN_ANSWER + ID_BYTES);
    const bytesOf = (at: number): IpAddress =>
      ipFromBytes(id.subarray(at, at + (family === AF_INET ? 4 : 16)));
    const mark = attributesOf(answer.subarray(ANSWER_BYTES)).get(INET_DIAG_MARK);
    return [
      {
        state,
        localPort: id.readUInt16BE(0),
        remotePort: id.readUInt16BE(2),
        localIp: bytesOf(4),
        remoteIp: bytesOf(20),
        mark: mark?.readUInt32LE(0) ?? 0,
        handle: { family, id: Buffer.from(id) },
      },
    ];
  });
}
