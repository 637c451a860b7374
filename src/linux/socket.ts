// TCP and UDP sockets with what Node cannot set: namespace, mark, transparency, foreign source address. The descriptors are
// adopted by Node (`server.listen({fd})`, `new net.Socket({fd}).connect(…)`, `dgram.bind({fd})`); everything after that is
// ordinary Node.

import { MeshError } from '#base/errors.ts';
import { familyOf, type IpAddress, type IpFamily, ipToBytes, parseIp } from '#net/ip.ts';
import {
  AF_INET,
  AF_INET6,
  callBuffer,
  check,
  lastErrno,
  libc,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_SOCKET,
  syscallError,
} from './libc.ts';
import { closeFd, inNetns } from './netns.ts';

const SOL_TCP = 6;
const TCP_USER_TIMEOUT = 18;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SO_MARK = 36;
const IP_TRANSPARENT = 19;
const IP_BIND_ADDRESS_NO_PORT = 24;
const IPV6_V6ONLY = 26;
const IPV6_TRANSPARENT = 75;
const DEFAULT_BACKLOG = 128;

export interface ListenTcpOptions {
  /** `::` takes both families, and falls back to `0.0.0.0` on a kernel without IPv6. */
  readonly ip: IpAddress | string;
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** The namespace to listen in; the caller's own unless given. */
  readonly netnsFd?: number;
  readonly mark?: number;
  readonly transparent?: 'required' | 'best-effort';
  /** Several listeners may share the port; without it this is the only one. */
  readonly reusePort?: boolean;
  readonly backlog?: number;
}

/**
 * A bound and listening descriptor, non-blocking and close-on-exec.
 * @throws MeshError `PORT_IN_USE`, `NETNS_GONE`, `SYSCALL_FAILED`.
 */
export function listenTcp(options: ListenTcpOptions): { fd: number; transparent: boolean } {
  const ip = parseIp(options.ip);
  if (ip === undefined)
    throw new MeshError('CONFIG_INVALID', `cannot listen on ${options.ip}: not an IP address`);
  try {
    return listenOn(ip, options);
  } catch (error) {
    const noIpv6 = error instanceof MeshError && error.details.errno === 'EAFNOSUPPORT';
    if (ip === '::' && noIpv6) return listenOn('0.0.0.0' as IpAddress, options);
    throw error;
  }
}

function listenOn(ip: IpAddress, options: ListenTcpOptions): { fd: number; transparent: boolean } {
  const context = `listening on ${ip} port ${options.port}`;
  const family = familyOf(ip);
  return owningFd(newSocket(family, SOCK_STREAM, options.netnsFd, context), (fd) => {
    // Both: connections of an earlier process that wait out their time on the port would keep it from us otherwise.
    setInt(fd, SOL_SOCKET, SO_REUSEADDR, 1, context);
    if (options.reusePort === true) setInt(fd, SOL_SOCKET, SO_REUSEPORT, 1, context);
    if (options.mark !== undefined) setInt(fd, SOL_SOCKET, SO_MARK, options.mark, context);
    if (ip === '::') setInt(fd, SOL_IPV6, IPV6_V6ONLY, 0, context);
    const transparent = options.transparent !== undefined && makeTransparent(fd, family, options, context);
    bindTo(fd, ip, options.port, context);
    check(libc.listen(fd, options.backlog ?? DEFAULT_BACKLOG), 'listen', context);
    return { fd, transparent };
  });
}

function makeTransparent(fd: number, family: IpFamily, options: ListenTcpOptions, context: string): boolean {
  try {
    setTransparent(fd, family, context);
    return true;
  } catch (error) {
    if (options.transparent === 'required') throw error;
    return false;
  }
}

export interface TcpSocketOptions {
  readonly family: IpFamily;
  readonly netnsFd?: number;
  readonly mark?: number;
  /** Connect from this address, local or not (IP_TRANSPARENT), and from a port that the address's own kernel would not choose. */
  readonly bindSource?: { readonly ip: IpAddress };
}

/**
 * An unconnected descriptor, non-blocking and close-on-exec, for `new net.Socket({fd, …}).connect({host, port})`.
 * @throws MeshError `NETNS_GONE`, `SYSCALL_FAILED`.
 */
export function tcpSocket(options: TcpSocketOptions): number {
  const context = `TCP socket${options.bindSource === undefined ? '' : ` from ${options.bindSource.ip}`}`;
  return owningFd(newSocket(options.family, SOCK_STREAM, options.netnsFd, context), (fd) => {
    if (options.mark !== undefined) setInt(fd, SOL_SOCKET, SO_MARK, options.mark, context);
    if (options.bindSource !== undefined) bindForeign(fd, options.family, options.bindSource.ip, context);
    return fd;
  });
}

function bindForeign(fd: number, family: IpFamily, source: IpAddress, context: string): void {
  if (familyOf(source) !== family) {
    throw new MeshError(
      'CONNECT_FAILED',
      `cannot keep the source address ${source} towards an IPv${family} destination`,
    );
  }
  setTransparent(fd, family, context);
  for (let tries = 0; tries < FOREIGN_PORT_TRIES; tries += 1) {
    const { address, lengthBytes } = sockaddrOf(source, takeForeignPort());
    if (libc.bind(fd, address, lengthBytes) >= 0) return;
    const errno = lastErrno();
    if (errno !== 'EADDRINUSE') throw syscallError('bind', errno, context);
  }
  // The port is chosen at connect, when the destination is known: one source may then hold more than 28,000 connections.
  setInt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1, context);
  const { address, lengthBytes } = sockaddrOf(source, 0);
  check(libc.bind(fd, address, lengthBytes), 'bind', context);
}

/**
 * Where we connect from a client's address, the client may be connecting to the same place itself, and connection tracking
 * knows connections by addresses and ports alone: with the same port one would be taken for the other, and both be reset. So
 * ours are below those that kernels give to their clients (`ip_local_port_range`, from 32,768 on), as long as one is free.
 */
const FOREIGN_PORTS = { first: 10_240, count: 32_768 - 10_240 } as const;
/** Each costs a microsecond. A source that fills the range (by 375 connections a second, each remembered for a minute) gets on. */
const FOREIGN_PORT_TRIES = 4;
let foreignPortsTaken = Math.floor(Math.random() * FOREIGN_PORTS.count);

function takeForeignPort(): number {
  foreignPortsTaken = (foreignPortsTaken + 1) % FOREIGN_PORTS.count;
  return FOREIGN_PORTS.first + foreignPortsTaken;
}

export interface UdpSocketOptions {
  readonly family: IpFamily;
  readonly netnsFd?: number;
  readonly mark?: number;
  /** Absent: an address and a port that the kernel chooses when the socket is connected or first sends. */
  readonly bind?: { readonly ip: IpAddress; readonly port: number; readonly reusePort: boolean };
}

/**
 * A descriptor, non-blocking and close-on-exec, for `dgram.Socket.bind({fd})`.
 * @throws MeshError `PORT_IN_USE`, `NETNS_GONE`, `SYSCALL_FAILED`.
 */
export function udpSocket(options: UdpSocketOptions): number {
  const { family, netnsFd, mark, bind } = options;
  const context = bind === undefined ? 'UDP socket' : `UDP socket on ${bind.ip} port ${bind.port}`;
  return owningFd(newSocket(family, SOCK_DGRAM, netnsFd, context), (fd) => {
    if (mark !== undefined) setInt(fd, SOL_SOCKET, SO_MARK, mark, context);
    if (bind === undefined) return fd;
    if (bind.reusePort) setInt(fd, SOL_SOCKET, SO_REUSEPORT, 1, context);
    bindTo(fd, bind.ip, bind.port, context);
    return fd;
  });
}

function bindTo(fd: number, ip: IpAddress, port: number, context: string): void {
  const { address, lengthBytes } = sockaddrOf(ip, port);
  if (libc.bind(fd, address, lengthBytes) >= 0) return;
  const errno = lastErrno();
  throw syscallError('bind', errno, context, errno === 'EADDRINUSE' ? 'PORT_IN_USE' : 'SYSCALL_FAILED');
}

/** Only `socket()` runs inside the namespace: the socket keeps it for everything that follows. */
function newSocket(family: IpFamily, type: number, netnsFd: number | undefined, context: string): number {
  const make = (): number =>
    check(
      libc.socket(family === 4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
      'socket',
      context,
    );
  return netnsFd === undefined ? make() : inNetns(netnsFd, make);
}

function owningFd<T>(fd: number, use: (fd: number) => T): T {
  try {
    return use(fd);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** TCP_USER_TIMEOUT: how long sent bytes may stay unacknowledged before the kernel gives the connection up. */
export function setUserTimeout(fd: number, timeoutMs: number): void {
  setInt(fd, SOL_TCP, TCP_USER_TIMEOUT, timeoutMs, 'TCP socket');
}

function setTransparent(fd: number, family: IpFamily, context: string): void {
  if (family === 4) setInt(fd, SOL_IP, IP_TRANSPARENT, 1, context);
  else setInt(fd, SOL_IPV6, IPV6_TRANSPARENT, 1, context);
}

function setInt(fd: number, level: number, name: number, value: number, context: string): void {
  const buffer = callBuffer();
  buffer.writeInt32LE(value, 0);
  if (libc.setsockopt(fd, level, name, buffer, 4) >= 0) return;
  throw syscallError('setsockopt', lastErrno(), `${context} (option ${level}/${name})`);
}

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28 bytes). */
function sockaddrOf(ip: IpAddress, port: number): { address: Buffer; lengthBytes: number } {
  const address = callBuffer();
  const family = familyOf(ip);
  address.writeUInt16LE(family === 4 ? AF_INET : AF_INET6, 0);
  address.writeUInt16BE(port, 2);
  address.set(ipToBytes(ip), family === 4 ? 4 : 8);
  return { address, lengthBytes: family === 4 ? 16 : 28 };
}
