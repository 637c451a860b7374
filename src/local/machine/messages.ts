// What FRONT and LOCAL tell each other over Node's IPC channel, and the options LOCAL is started with.

import type { ClusterFamily } from './plan.ts';
import type { Replacement } from './replacements.ts';

export interface MachineConfig {
  readonly stateDir: string;
  readonly runDir: string;
  /** The project's directory: bundles are `<root>/dist/NAME.mjs`. */
  readonly root: string;
  /** Absolute path of the Node binary that runs every program. */
  readonly node: string;
  readonly apiPort: number;
  /** Inherited, already listening on 127.0.0.1:apiPort of the host. */
  readonly apiFd: number;
  /** Where programs are looked for. */
  readonly path: string;
  /** Somebody else's programs in place of ours. */
  readonly replacements: readonly Replacement[];
  /** For the life of the cluster (ip-family.ts). */
  readonly ipFamily: ClusterFamily;
  /** The nodes n1 to this number are made if they are missing; two in a cluster that has none yet. */
  readonly nodeCount?: number;
  /** Image name → command line, beside those of `images.yaml`. */
  readonly images?: Readonly<Record<string, string>>;
  readonly logLevel: 'info' | 'debug';
}

/** A part of the start-up that is done, for the first screen. */
export interface Step {
  readonly step: string;
  readonly ms: number;
}

export interface MachineReady {
  /** For clients on the host. */
  readonly kubeconfig: string;
  /** Pid of LOCAL inside the machine. */
  readonly localPid: number;
  /** Containers that ran already: more than 0 only when LOCAL was started again. */
  readonly adoptedContainers: number;
}

/** A port of one of the host's loopback addresses. */
export interface HostAddress {
  readonly host: string;
  readonly port: number;
}

export type LocalMessage =
  | ({ readonly type: 'step' } & Step)
  | ({ readonly type: 'ready' } & MachineReady)
  | { readonly type: 'failed'; readonly code: string; readonly message: string }
  /** Asks for a listener on the host (host-ports.ts). */
  | ({ readonly type: 'host-port' } & HostAddress);

export type FrontMessage =
  | { readonly type: 'stop' }
  /** Comes with the listener. */
  | ({ readonly type: 'host-port' } & HostAddress)
  | ({ readonly type: 'host-port-refused'; readonly message: string } & HostAddress);

const LOCAL_TYPES: ReadonlySet<unknown> = new Set(['step', 'ready', 'failed', 'host-port']);

/** Undefined for anything that is not a message of ours. */
export function parseLocalMessage(value: unknown): LocalMessage | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { type } = value as { type?: unknown };
  return LOCAL_TYPES.has(type) ? (value as LocalMessage) : undefined;
}

export function isStop(value: unknown): value is { readonly type: 'stop' } {
  return typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'stop';
}

/** Exit codes of LOCAL as pid 1 reads them. */
export const EXIT_STOPPED = 0;
/** LOCAL could not start and said why: starting it again would not help. */
export const EXIT_FATAL = 70;
