// What every file of commands/ is given, and the few things they share. A command declares itself here and loads what it
// needs when it runs: `culvert help` must not wait for code that it does not use.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseDurationMs } from '#base/duration.ts';
import { parsePort } from '#net/host-port.ts';

/** Wrong usage; 1 is for work that failed. */
export const EXIT_USAGE = 2;
export const EXIT_FAILURE = 1;

const READINESS_LIMIT_MS = 300_000;

export type Environment = Readonly<Record<string, string | undefined>>;

/** Where text goes. */
export interface Output {
  readonly write: (text: string) => void;
  readonly isTerminal: boolean;
}

export interface UpFlags {
  readonly stateDir: string;
  readonly apiPort: number;
  readonly sample: boolean;
  readonly bare?: boolean;
  readonly ipFamily?: 'ipv4' | 'dual' | 'ipv6';
  readonly nodes?: number;
  /** Image name → command line. */
  readonly image?: Readonly<Record<string, string>>;
  /** Print when each part of the start-up began and ended. */
  readonly timings?: boolean;
  /** Somebody else's program in place of ours: `COMMAND`, or `NODE=COMMAND` for one node. */
  readonly ztunnel: readonly string[];
  readonly control: readonly string[];
  readonly cni: readonly string[];
}

export interface DownFlags {
  readonly stateDir: string;
  readonly purge?: boolean;
}

/** A program that runs in a node until it ends or is stopped. */
export interface NodeProcess {
  readonly output: AsyncIterable<Buffer>;
  /** `code` is null when it was stopped. */
  readonly ended: Promise<{ readonly code: number | null; readonly complaints: string }>;
  stop(): void;
}

/** What commands need from outside this layer (src/local and below): bin/lib/actions.ts supplies it. */
export interface Actions {
  up(flags: UpFlags): Promise<void>;
  /** Returns the sentence that says what was done. */
  down(flags: DownFlags): Promise<string>;
  nodeExec(node: string, command: readonly string[], flags: { readonly stateDir: string }): Promise<void>;
  /** What a command printed that was run in a node's network and file system. Rejects when it fails. */
  nodeOutput(node: string, command: readonly string[], flags: { readonly stateDir: string }): Promise<string>;
  nodeSpawn(
    node: string,
    command: readonly string[],
    flags: { readonly stateDir: string },
  ): Promise<NodeProcess>;
}

export interface CliContext {
  readonly version: string;
  readonly defaultStateDir: string;
  /** Where deploy/ lies. */
  readonly projectDir: string;
  readonly env: Environment;
  readonly out: Output;
  readonly err: Output;
  readonly setExitCode: (code: number) => void;
  /** Asks the person; undefined when nobody sits at a terminal. */
  readonly ask: (question: string) => Promise<string | undefined>;
  readonly actions: Actions;
}

/** Adds one command (with its subcommands) to the tree. */
export type AddCommand = (program: Command, context: CliContext) => void;

export const example = (...lines: readonly string[]): string =>
  `\n${lines.length === 1 ? 'Example' : 'Examples'}:\n${lines.map((line) => `  ${line}`).join('\n')}`;

export const stateDirOption = (context: CliContext): [string, string, string] => [
  '--state-dir <dir>',
  "where the local cluster's state lives",
  context.defaultStateDir,
];

export function portOption(text: string): number {
  const port = parsePort(text);
  if (port === undefined)
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no port; give a number from 1 to 65535.`);
  return port;
}

export function imageOption(
  text: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const [, name, command] = /^([a-z0-9][a-z0-9-]*)=(.*\S.*)$/.exec(text) ?? [];
  if (name === undefined || command === undefined)
    throw new InvalidArgumentError(
      `${JSON.stringify(text)} is not NAME=COMMAND; for example billing='python3 /srv/billing.py'.`,
    );
  return { ...before, [name]: command };
}

export const wholeOption =
  (what: string, least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new InvalidArgumentError(`${JSON.stringify(text)} is not ${what} from ${least} to ${most}.`);
    return value;
  };

/** For options that may be given several times. */
export const collect = (value: string, before: readonly string[] | undefined): readonly string[] => [
  ...(before ?? []),
  value,
];

export const readinessTimeoutOption = (): Option =>
  new Option('--readiness-timeout <duration>', 'how long to wait for the programs on the nodes')
    .default(READINESS_LIMIT_MS, '5m')
    .argParser(durationOption);

/** Milliseconds. */
export function durationOption(text: string): number {
  const durationMs = parseDurationMs(text);
  if (durationMs === undefined || durationMs === 0)
    throw new InvalidArgumentError(`${JSON.stringify(text)} is no duration; give one such as 90s or 5m.`);
  return durationMs;
}
