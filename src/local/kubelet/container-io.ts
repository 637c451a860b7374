// A container's streams as LOCAL has them: two pipes and perhaps a third for input, or one terminal for all. Output goes to the
// log and to whoever listens; input comes from clients that attach.

import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { type Readable, Writable } from 'node:stream';
import { reasonOf } from '#base/errors.ts';
import { takeDescriptor } from '#linux/pidfd.ts';
import { setTerminalSize, TerminalStream } from '#linux/pty.ts';
import type { TerminalSize } from '#local/streams/pod-streams.ts';
import { CriLineSplitter, type LogStream } from './cri-line.ts';
import type { ContainerLog } from './logs.ts';

export type OutputListener = (stream: LogStream, chunk: Buffer) => void;

export interface ContainerIo {
  /** Everything the container wrote has been taken. */
  readonly done: Promise<void>;
  readonly hasTerminal: boolean;
  /** Calls for every piece of output from now on, until the returned function is called. */
  onOutput(listener: OutputListener): () => void;
  /** For a client that attaches; undefined for a container without input. */
  openInput(): Writable | undefined;
  /** Of its terminal, if it has one. */
  resize(size: TerminalSize): void;
  /** No more input will come. */
  endInput(): void;
  close(): void;
}

/** Descriptor of the container's first process that keeps its terminal alive while no LOCAL does. */
export const TERMINAL_FD = 5;

export const fifo = (dir: string, stream: LogStream | 'stdin'): string => join(dir, stream);

interface Listeners {
  readonly told: OutputListener;
  readonly onOutput: ContainerIo['onOutput'];
}

function listeners(): Listeners {
  const all = new Set<OutputListener>();
  return {
    told: (stream, chunk) => {
      for (const listener of all) listener(stream, chunk);
    },
    onOutput: (listener) => {
      all.add(listener);
      return () => all.delete(listener);
    },
  };
}

/** `keptInput`: a descriptor that keeps the input open until its one client has come. */
export function pipeIo(dir: string, log: ContainerLog, keptInput?: number): ContainerIo {
  const { told, onOutput } = listeners();
  const outputs = [pipe(dir, 'stdout', log, told), pipe(dir, 'stderr', log, told)];
  let kept = keptInput;
  const endInput = (): void => {
    if (kept !== undefined) closeSync(kept);
    kept = undefined;
  };
  return {
    done: Promise.all(outputs.map(({ done }) => done)).then(() => {}),
    hasTerminal: false,
    onOutput,
    openInput: () => {
      const path = fifo(dir, 'stdin');
      if (!existsSync(path)) return undefined;
      const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      const writer = new Socket({ fd, readable: false, writable: true });
      // With the one client that was waited for the input ends; for other containers nothing is kept.
      writer.once('close', endInput);
      return writer;
    },
    resize: () => {},
    endInput,
    close: () => {
      for (const output of outputs) output.close();
    },
  };
}

interface Output {
  readonly done: Promise<void>;
  close(): void;
}

/** Reads a pipe until every writer is gone. A socket, because a blocking read would hold a thread of the pool for ever. */
function pipe(dir: string, stream: LogStream, log: ContainerLog, told: OutputListener): Output {
  let socket: Socket;
  try {
    const fd = openSync(fifo(dir, stream), constants.O_RDONLY | constants.O_NONBLOCK);
    socket = new Socket({ fd, readable: true, writable: false });
  } catch {
    return { done: Promise.resolve(), close: () => {} }; // the node's files are gone: nothing more to read
  }
  return { done: collect(socket, stream, log, told), close: () => socket.destroy() };
}

function collect(from: Readable, stream: LogStream, log: ContainerLog, told: OutputListener): Promise<void> {
  const splitter = new CriLineSplitter(stream);
  return new Promise((resolve) => {
    from.on('data', (chunk: Buffer) => {
      log.write(splitter.push(chunk, new Date()));
      told(stream, chunk);
    });
    from.on('error', () => {}); // followed by close
    from.on('end', () => from.destroy());
    from.on('close', () => {
      log.write(splitter.end(new Date()));
      resolve();
    });
  });
}

/** Owns the master. What a terminal shows is one stream. */
export function terminalIo(masterFd: number, log: ContainerLog, takesInput: boolean): ContainerIo {
  const { told, onOutput } = listeners();
  const terminal = new TerminalStream(masterFd);
  return {
    done: collect(terminal, 'stdout', log, told),
    hasTerminal: true,
    onOutput,
    // A client that goes leaves the terminal as it is for the next one.
    openInput: () =>
      takesInput
        ? new Writable({ write: (chunk: Buffer, _encoding, callback) => terminal.write(chunk, callback) })
        : undefined,
    resize: (size) => {
      if (!terminal.destroyed) setTerminalSize(masterFd, size);
    },
    endInput: () => {},
    close: () => terminal.destroy(),
  };
}

/** The terminal of a container that a former LOCAL started: its first process has kept it. */
export function adoptedTerminalIo(
  pid: number,
  isAlive: boolean,
  log: ContainerLog,
  takesInput: boolean,
): ContainerIo {
  if (isAlive) {
    try {
      return terminalIo(takeDescriptor(pid, TERMINAL_FD), log, takesInput);
    } catch (error) {
      const line = `culvert: the terminal of this container was lost when LOCAL was started again: ${reasonOf(error)}\n`;
      log.write(new CriLineSplitter('stderr').push(Buffer.from(line), new Date()));
    }
  }
  return {
    done: Promise.resolve(),
    hasTerminal: true,
    onOutput: () => () => {},
    openInput: () => undefined,
    resize: () => {},
    endInput: () => {},
    close: () => {},
  };
}
