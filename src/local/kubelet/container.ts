// One run of one container: starting its process in the pod's namespaces, adopting one that a former LOCAL started,
// collecting its output, noticing its end, ending it.

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { closeFd } from '#linux/netns.ts';
import { openTerminal } from '#linux/pty.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import {
  groupIsAlive,
  identify,
  isAlive,
  type ProcessId,
  sessionMembers,
} from '#local/machine/process-id.ts';
import { mustRun } from '#local/machine/tools.ts';
import { adoptedTerminalIo, type ContainerIo, fifo, pipeIo, terminalIo } from './container-io.ts';
import { type ContainerPlan, parseExitFile, renderContainerScript } from './container-script.ts';
import { CriLineSplitter } from './cri-line.ts';
import type { ContainerLog } from './logs.ts';
import { readTerminationMessage, terminationFile } from './termination-message.ts';

export interface ContainerRun {
  /** Counts from 0; the restart count of this run. */
  readonly attempt: number;
  readonly containerId: string;
  readonly startedAt: string;
  readonly process: ProcessId;
  /** It runs on a terminal. */
  readonly terminal?: { readonly takesInput: boolean };
}

export type ContainerEnd =
  | {
      readonly kind: 'exited';
      readonly exitCode: number;
      readonly finishedAt: string;
      /** What the program wrote to its terminationMessagePath. */
      readonly message: string;
    }
  /** The program never ran: a mount or the like failed. */
  | { readonly kind: 'setup-failed'; readonly message: string; readonly finishedAt: string };

export interface RunningContainer
  extends Pick<ContainerIo, 'hasTerminal' | 'onOutput' | 'openInput' | 'resize'> {
  readonly run: ContainerRun;
  /** Never rejects; set once the process and its output are over. */
  readonly ended: Promise<ContainerEnd>;
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
  /** Whether its mounts are made and its program was started: only then can others join its namespaces. */
  isPrepared(): boolean;
}

export interface ContainerSpec {
  readonly name: string;
  /** Directory of this container's files, as a path of the node. */
  readonly dir: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly netnsPath: string;
  readonly plan: ContainerPlan;
  /** Where input comes from: nowhere, any number of clients, or one client whose end is the end of the input. */
  readonly input: 'none' | 'open' | 'once';
  /** A terminal in place of pipes. */
  readonly terminal: boolean;
}

/** Adopted processes are nobody's children here: their end is seen by looking. */
const ADOPTED_POLL_MS = 250;
/** After the program's end its output may still be held open by processes it left; they are killed, then this is enough. */
const OUTPUT_DRAIN_MS = 500;

/** A container that was just started mounts its volumes first. */
const PREPARED_LIMIT_MS = 10_000;
const PREPARED_LOOK_MS = 20;

/** Resolves with true once others can join the container's namespaces, with false when it ended before. */
export async function whenPrepared(container: RunningContainer): Promise<boolean> {
  for (let leftMs = PREPARED_LIMIT_MS; leftMs > 0; leftMs -= PREPARED_LOOK_MS) {
    if (!isAlive(container.run.process)) return false;
    if (container.isPrepared()) return true;
    await sleep(PREPARED_LOOK_MS);
  }
  return false;
}

const runFile = (dir: string): string => join(dir, 'run.json');
const exitFile = (dir: string, attempt: number): string => join(dir, `exit.${attempt}`);
const setupFile = (dir: string, attempt: number): string => join(dir, `setup.${attempt}`);

/** @throws MeshError LOCAL_MACHINE_FAILED when the process cannot be started at all. */
export async function startContainer(
  node: EmulatedNode,
  spec: ContainerSpec,
  attempt: number,
  log: ContainerLog,
): Promise<RunningContainer> {
  const { tools } = node;
  const dir = join(node.rootPath, spec.dir);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await rm(terminationFile(dir), { force: true });
  await writeFile(terminationFile(dir), '', { mode: 0o666 });
  if (spec.terminal) return startOnTerminal(node, spec, attempt, log);
  const input = fifo(dir, 'stdin');
  await rm(input, { force: true });
  const streams = [fifo(dir, 'stdout'), fifo(dir, 'stderr'), ...(spec.input === 'none' ? [] : [input])];
  await Promise.all(streams.map((path) => rm(path, { force: true })));
  await mustRun(tools.mkfifo, ['-m', '600', ...streams], {
    doing: `making the pipes of container ${spec.name}`,
  });

  const fds: number[] = [];
  const open = (path: string, flags: number): number => {
    const fd = openSync(path, flags, 0o600);
    fds.push(fd);
    return fd;
  };
  const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_TRUNC } = constants;
  // Open from the start, so that the program waits for its one client instead of reading the end.
  const keptInput = spec.input === 'once' ? openSync(input, O_RDWR) : undefined;
  try {
    // The container holds both ends of its pipes (O_RDWR): the death of LOCAL is no EPIPE for it.
    const stdout = open(fifo(dir, 'stdout'), O_RDWR);
    const stderr = open(fifo(dir, 'stderr'), O_RDWR);
    const stdin = spec.input === 'none' ? 'ignore' : open(input, spec.input === 'once' ? O_RDONLY : O_RDWR);
    const exit = open(exitFile(dir, attempt), O_WRONLY | O_CREAT | O_TRUNC);
    const setup = open(setupFile(dir, attempt), O_WRONLY | O_CREAT | O_TRUNC);
    return await launch(
      node,
      spec,
      { attempt, plan: spec.plan, stdio: [stdin, stdout, setup, exit, stderr] },
      (run, over) => watchContainer(dir, run, over, log, pipeIo(dir, log, keptInput)),
    );
  } catch (error) {
    if (keptInput !== undefined) closeSync(keptInput);
    throw error;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

/** LOCAL and the container's first process both hold the master: the death of LOCAL is no hang-up. */
async function startOnTerminal(
  node: EmulatedNode,
  spec: ContainerSpec,
  attempt: number,
  log: ContainerLog,
): Promise<RunningContainer> {
  const dir = join(node.rootPath, spec.dir);
  const { masterFd, slavePath } = openTerminal();
  const fds: number[] = [];
  const open = (path: string): number => {
    const { O_WRONLY, O_CREAT, O_TRUNC } = constants;
    const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600);
    fds.push(fd);
    return fd;
  };
  try {
    const [setup, exit] = [setupFile(dir, attempt), exitFile(dir, attempt)].map(open);
    const terminal = { takesInput: spec.input !== 'none' };
    return await launch(
      node,
      spec,
      {
        attempt,
        plan: { ...spec.plan, terminal: slavePath },
        stdio: ['ignore', 'ignore', setup, exit, 'ignore', masterFd],
        terminal,
      },
      (run, over) => watchContainer(dir, run, over, log, terminalIo(masterFd, log, terminal.takesInput)),
    );
  } catch (error) {
    closeFd(masterFd);
    throw error;
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

interface Launch {
  readonly attempt: number;
  readonly plan: ContainerPlan;
  readonly stdio: StdioOptions;
  readonly terminal?: ContainerRun['terminal'];
}

/** Starts the first process in the pod's namespaces and writes down who it is. */
async function launch(
  { tools, rootPath, enter }: EmulatedNode,
  spec: ContainerSpec,
  { attempt, plan, stdio, terminal }: Launch,
  watch: (run: ContainerRun, over: Promise<void>) => RunningContainer,
): Promise<RunningContainer> {
  const child = spawn(
    tools.nsenter,
    [
      ...enter(spec.netnsPath),
      tools.unshare,
      '--mount',
      '--propagation',
      'slave',
      tools.sh,
      '-c',
      renderContainerScript(tools, plan),
      spec.name,
      ...spec.argv,
    ],
    { detached: true, cwd: '/', env: { ...spec.env }, stdio },
  );
  const process = await identifyChild(child, spec.name);
  const run: ContainerRun = {
    attempt,
    containerId: `culvert://${process.pid}-${process.startTicks}`,
    startedAt: new Date().toISOString(),
    process,
    ...(terminal === undefined ? {} : { terminal }),
  };
  await writeFile(runFile(join(rootPath, spec.dir)), JSON.stringify(run), { mode: 0o600 });
  const over = new Promise<void>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });
  child.unref();
  return watch(run, over);
}

function identifyChild(child: ChildProcess, name: string): Promise<ProcessId> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot start container ${name}`)),
    );
    child.once('spawn', () => {
      // Our own child stays visible, as a zombie at worst, until its exit was delivered.
      const id = child.pid === undefined ? undefined : identify(child.pid);
      if (id === undefined) reject(new MeshError('LOCAL_MACHINE_FAILED', `container ${name} is gone`));
      else resolve(id);
    });
  });
}

/** The last run that a former LOCAL started in this directory, running or ended; undefined when there is none. */
export async function adoptContainer(
  node: EmulatedNode,
  nodeDir: string,
  openLog: (attempt: number) => ContainerLog,
): Promise<RunningContainer | undefined> {
  const dir = join(node.rootPath, nodeDir);
  if (!existsSync(runFile(dir))) return undefined;
  const run = JSON.parse(await readFile(runFile(dir), 'utf8')) as ContainerRun;
  const over = new Promise<void>((resolve) => {
    const look = (): void => {
      if (isAlive(run.process)) setTimeout(look, ADOPTED_POLL_MS);
      else resolve();
    };
    look();
  });
  const log = openLog(run.attempt);
  const io =
    run.terminal === undefined
      ? pipeIo(dir, log)
      : adoptedTerminalIo(run.process.pid, isAlive(run.process), log, run.terminal.takesInput);
  return watchContainer(dir, run, over, log, io);
}

function watchContainer(
  dir: string,
  run: ContainerRun,
  over: Promise<void>,
  log: ContainerLog,
  io: ContainerIo,
): RunningContainer {
  const signal = (name: 'SIGTERM' | 'SIGKILL'): void => {
    const { pid } = run.process;
    // The group outlives its leader; a recycled id would need a new session with the same number.
    if (!isAlive(run.process) && !groupIsAlive(pid)) return;
    // A shell on a terminal gives each of its jobs a group of its own.
    const targets = run.terminal === undefined ? [-pid] : sessionMembers(pid).map((member) => member.pid);
    for (const target of targets) {
      try {
        process.kill(target, name);
      } catch {
        // ended in this moment
      }
    }
  };
  const ended = over.then(async (): Promise<ContainerEnd> => {
    const finishedAt = new Date().toISOString();
    signal('SIGKILL'); // what the program left running goes with it
    io.endInput();
    const patience = setTimeout(() => io.close(), OUTPUT_DRAIN_MS);
    await io.done;
    clearTimeout(patience);
    const record = parseExitFile(readText(exitFile(dir, run.attempt)));
    const complaints = readText(setupFile(dir, run.attempt)).trim();
    if (record.kind === 'not-started') {
      log.end();
      return {
        kind: 'setup-failed',
        message: complaints || 'the container was killed while it started',
        finishedAt,
      };
    }
    const exitCode = record.kind === 'exited' ? record.code : 137;
    if ((exitCode === 126 || exitCode === 127) && complaints !== '')
      log.write(new CriLineSplitter('stderr').push(Buffer.from(`${complaints}\n`), new Date()));
    log.end();
    return { kind: 'exited', exitCode, finishedAt, message: readTerminationMessage(dir) };
  });
  const { hasTerminal, onOutput, openInput, resize } = io;
  return {
    run,
    ended,
    signal,
    isPrepared: () => parseExitFile(readText(exitFile(dir, run.attempt))).kind !== 'not-started',
    hasTerminal,
    onOutput,
    openInput,
    resize,
  };
}

function readText(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}
