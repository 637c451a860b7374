// UNIX sockets of type SEQPACKET: whole messages, in order, each with at most a few descriptors (SCM_RIGHTS).
// What the messages mean is the caller's matter.

import { lstatSync, unlinkSync } from 'node:fs';
import { errnoOf, MeshError } from '#base/errors.ts';
import { type FdWatch, READABLE, WRITABLE, watchFd } from './fd-watch.ts';
import {
  AF_UNIX,
  callBuffer,
  check,
  lastErrno,
  libc,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  syscallError,
} from './libc.ts';
import { MAX_MESSAGE_BYTES, receive, transmit } from './message.ts';
import { closeFd } from './netns.ts';

const BACKLOG = 16;
const ACCEPT_REST_MS = 100;
/** sun_path with its terminating zero. */
const PATH_MAX_BYTES = 107;

export interface SeqpacketConnection {
  /**
   * Resolves when the kernel has the message. The descriptor stays the caller's, and must stay open until then.
   * @throws MeshError `SYSCALL_FAILED` (details.errno, `EPIPE` when the peer is gone).
   */
  send(message: Uint8Array, fd?: number): Promise<void>;
  /** Reading starts here. The message is a copy; received descriptors belong to the handler. */
  onMessage(handler: (message: Uint8Array, fds: number[]) => void): void;
  /**
   * Exactly once: the peer closed (no error), the connection broke or a message was truncated, or `close()`.
   * The peer's end is noticed only while reading, that is after `onMessage`.
   */
  onClose(handler: (error?: MeshError) => void): void;
  close(): void;
}

export interface SeqpacketListener {
  /** Stops accepting and removes the socket file, unless somebody else listens there by now. Connections live on. */
  close(): void;
}

/** Binds `path` (a stale socket file is replaced) and calls back for every connection. */
export function listenSeqpacket(
  path: string,
  onConnection: (connection: SeqpacketConnection) => void,
): SeqpacketListener {
  const context = `listening on ${path}`;
  const { address, lengthBytes } = unixAddress(path);
  removeSocketFile(path);
  const fd = seqpacketSocket(context);
  let watch: FdWatch;
  let inode: bigint | undefined;
  try {
    check(libc.bind(fd, address, lengthBytes), 'bind', context);
    inode = inodeOf(path);
    check(libc.listen(fd, BACKLOG), 'listen', context);
    watch = watchFd(fd, READABLE, () => {
      for (;;) {
        const accepted = libc.accept4(fd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted < 0) {
          // Out of descriptors, the listener would stay readable and the loop would spin.
          if (lastErrno() !== 'EAGAIN') rest();
          return;
        }
        onConnection(createConnection(accepted, path));
      }
    });
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  let restTimer: NodeJS.Timeout | undefined;
  const rest = (): void => {
    watch.setEvents(0);
    restTimer = setTimeout(() => watch.setEvents(READABLE), ACCEPT_REST_MS);
  };
  let isClosed = false;
  return {
    close() {
      if (isClosed) return;
      isClosed = true;
      clearTimeout(restTimer);
      watch.close();
      closeFd(fd);
      if (inodeOf(path) === inode) removeSocketFile(path);
    },
  };
}

/** @throws MeshError `SYSCALL_FAILED`: details.errno is `ENOENT` or `ECONNREFUSED` when nobody listens. */
export async function connectSeqpacket(path: string): Promise<SeqpacketConnection> {
  const context = `connecting to ${path}`;
  const { address, lengthBytes } = unixAddress(path);
  const fd = seqpacketSocket(context);
  try {
    // UNIX sockets connect at once or not at all; a full backlog shows as EAGAIN.
    check(libc.connect(fd, address, lengthBytes), 'connect', context);
    return createConnection(fd, path);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

interface Outgoing {
  readonly message: Uint8Array;
  readonly fd: number | undefined;
  readonly resolve: () => void;
  readonly reject: (error: MeshError) => void;
}

function createConnection(fd: number, path: string): SeqpacketConnection {
  const outgoing: Outgoing[] = [];
  let onMessage: ((message: Uint8Array, fds: number[]) => void) | undefined;
  let onClose: ((error?: MeshError) => void) | undefined;
  let state: { readonly kind: 'open' } | { readonly kind: 'closed'; readonly error?: MeshError } = {
    kind: 'open',
  };

  const interest = (): number =>
    (onMessage === undefined ? 0 : READABLE) | (outgoing.length === 0 ? 0 : WRITABLE);
  const watch = watchFd(fd, interest(), () => {
    flush();
    if (onMessage !== undefined) readAll(onMessage);
  });

  const finish = (error?: MeshError): void => {
    if (state.kind === 'closed') return;
    state = error === undefined ? { kind: 'closed' } : { kind: 'closed', error };
    watch.close();
    closeFd(fd);
    const lost = error ?? syscallError('sendmsg', 'EPIPE', `connection ${path} closed`);
    for (const { reject } of outgoing.splice(0)) reject(lost);
    onClose?.(error);
  };

  const readAll = (deliver: (message: Uint8Array, fds: number[]) => void): void => {
    while (state.kind === 'open') {
      const received = receive(fd, path);
      if (received.kind === 'nothing') return;
      if (received.kind === 'message') deliver(received.message, received.fds);
      else finish(received.kind === 'failed' ? received.error : undefined);
    }
  };

  const flush = (): void => {
    while (state.kind === 'open' && outgoing.length > 0) {
      const next = outgoing[0]!;
      const result = transmit(fd, path, next.message, next.fd);
      if (result === 'again') break;
      outgoing.shift();
      if (result === 'sent') next.resolve();
      else next.reject(result);
    }
    if (state.kind === 'open') watch.setEvents(interest());
  };

  return {
    send(message, sentFd) {
      return new Promise((resolve, reject) => {
        if (state.kind === 'closed')
          return reject(syscallError('sendmsg', 'EPIPE', `connection ${path} is closed`));
        if (message.length === 0 || message.length > MAX_MESSAGE_BYTES)
          return reject(
            new MeshError(
              'ZDS_PROTOCOL',
              `a message of ${message.length} bytes cannot be sent on ${path}: 1 to ${MAX_MESSAGE_BYTES} fit`,
            ),
          );
        outgoing.push({ message, fd: sentFd, resolve, reject });
        if (outgoing.length === 1) flush();
      });
    },
    onMessage(handler) {
      onMessage = handler;
      if (state.kind === 'open') watch.setEvents(interest());
    },
    onClose(handler) {
      onClose = handler;
      if (state.kind === 'closed') handler(state.error);
    },
    close: () => finish(),
  };
}

function seqpacketSocket(context: string): number {
  return check(libc.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket', context);
}

/** struct sockaddr_un. */
function unixAddress(path: string): { address: Buffer; lengthBytes: number } {
  const bytes = Buffer.from(path);
  if (bytes.length > PATH_MAX_BYTES)
    throw new MeshError(
      'CONFIG_INVALID',
      `the socket path ${path} has ${bytes.length} bytes; UNIX sockets allow ${PATH_MAX_BYTES}. Choose a shorter directory`,
    );
  const address = callBuffer();
  address.writeUInt16LE(AF_UNIX, 0);
  address.set(bytes, 2);
  return { address, lengthBytes: 2 + bytes.length + 1 };
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
}

function removeSocketFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT')
      throw MeshError.from(error, 'SYSCALL_FAILED', `removing the stale ${path}`);
  }
}
