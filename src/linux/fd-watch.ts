// Readiness of a descriptor that Node has no handle type for (SEQPACKET sockets), from the event loop itself.
//
// libuv's uv_poll is called through the symbols that Node exports for addons. Tried: 8 µs from a message to its
// handler, no thread, no wake-up while idle. The alternatives cost a pool thread per blocked call, a worker's 10 MB,
// or a process-wide SIGIO whose default action ends the process.

import { getSystemErrorName } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import koffi from 'koffi';
import { MeshError } from '#base/errors.ts';

const UV_POLL = 8;
export const READABLE = 1;
export const WRITABLE = 2;

export interface FdWatch {
  /** What to wait for: READABLE, WRITABLE or-ed; 0 pauses. */
  setEvents(events: number): void;
  /** To be called before the descriptor is closed. The handler does not run any more. */
  close(): void;
}

interface Libuv {
  readonly loop: bigint;
  readonly handleBytes: number;
  readonly init: (loop: bigint, handle: bigint, fd: number) => number;
  readonly start: (handle: bigint, events: number, callback: bigint) => number;
  readonly stop: (handle: bigint) => number;
  readonly close: (handle: bigint, callback: bigint) => void;
  /** Native entry points, one for all watches; they find their watch by the handle's address. */
  readonly onPoll: bigint;
  readonly onClosed: bigint;
}

// Bound at the first watch, one per process (only the main thread may watch). Entries live from watch to close.
let libuv: Libuv | undefined;
const handlers = new Map<bigint, () => void>();

/**
 * Calls `onReady` (in the check phase of the loop turn) whenever one of the events is there, level-triggered: the
 * handler must read until nothing is left. A watch keeps the process alive. Main thread only.
 */
export function watchFd(fd: number, events: number, onReady: () => void): FdWatch {
  if (!isMainThread)
    throw new MeshError(
      'KERNEL_FEATURE_MISSING',
      'SEQPACKET sockets are served by the main thread only: open them there and forward the messages',
    );
  libuv ??= bindLibuv();
  const uv = libuv;
  const handle = koffi.alloc('uint8_t', uv.handleBytes) as bigint;
  const failed = uv.init(uv.loop, handle, fd);
  if (failed !== 0) {
    koffi.free(handle);
    throw pollError('uv_poll_init', failed, fd);
  }
  let isClosed = false;
  let isScheduled = false;
  let current = 0;
  handlers.set(handle, () => {
    // Out of the native callback first: an exception or a close inside it must not unwind through libuv.
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      if (!isClosed) onReady();
    });
  });
  const watch: FdWatch = {
    setEvents(wanted) {
      if (isClosed || wanted === current) return;
      current = wanted;
      const result = wanted === 0 ? uv.stop(handle) : uv.start(handle, wanted, uv.onPoll);
      if (result !== 0) throw pollError('uv_poll_start', result, fd);
    },
    close() {
      if (isClosed) return;
      isClosed = true;
      uv.close(handle, uv.onClosed);
    },
  };
  try {
    watch.setEvents(events);
  } catch (error) {
    watch.close();
    throw error;
  }
  return watch;
}

function bindLibuv(): Libuv {
  const node = koffi.load(null);
  const pollCallback = koffi.proto('void CulvertPollCallback(void *handle, int status, int events)');
  const closeCallback = koffi.proto('void CulvertCloseCallback(void *handle)');
  const loopOf = node.func('void *uv_default_loop(void)') as () => bigint;
  const sizeOf = node.func('size_t uv_handle_size(int type)') as (type: number) => number;
  return {
    loop: loopOf(),
    handleBytes: Number(sizeOf(UV_POLL)),
    init: node.func('int uv_poll_init(void *loop, void *handle, int fd)') as Libuv['init'],
    start: node.func('int uv_poll_start(void *handle, int events, void *callback)') as Libuv['start'],
    stop: node.func('int uv_poll_stop(void *handle)') as Libuv['stop'],
    close: node.func('void uv_close(void *handle, void *callback)') as Libuv['close'],
    onPoll: koffi.register((handle: bigint) => handlers.get(handle)?.(), koffi.pointer(pollCallback)),
    onClosed: koffi.register((handle: bigint) => {
      handlers.delete(handle);
      // libuv still touches the handle until this callback has returned.
      setImmediate(() => koffi.free(handle));
    }, koffi.pointer(closeCallback)),
  };
}

function pollError(call: string, result: number, fd: number): MeshError {
  const errno = getSystemErrorName(result);
  return new MeshError('SYSCALL_FAILED', `watching descriptor ${fd}: ${call} failed with ${errno}`, {
    details: { call, errno },
  });
}
