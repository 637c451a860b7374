// Where a redirected connection was going before the redirection (netfilter's SO_ORIGINAL_DST).

import { type OriginalDst, parsePort } from '#net/host-port.ts';
import { ipFromBytes } from '#net/ip.ts';
import { callBuffer, lastErrno, libc, SOL_IP, SOL_IPV6, syscallError } from './libc.ts';

/** The same number at both levels: SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST. */
const ORIGINAL_DST = 80;
/** No connection tracking entry (any more), no NAT for this family, or a level this socket does not have. */
const ABSENT: ReadonlySet<string> = new Set([
  'ENOENT',
  'ENOPROTOOPT',
  'ENOTSUP',
  'EOPNOTSUPP',
  'EINVAL',
  'ENOTCONN',
]);

/**
 * The destination the peer dialled; undefined when connection tracking does not know the connection.
 * A connection that was not redirected yields its own local address. IPv4-mapped addresses come out as IPv4.
 * @throws MeshError `SYSCALL_FAILED` for a bad descriptor.
 */
export function originalDst(fd: number): OriginalDst | undefined {
  // IPv4 first: on a dual-stack listener most connections are IPv4-mapped, and only this level knows them.
  return readOriginalDst(fd, SOL_IP) ?? readOriginalDst(fd, SOL_IPV6);
}

function readOriginalDst(fd: number, level: number): OriginalDst | undefined {
  const address = callBuffer();
  const length = callBuffer(1);
  const sizeBytes = level === SOL_IP ? 16 : 28;
  length.writeUInt32LE(sizeBytes, 0);
  if (libc.getsockopt(fd, level, ORIGINAL_DST, address, length) < 0) {
    const errno = lastErrno();
    if (ABSENT.has(errno)) return undefined;
    throw syscallError('getsockopt', errno, `original destination of descriptor ${fd}`);
  }
  const ip = ipFromBytes(level === SOL_IP ? address.subarray(4, 8) : address.subarray(8, 24));
  const port = parsePort(address.readUInt16BE(2));
  return port === undefined ? undefined : { ip, port };
}
