// TCP connections as libuv hands them to Node, without net.Socket's two streams, events and timers around them: those cost
// more per connection than all that ztunnel itself does with one (docs/decisions/0013-tcp-handles.md). Whoever needs a
// net.Socket after all, for TLS, makes one of the handle. Reached through `process.binding`, which Node keeps for such use.

import net from 'node:net';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { MeshError } from '#base/errors.ts';
import { parsePort, type SocketAddress } from '#net/host-port.ts';
import { familyOf, type IpAddress, parseIp } from '#net/ip.ts';

/** Whose connection it is: told by calls, so that nothing is registered or searched per event. */
export interface TcpOwner {
  /** So many bytes lie at the start of the buffer, until the call returns. */
  onBytes(length: number): void;
  /** The peer's FIN. */
  onEnd(): void;
  /** Our FIN is with the kernel, behind everything written. */
  onShutdown(): void;
  /** Reading or writing failed; to be closed by whoever hears of it. */
  onBroken(call: 'read' | 'write' | 'shutdown', errno: string): void;
  /** The descriptor is closed; always the last call, exactly once, never within a call to the handle. */
  onClosed(): void;
}

export interface Keepalive {
  readonly idleMs: number;
  readonly intervalMs: number;
  readonly probes: number;
}

export class TcpHandle {
  readonly #native: NativeTcp;
  #owner: TcpOwner | undefined;
  #isReading = false;
  #pendingWrites = 0;
  #isClosing = false;
  /** Here, and not in a function of the request's own: V8 would let those grow old, with all that they know. */
  #connecting: ((errno: string | undefined) => void) | undefined;
  /** One whose write was done at once is unused, and serves the next write. */
  #request: WriteRequest | undefined;

  constructor(native: NativeTcp) {
    this.#native = native;
    native.holder = this;
  }

  /** Without a descriptor until it is bound or connected. */
  static create(): TcpHandle {
    return new TcpHandle(new binding.TCP(binding.constants.SOCKET));
  }

  /** Owns the descriptor once it returns. @throws MeshError `SYSCALL_FAILED` */
  static adopt(fd: number): TcpHandle {
    const native = new binding.TCP(binding.constants.SOCKET);
    check(native.open(fd), 'open', `TCP socket ${fd}`);
    return new TcpHandle(native);
  }

  /** Takes a connection out of a socket, which must not be used afterwards. */
  static from(socket: net.Socket): TcpHandle {
    const holder = socket as unknown as { _handle: NativeTcp | null };
    const native = holder._handle;
    if (native === null) throw new TypeError('the socket has no handle: it is closed');
    holder._handle = null;
    socket.destroy();
    native.readStop();
    return new TcpHandle(native);
  }

  /** -1 without one. */
  get fd(): number {
    return this.#native.fd;
  }

  /** Bytes are on their way to the kernel, which had no room for them. */
  get isWriting(): boolean {
    return this.#pendingWrites > 0;
  }

  /** Undefined when the kernel does not know it (any more). */
  get peer(): SocketAddress | undefined {
    return addressOf((into) => this.#native.getpeername(into));
  }

  get local(): SocketAddress | undefined {
    return addressOf((into) => this.#native.getsockname(into));
  }

  /** No delay, and keepalive if given. Connections of a listener inherit what it has. */
  configure(keepalive: Keepalive | undefined): void {
    configure(this.#native, keepalive);
  }

  /** Local address, port of the kernel's choice. @throws MeshError `SYSCALL_FAILED` */
  bind(ip: IpAddress): void {
    const { bind, bind6 } = this.#native;
    const bound = familyOf(ip) === 4 ? bind.call(this.#native, ip, 0) : bind6.call(this.#native, ip, 0, 0);
    check(bound, 'bind', `TCP socket from ${ip}`);
  }

  /** `done` is called once, never within this call, with the errno of a failure; ECANCELED when it is closed meanwhile. */
  connect({ ip, port }: SocketAddress, done: (errno: string | undefined) => void): void {
    const request = new binding.TCPConnectWrap();
    request.holder = this;
    request.oncomplete = onConnected;
    this.#connecting = done;
    const native = this.#native;
    const status =
      familyOf(ip) === 4 ? native.connect(request, ip, port) : native.connect6(request, ip, port);
    if (status !== 0) queueMicrotask(() => this.isConnected(status));
  }

  /** Where bytes go and who hears of everything from now on; `resume` begins to read. */
  serve(owner: TcpOwner, buffer: Buffer): void {
    this.#owner = owner;
    this.#native.useUserBuffer(buffer);
    this.#native.onread = onRead;
  }

  resume(): void {
    if (this.#isReading || this.#isClosing) return;
    this.#isReading = true;
    this.#native.readStart();
  }

  pause(): void {
    if (!this.#isReading || this.#isClosing) return;
    this.#isReading = false;
    this.#native.readStop();
  }

  /**
   * True: everything is with the kernel. False: `written` is called when it is, or is given up, and the bytes must not
   * change until then. A failure is the owner's to hear.
   */
  write(bytes: Uint8Array, written?: () => void): boolean {
    if (this.#isClosing) return true;
    const request = this.#request ?? new binding.WriteWrap();
    const status = this.#native.writeBuffer(request, bytes);
    if (status === 0 && streamState[IS_ASYNC] === 0) {
      this.#request = request;
      return true;
    }
    this.#request = undefined;
    this.#pendingWrites += 1;
    request.buffer = bytes;
    request.oncomplete = (result) => {
      this.#pendingWrites -= 1;
      if (result !== 0) this.#broken('write', result);
      written?.();
    };
    if (status !== 0) queueMicrotask(() => request.oncomplete?.(status));
    return false;
  }

  /** FIN behind everything written. */
  shutdown(): void {
    if (this.#isClosing) return;
    const request = new binding.ShutdownWrap();
    request.holder = this;
    request.oncomplete = onShutdown;
    const status = this.#native.shutdown(request);
    if (status !== 0) queueMicrotask(() => this.isShutDown(status));
  }

  /** What is not with the kernel yet is dropped. */
  close(): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#native.close(onClosed);
  }

  /** Closes with a TCP RST. */
  reset(): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    // Refused while a shutdown is under way.
    if (this.#native.reset(onClosed) !== 0) this.#native.close(onClosed);
  }

  /** The connection as Node's own, paused; this handle must not be used afterwards. */
  toSocket(): net.Socket {
    const options = { handle: this.#native, allowHalfOpen: true, pauseOnCreate: true };
    return new net.Socket(options as object as net.SocketConstructorOpts);
  }

  // ---- For the functions below alone, which Node calls with its own handle ----

  hasRead(lengthOrStatus: number): void {
    if (this.#isClosing || lengthOrStatus === 0) return;
    if (lengthOrStatus > 0) {
      this.#owner?.onBytes(lengthOrStatus);
      return;
    }
    this.#isReading = false;
    if (lengthOrStatus === UV_EOF) this.#owner?.onEnd();
    else this.#broken('read', lengthOrStatus);
  }

  isConnected(status: number): void {
    const done = this.#connecting;
    this.#connecting = undefined;
    done?.(errnoOfStatus(status));
  }

  isShutDown(status: number): void {
    // A peer that is gone already needs no FIN.
    if (status >= 0 || status === UV_ENOTCONN) this.#owner?.onShutdown();
    else this.#broken('shutdown', status);
  }

  isClosed(): void {
    this.#owner?.onClosed();
  }

  #broken(call: 'read' | 'write' | 'shutdown', status: number): void {
    if (!this.#isClosing) this.#owner?.onBroken(call, getSystemErrorName(status));
  }
}

function onRead(this: NativeTcp): void {
  this.holder?.hasRead(streamState[STREAM_LENGTH]!);
}

function onConnected(this: Request, status: number): void {
  this.holder?.isConnected(status);
}

function onShutdown(this: Request, status: number): void {
  this.holder?.isShutDown(status);
}

function onClosed(this: NativeTcp): void {
  this.holder?.isClosed();
}

export interface TcpListener {
  readonly port: number;
  close(): void;
}

/**
 * Accepts from a listening descriptor, which it owns once it returns. Connections inherit what is set here, so that
 * none of it is a system call for each of them. @throws MeshError `SYSCALL_FAILED`
 */
export function acceptFrom(
  fd: number,
  keepalive: Keepalive | undefined,
  onConnection: (connection: TcpHandle) => void,
  onFailure: (errno: string) => void,
): TcpListener {
  const native = new binding.TCP(binding.constants.SERVER);
  check(native.open(fd), 'open', `listening socket ${fd}`);
  configure(native, keepalive);
  native.onconnection = (status, connection) => {
    if (status !== 0 || connection === undefined) onFailure(getSystemErrorName(status));
    else onConnection(new TcpHandle(connection));
  };
  try {
    check(native.listen(BACKLOG), 'listen', `listening socket ${fd}`);
  } catch (error) {
    native.close();
    throw error;
  }
  let isClosed = false;
  return {
    port: addressOf((into) => native.getsockname(into))?.port ?? 0,
    close: () => {
      if (isClosed) return;
      isClosed = true;
      native.close();
    },
  };
}

/** Node's own default. */
const BACKLOG = 511;
const UV_EOF = -4095;
const UV_ENOTCONN = -constants.errno.ENOTCONN;

function configure(native: NativeTcp, keepalive: Keepalive | undefined): void {
  native.setNoDelay(true);
  if (keepalive === undefined) return;
  const { idleMs, intervalMs, probes } = keepalive;
  native.setKeepAlive(true, Math.floor(idleMs / 1000), Math.floor(intervalMs / 1000), probes);
}

function addressOf(read: (into: { address?: string; port?: number }) => number): SocketAddress | undefined {
  const into: { address?: string; port?: number } = {};
  if (read(into) !== 0) return undefined;
  const ip = parseIp(into.address ?? '');
  const port = parsePort(into.port ?? 0);
  return ip === undefined || port === undefined ? undefined : { ip, port };
}

function errnoOfStatus(status: number): string | undefined {
  return status === 0 ? undefined : getSystemErrorName(status);
}

function check(status: number, call: string, context: string): void {
  if (status === 0) return;
  const errno = getSystemErrorName(status);
  const cause: NodeJS.ErrnoException = new Error(`${call}: ${errno}`);
  cause.code = errno;
  throw new MeshError('SYSCALL_FAILED', `${context}: ${call} failed with ${errno}`, {
    cause,
    details: { call, errno },
  });
}

/** Node's TCPWrap. */
interface NativeTcp {
  /** Ours: `owner` is a name of Node's own. */
  holder?: TcpHandle;
  readonly fd: number;
  onread: (this: NativeTcp) => void;
  onconnection: (status: number, connection: NativeTcp | undefined) => void;
  open(fd: number): number;
  bind(ip: string, port: number): number;
  bind6(ip: string, port: number, flags: number): number;
  listen(backlog: number): number;
  connect(request: Request, ip: string, port: number): number;
  connect6(request: Request, ip: string, port: number): number;
  getpeername(into: object): number;
  getsockname(into: object): number;
  setNoDelay(isOn: boolean): number;
  setKeepAlive(isOn: boolean, idleSeconds: number, intervalSeconds: number, probes: number): number;
  useUserBuffer(buffer: Uint8Array): void;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: WriteRequest, bytes: Uint8Array): number;
  shutdown(request: Request): number;
  close(done?: (this: NativeTcp) => void): void;
  reset(done: (this: NativeTcp) => void): number;
}

interface Request {
  holder?: TcpHandle;
  oncomplete?: ((this: Request, status: number) => void) | null;
}

/** Node's WriteWrap; may be used again once it is done. */
export interface WriteRequest extends Request {
  /** Keeps the bytes while the kernel has not taken them all. */
  buffer?: Uint8Array;
  /** How it ended, if there was nobody to call then; to be cleared before the next use. */
  writeStatus: number | null;
}

interface Bindings {
  readonly TCP: new (type: number) => NativeTcp;
  readonly TCPConnectWrap: new () => Request;
  readonly constants: { readonly SOCKET: number; readonly SERVER: number };
  readonly WriteWrap: new () => WriteRequest;
  readonly ShutdownWrap: new () => Request;
  /** What the last call or event of any stream brought, by the indices beside it. */
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

function bind(): Bindings {
  const inner = (process as unknown as { binding(name: string): Partial<Bindings> }).binding;
  const found = { ...inner.call(process, 'tcp_wrap'), ...inner.call(process, 'stream_wrap') };
  const { TCP, WriteWrap, ShutdownWrap, TCPConnectWrap, streamBaseState } = found;
  const isWhole = [TCP, WriteWrap, ShutdownWrap, TCPConnectWrap, streamBaseState].every(Boolean);
  if (!isWhole || found.kReadBytesOrError === undefined || found.kLastWriteWasAsync === undefined)
    throw new MeshError('CONFIG_INVALID', 'this Node has no TCP handles as we know them; use Node 26');
  return found as Bindings;
}

const binding = bind();
const { kLastWriteWasAsync: IS_ASYNC } = binding;
/** What the last call or event of any stream of Node's told; of a read, its length or errno. */
export const { streamBaseState: streamState, kReadBytesOrError: STREAM_LENGTH } = binding;

export function newWriteRequest(): WriteRequest {
  return new binding.WriteWrap();
}
