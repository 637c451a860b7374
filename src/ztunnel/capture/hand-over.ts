// An upgrade without a lost connection: the running ztunnel gives its successor copies of the pods' listening sockets
// (SCM_RIGHTS). Both then accept from the same queue, so when the old one closes its copies nothing is lost that the kernel has
// taken. With SO_REUSEPORT alone, as beside a foreign ztunnel, what waits in the old one's queue is reset.
//
//     successor ── hello ──▶ predecessor
//     successor ◀── listener + descriptor, one message each; complete; then each pod that is new
//     successor has its own pods (snapshot of the CNI agent): hangs up, and listens for the next one

import { chmodSync } from 'node:fs';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import { closeFd, dupFd } from '#linux/netns.ts';
import { connectSeqpacket, listenSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import { socketNetnsId } from '#linux/socket-netns.ts';
import type { Logger } from '#telemetry/log.ts';
import {
  decodeHandOver,
  encodeHandOver,
  type HandOverMessage,
  type ListenerMessage,
} from './hand-over-message.ts';
import type { ListenerStock } from './listener-stock.ts';

export interface HandOverDeps {
  readonly stock: ListenerStock;
  readonly log: Logger;
  readonly scope: Scope;
}

export interface HandOverOptions {
  readonly path: string;
  /** What listeners here are like; a predecessor's that are otherwise are left to it. */
  readonly shape: string;
  /** How long the predecessor may take; it must not keep this one from starting. */
  readonly timeoutMs?: number;
}

export interface HandOver {
  /** Fetches the listeners of whoever runs now. Resolves with their number; a failure is said, and costs only them. */
  receive(): Promise<number>;
  /** This ztunnel has its pods: what is left over is closed, and the next successor may ask. Once. */
  settle(): void;
  /** This ztunnel is ending: nobody is served any more. */
  close(): void;
}

const TIMEOUT_MS = 2_000;

export function createHandOver(deps: HandOverDeps, options: HandOverOptions): HandOver {
  const { stock, log } = deps;
  const scope = deps.scope.child('hand-over');
  let predecessor: SeqpacketConnection | undefined;
  scope.onClose(() => {
    predecessor?.close();
    stock.discardInherited();
  });
  let isSettled = false;
  return {
    async receive() {
      try {
        predecessor = await connectSeqpacket(options.path);
      } catch (error) {
        if (!isNobody(error)) log.warn('the running ztunnel cannot be asked', { error: reasonOf(error) });
        return 0;
      }
      const connection = predecessor;
      try {
        const count = await receiveAll(deps, options, connection, scope);
        log.info('took over the listeners of the running ztunnel', { listeners: count });
        return count;
      } catch (error) {
        connection.close();
        log.warn('taking over from the running ztunnel failed; listeners will overlap instead', {
          error: reasonOf(error),
        });
        return 0;
      }
    },
    settle() {
      if (isSettled || scope.closed) return;
      isSettled = true;
      predecessor?.close();
      const unclaimed = stock.discardInherited();
      if (unclaimed > 0) log.info('listeners of pods that are gone were closed', { listeners: unclaimed });
      try {
        offer(deps, options, scope);
      } catch (error) {
        log.warn('no successor can take over from this ztunnel', { error: reasonOf(error) });
      }
    },
    close: () => scope.close(),
  };
}

function receiveAll(
  { stock, log }: HandOverDeps,
  { shape, timeoutMs = TIMEOUT_MS }: HandOverOptions,
  connection: SeqpacketConnection,
  scope: Scope,
): Promise<number> {
  return new Promise((resolve, reject) => {
    let count = 0;
    const stopWaiting = scope.timeout(timeoutMs, () =>
      reject(protocolError(`nothing more came for ${timeoutMs} ms`)),
    );
    const fail = (error: unknown): void => {
      stopWaiting();
      // Closing calls back here; the first reason counts.
      reject(error);
      connection.close();
    };
    connection.onClose((error) => fail(error ?? protocolError('the running ztunnel hung up')));
    connection.onMessage((bytes, fds) => {
      try {
        const message = decodeHandOver(bytes);
        if (message.kind === 'listener' && inherit(stock, log, shape, message, fds)) count++;
        if (message.kind !== 'complete') return;
        stopWaiting();
        resolve(count);
      } catch (error) {
        fail(error);
      } finally {
        for (const fd of fds) closeFd(fd);
      }
    });
    connection.send(encodeHandOver({ kind: 'hello' })).catch(fail);
  });
}

/** Takes the descriptor out of `fds` if it is what it is said to be. */
function inherit(
  stock: ListenerStock,
  log: Logger,
  shape: string,
  message: ListenerMessage,
  fds: number[],
): boolean {
  if (fds.length !== 1)
    throw protocolError(`a listener comes with one descriptor, this one with ${fds.length}`);
  if (message.shape !== shape) {
    log.debug('a listener of other settings was left to the running ztunnel', { port: message.port });
    return false;
  }
  const { dev, ino } = socketNetnsId(fds[0]!);
  // A socket of another pod would give that pod's connections this pod's identity.
  if (message.netns !== `${dev}:${ino}`)
    throw protocolError(`a socket of namespace ${dev}:${ino} was said to be of ${message.netns}`);
  const fd = fds.shift()!;
  const { netns, port, of, transparent } = message;
  stock.inherit({ netnsId: netns, port, ...(of === undefined ? {} : { of }), fd, transparent });
  return true;
}

function offer({ stock, log }: HandOverDeps, { path, shape }: HandOverOptions, scope: Scope): void {
  const listener = listenSeqpacket(path, (connection) => {
    const forget = scope.onClose(() => connection.close());
    let stopFollowing = (): void => {};
    connection.onClose(() => {
      stopFollowing();
      forget();
    });
    connection.onMessage((bytes, fds) => {
      for (const fd of fds) closeFd(fd);
      try {
        if (decodeHandOver(bytes).kind !== 'hello') throw protocolError('a successor says hello, once');
      } catch (error) {
        log.warn('a successor was not understood', { error: reasonOf(error) });
        connection.close();
        return;
      }
      log.info('a successor takes over the listeners', { listeners: stock.inUseCount });
      stopFollowing();
      stopFollowing = stock.follow(({ netnsId, fd, ...listener }) =>
        send(connection, log, { kind: 'listener', netns: netnsId, ...listener, shape }, fd),
      );
      send(connection, log, { kind: 'complete' });
    });
  });
  // Before the first successor can come: only who may end this process anyway may take its listeners.
  chmodSync(path, 0o600);
  scope.onClose(() => listener.close());
}

/** The copy stays open until the kernel has it, whatever becomes of the listener meanwhile. */
function send(connection: SeqpacketConnection, log: Logger, message: HandOverMessage, fd?: number): void {
  const copy = fd === undefined ? undefined : dupFd(fd);
  connection
    .send(encodeHandOver(message), copy)
    .catch((error: unknown) => log.debug('a successor went away', { error: reasonOf(error) }))
    .finally(() => {
      if (copy !== undefined) closeFd(copy);
    });
}

/** No ztunnel, or one that does not know of this: both are ordinary. */
function isNobody(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOENT' || errno === 'ECONNREFUSED';
}

function protocolError(message: string): MeshError {
  return new MeshError('HAND_OVER_FAILED', message);
}
