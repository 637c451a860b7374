// The client of one exec or attach, whichever protocol it speaks, and the end of its command in Kubernetes' words.

import { finished, type Writable } from 'node:stream';
import type { CommandEnd, CommandRun, CommandStreams, TerminalSize } from './pod-streams.ts';

/** What the client asked for, by its query. */
export interface CommandWish {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

export interface CommandClient extends CommandStreams {
  /** Sends the end on the error channel, after all output, and closes the connection. */
  finish(status: string): Promise<void>;
}

export async function serveCommand(client: CommandClient, run: CommandRun): Promise<void> {
  await client.finish(JSON.stringify(statusOfEnd(await run(client))));
}

/** The Status of channel protocols v4 and v5 (k8s.io/apimachinery remotecommand). */
export function statusOfEnd(end: CommandEnd): Record<string, unknown> {
  if (end.kind === 'exited' && end.code === 0) return { metadata: {}, status: 'Success' };
  if (end.kind === 'exited')
    return {
      metadata: {},
      status: 'Failure',
      message: `command terminated with non-zero exit code: exit status ${end.code}`,
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: String(end.code) }] },
    };
  return {
    metadata: {},
    status: 'Failure',
    message: `Internal error occurred: ${end.message}`,
    reason: 'InternalError',
    details: { causes: [{ message: end.message }] },
    code: 500,
  };
}

const MAX_RESIZE_BYTES = 1024;

/** `{"Width":80,"Height":24}`; undefined for anything else. */
export function parseTerminalSize(text: string): TerminalSize | undefined {
  if (text.length > MAX_RESIZE_BYTES) return undefined;
  try {
    const { Width, Height } = JSON.parse(text) as { Width?: unknown; Height?: unknown };
    const fits = (value: unknown): value is number =>
      Number.isInteger(value) && (value as number) > 0 && (value as number) <= 0xffff;
    return fits(Width) && fits(Height) ? { columns: Width, rows: Height } : undefined;
  } catch {
    return undefined;
  }
}

/** Remembers the last size for a listener that comes later. */
export class Resizes {
  #last: TerminalSize | undefined;
  #listener: ((size: TerminalSize) => void) | undefined;

  set(size: TerminalSize | undefined): void {
    if (size === undefined) return;
    this.#last = size;
    this.#listener?.(size);
  }

  readonly listen = (listener: (size: TerminalSize) => void): void => {
    this.#listener = listener;
    if (this.#last !== undefined) listener(this.#last);
  };
}

/** Ends a stream and resolves when everything is handed on, or it broke. */
export function ended(stream: Writable | undefined): Promise<void> {
  if (stream === undefined) return Promise.resolve();
  return new Promise((resolve) => {
    finished(stream, { readable: false }, () => resolve());
    stream.end();
  });
}
