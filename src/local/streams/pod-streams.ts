// What the API server asks of the kubelets besides logs: a command in a container, a container's own streams, a connection
// into a pod. The kubelets implement it; the server carries the bytes between this and the client's protocol.

import type { Duplex, Readable, Writable } from 'node:stream';
import type { Pod } from '#k8s/objects.ts';

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** The client's ends. Each is undefined when the client did not ask for it. */
export interface CommandStreams {
  /** Ends when the client closes it, or with the client. */
  readonly stdin: Readable | undefined;
  readonly stdout: Writable | undefined;
  readonly stderr: Writable | undefined;
  /** Calls at once with the last size that is known, then for each change. */
  onResize(listener: (size: TerminalSize) => void): void;
  /** Aborts when the client is gone: what runs for it must end. */
  readonly gone: AbortSignal;
}

export type CommandEnd =
  | { readonly kind: 'exited'; readonly code: number }
  | { readonly kind: 'failed'; readonly message: string };

export interface ExecOptions {
  readonly command: readonly string[];
  readonly tty: boolean;
}

/** Runs to the end; never rejects. Output is written, not ended. */
export type CommandRun = (streams: CommandStreams) => Promise<CommandEnd>;

/** Rejects with a MeshError whose sentence is meant for the client. */
export type Dial = (port: number) => Promise<Duplex>;

/** Every method throws a MeshError when it is impossible now; its sentence reaches the client instead of an upgrade. */
export interface PodStreams {
  exec(pod: Pod, container: string, options: ExecOptions): CommandRun;
  attach(
    pod: Pod,
    container: string,
    options: { readonly stdin: boolean; readonly tty: boolean },
  ): CommandRun;
  /** `gone` aborts when the pod is. */
  portForward(pod: Pod): { readonly dial: Dial; readonly gone: AbortSignal };
}
