// One connected ztunnel: requests one at a time, each answered before the next (cni.md A.12.3). Acks carry no number, so
// an answer that comes too late would be taken for the next one's: the connection is closed instead.

import { MeshError } from '#base/errors.ts';
import { closeFd } from '#linux/netns.ts';
import type { SeqpacketConnection } from '#linux/seqpacket.ts';
import { decodeAck, decodeHello, encodeWorkloadRequest, type ZdsRequest } from '#proto/zds.ts';

export interface ZdsConnection {
  /** After the hello. Rejects when the peer says something else, nothing, or goes away. */
  readonly greeted: Promise<void>;
  readonly isClosed: boolean;
  /**
   * Sends in turn and waits for the ack; resolves with its error text. The descriptor must stay open meanwhile.
   * @throws MeshError `ZDS_PROTOCOL` or `SYSCALL_FAILED`: the connection is closed then.
   */
  exchange(request: ZdsRequest, fd?: number): Promise<string | undefined>;
  onClose(handler: (reason: string) => void): void;
  close(reason: string): void;
}

interface Waiting {
  readonly resolve: (message: Uint8Array) => void;
  readonly reject: (error: MeshError) => void;
}

export function createZdsConnection(socket: SeqpacketConnection, timeoutMs: number): ZdsConnection {
  /** Who the next packet is for: the hello, one request, or nobody. */
  let waiting: Waiting | undefined;
  let closeReason: string | undefined;
  let onClose: ((reason: string) => void) | undefined;
  const close = (reason: string): void => {
    if (closeReason !== undefined) return;
    closeReason = reason;
    socket.close();
    waiting?.reject(new MeshError('ZDS_PROTOCOL', `the connection to ztunnel ended: ${reason}`));
    waiting = undefined;
    onClose?.(reason);
  };

  const nextPacket = (what: string): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      if (closeReason !== undefined) {
        reject(new MeshError('ZDS_PROTOCOL', `the connection to ztunnel ended: ${closeReason}`));
        return;
      }
      const timer = setTimeout(() => close(`no ${what} within ${timeoutMs / 1000} s`), timeoutMs);
      waiting = {
        resolve: (message) => {
          clearTimeout(timer);
          resolve(message);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
    });

  socket.onClose((error) => close(error?.message ?? 'ztunnel closed it'));
  socket.onMessage((message, fds) => {
    const receiver = waiting;
    waiting = undefined;
    for (const fd of fds) closeFd(fd);
    if (fds.length > 0) return close('ztunnel sent a descriptor');
    if (receiver === undefined) return close('ztunnel spoke out of turn');
    receiver.resolve(message);
  });

  const greet = async (): Promise<void> => {
    try {
      decodeHello(await nextPacket('hello'));
    } catch (error) {
      close(MeshError.from(error, 'ZDS_PROTOCOL', 'hello').message);
      throw error;
    }
  };
  const greeted = greet();
  /** The tail of the queue; never rejects. Nothing is sent before the hello, whose failure whoever awaits `greeted` sees. */
  let turn: Promise<unknown> = greeted.catch(() => {});

  const exchangeNow = async (request: ZdsRequest, fd: number | undefined): Promise<string | undefined> => {
    try {
      // The answer is awaited before sending, so that it cannot come unexpected.
      const answer = nextPacket(`ack for ${request.kind}`);
      answer.catch(() => {});
      await socket.send(encodeWorkloadRequest(request), fd);
      return decodeAck(await answer).error;
    } catch (error) {
      const failure = MeshError.from(error, 'ZDS_PROTOCOL', `sending ${request.kind} to ztunnel`);
      close(failure.message);
      throw failure;
    }
  };

  return {
    greeted,
    get isClosed() {
      return closeReason !== undefined;
    },
    exchange(request, fd) {
      const result = turn.then(() => exchangeNow(request, fd));
      turn = result.catch(() => {});
      return result;
    },
    onClose(handler) {
      onClose = handler;
      if (closeReason !== undefined) handler(closeReason);
    },
    close,
  };
}
