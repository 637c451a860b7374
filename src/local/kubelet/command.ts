// One command in a running container (kubectl exec): joined to its namespaces, with its environment, in a session of its own,
// so that everything it started can be ended with it.

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync, readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Duplex, Readable, Writable } from 'node:stream';
import { sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import { makePipe, type Pipe } from '#linux/pipe.ts';
import { openTerminal, setTerminalSize, TerminalStream } from '#linux/pty.ts';
import { isAlive, sessionMembers } from '#local/machine/process-id.ts';
import type { Tools } from '#local/machine/tools.ts';
import type { CommandEnd, CommandStreams, ExecOptions } from '#local/streams/pod-streams.ts';
import { type RunningContainer, whenPrepared } from './container.ts';
import { followSize } from './terminal-size.ts';

/** What the command left running may hold its output open; so long without a byte, and we stop listening. */
const QUIET_MS = 500;
/** Between TERM and KILL when the client is gone. */
const GRACE_MS = 2000;

/** Never rejects. */
export async function runCommandIn(
  tools: Tools,
  container: RunningContainer,
  { command, tty }: ExecOptions,
  streams: CommandStreams,
): Promise<CommandEnd> {
  try {
    if (!(await whenPrepared(container)))
      return { kind: 'failed', message: 'the container ended before the command could start' };
    const { pid } = container.run.process;
    const argv = enterArguments(tools, pid, command);
    const env = environmentOf(pid);
    return await (tty
      ? runOnTerminal(tools, argv, env, container, streams)
      : runOnPipes(argv, env, container, streams));
  } catch (error) {
    return { kind: 'failed', message: `cannot start ${JSON.stringify(command[0])}: ${reasonOf(error)}` };
  }
}

/** The first process stays what it was started with: exactly what the container's program was given. */
function environmentOf(pid: number): Record<string, string> {
  const pairs = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  return Object.fromEntries(
    pairs
      .filter((pair) => pair.includes('='))
      .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
  );
}

function enterArguments(tools: Tools, pid: number, command: readonly string[]): string[] {
  const of = (what: string): string => `/proc/${pid}/${what}`;
  return [
    // Should LOCAL be killed, nobody is left to end the command.
    tools.setpriv,
    '--pdeathsig',
    'KILL',
    tools.nsenter,
    `--mount=${of('ns/mnt')}`,
    `--net=${of('ns/net')}`,
    `--wd=${of('cwd')}`,
    '--',
    ...command,
  ];
}

async function runOnPipes(
  argv: readonly string[],
  env: Record<string, string>,
  container: RunningContainer,
  streams: CommandStreams,
): Promise<CommandEnd> {
  const childFds: number[] = [];
  const ours: Socket[] = [];
  try {
    const pipe = (): Pipe => makePipe();
    const input = streams.stdin === undefined ? undefined : pipe();
    const outputs = ([streams.stdout, streams.stderr] as const).map((client) =>
      client === undefined ? undefined : { client, ...pipe() },
    );
    if (input !== undefined) {
      childFds.push(input.readFd);
      const writer = new Socket({ fd: input.writeFd, readable: false, writable: true });
      ours.push(writer);
      feed(streams.stdin!, writer);
    }
    const drains: Output[] = [];
    for (const output of outputs) {
      if (output === undefined) continue;
      childFds.push(output.writeFd);
      const reader = new Socket({ fd: output.readFd, readable: true, writable: false });
      ours.push(reader);
      drains.push(follow(reader, output.client));
    }
    const [stdout, stderr] = outputs;
    const child = launch(argv, {
      env,
      stdio: [input?.readFd ?? 'ignore', stdout?.writeFd ?? 'ignore', stderr?.writeFd ?? 'ignore'],
    });
    return await untilOver(child, container, streams, drains, () => {
      for (const fd of childFds.splice(0)) closeSync(fd);
    });
  } finally {
    for (const fd of childFds) closeSync(fd);
    for (const socket of ours) socket.destroy();
  }
}

/** Run by the leader of a new session: opening the terminal makes it the controlling one. */
const TAKE_TERMINAL = 'exec <>"$0" >&0 2>&0; exec "$@"';

async function runOnTerminal(
  tools: Tools,
  argv: readonly string[],
  env: Record<string, string>,
  container: RunningContainer,
  streams: CommandStreams,
): Promise<CommandEnd> {
  const { masterFd, slavePath } = openTerminal();
  const terminal = new TerminalStream(masterFd);
  try {
    await followSize(streams, (size) => {
      if (!terminal.destroyed) setTerminalSize(masterFd, size);
    });
    if (streams.stdin !== undefined) feed(streams.stdin, terminal, { end: false });
    const output = follow(terminal, streams.stdout);
    const child = launch([tools.sh, '-c', TAKE_TERMINAL, slavePath, ...argv], {
      env: { TERM: 'xterm', ...env },
      stdio: 'ignore',
    });
    return await untilOver(child, container, streams, [output], () => {});
  } finally {
    terminal.destroy();
  }
}

function launch([file, ...args]: readonly string[], options: SpawnOptions): ChildProcess {
  return spawn(file!, args, { ...options, cwd: '/', detached: true });
}

async function untilOver(
  child: ChildProcess,
  container: RunningContainer,
  { gone }: CommandStreams,
  outputs: readonly Output[],
  onSpawned: () => void,
): Promise<CommandEnd> {
  const end = new Promise<CommandEnd>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      resolve({ kind: 'exited', code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]) }),
    );
  });
  end.catch(() => {}); // awaited below, after the descriptors are closed
  onSpawned();
  const session = child.pid;
  let over = false;
  const stop = (graceMs: number) => (): void => {
    if (!over && session !== undefined) void endSession(session, graceMs);
    for (const output of outputs) output.stop();
  };
  const onGone = stop(GRACE_MS);
  gone.addEventListener('abort', onGone, { once: true });
  if (gone.aborted) onGone();
  // A command is a part of its container: it does not outlive it.
  container.ended.then(stop(0), stop(0));
  try {
    const result = await end;
    await Promise.all(outputs.map((output) => output.drained()));
    return result;
  } finally {
    over = true;
    gone.removeEventListener('abort', onGone);
  }
}

/** TERM and HUP, then KILL, for every process of the session. Never rejects. */
async function endSession(sessionId: number, graceMs: number): Promise<void> {
  const signal = (name: 'SIGTERM' | 'SIGHUP' | 'SIGKILL'): void => {
    for (const { pid } of sessionMembers(sessionId)) {
      try {
        process.kill(pid, name);
      } catch {
        // ended in this moment
      }
    }
  };
  const first = sessionMembers(sessionId);
  if (graceMs > 0) {
    signal('SIGTERM');
    signal('SIGHUP');
    for (let leftMs = graceMs; leftMs > 0 && first.some(isAlive); leftMs -= 50) await sleep(50);
  }
  // Only while one of the processes we know is left is the number of the session certainly ours.
  if (first.some(isAlive)) signal('SIGKILL');
}

/** The client's input into the command. When the command closes its side, the rest is read and dropped. */
function feed(stdin: Readable, into: Writable, options?: { readonly end: boolean }): void {
  const drop = (): void => {
    stdin.unpipe(into);
    stdin.resume();
  };
  into.on('error', drop);
  into.on('close', drop);
  stdin.pipe(into, options);
}

interface Output {
  /** After the command's end: everything it wrote has been handed on, or nobody can take it. */
  drained(): Promise<void>;
  stop(): void;
}

/** The command's output to the client, who slows it down by not reading. */
function follow(reader: Duplex, client: Writable | undefined): Output {
  let lastMs = performance.now();
  let finish: () => void = () => {};
  const over = new Promise<void>((resolve) => {
    finish = resolve;
  });
  reader.on('data', () => {
    lastMs = performance.now();
  });
  reader.on('error', () => {}); // followed by close
  reader.on('end', () => finish());
  reader.on('close', () => finish());
  if (client === undefined) reader.resume();
  else {
    client.on('close', () => finish());
    reader.pipe(client, { end: false });
  }
  return {
    stop: finish,
    drained: async () => {
      lastMs = performance.now();
      const look = setInterval(() => {
        // Held up by the client, or still flowing: not over.
        if (client?.writableNeedDrain === true) lastMs = performance.now();
        if (performance.now() - lastMs > QUIET_MS) finish();
      }, QUIET_MS / 5);
      await over;
      clearInterval(look);
    },
  };
}
