// FRONT: the part of `culvert up` outside the machine. Binds the host's port, starts the machine with that listener
// inherited, hears what LOCAL reports, and ends it all. What happens inside is local.ts.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { sleep } from '#base/clock.ts';
import type { ErrorCode } from '#base/error-codes.ts';
import { errnoOf, MeshError, reasonOf } from '#base/errors.ts';
import type { Logger } from '#telemetry/log.ts';
import { sendHostPort } from './host-ports.ts';
import { clusterFamily } from './ip-family.ts';
import { acquireMachineLock, type MachineLock } from './lock.ts';
import {
  EXIT_STOPPED,
  type MachineConfig,
  type MachineReady,
  parseLocalMessage,
  type Step,
} from './messages.ts';
import { EXIT_KEEPS_DYING, machineArguments, newNamespaces } from './pid-one.ts';
import type { ClusterFamily } from './plan.ts';
import type { Replacement } from './replacements.ts';
import { diagnoseNamespaces, type RightsFacts, readRightsFacts } from './rights.ts';
import { DEFAULT_PATH, findTools, runCommand, type Tools } from './tools.ts';

export interface MachineOptions {
  /** Kept between runs: the cluster's objects, keys, kubeconfig. */
  readonly stateDir: string;
  /** Of this run: logs, the lock. */
  readonly runDir: string;
  /** The project's directory. */
  readonly root: string;
  /** Absolute path of the Node binary. */
  readonly node: string;
  readonly apiPort?: number;
  readonly replacements?: readonly Replacement[];
  /** As `culvert up --ip-family`; a new cluster has both where the kernel has both. */
  readonly ipFamily?: ClusterFamily;
  /** As `culvert up --nodes`. */
  readonly nodeCount?: number;
  /** As `culvert up --image`: image name → command line. */
  readonly images?: Readonly<Record<string, string>>;
  readonly log: Logger;
  readonly onStep?: (step: Step) => void;
  /** Where tools and programs are looked for, as PATH. */
  readonly path?: string;
}

export type MachineExit =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'failed'; readonly error: MeshError };

export interface Machine {
  /** The API answers and every node is Ready. Rejects with the reason when the machine ends first. */
  readonly ready: Promise<MachineReady>;
  /** Never rejects. */
  readonly exited: Promise<MachineExit>;
  /** Pid of the machine's `unshare`, in the host's pid namespace. */
  readonly pid: number;
  /** Ends LOCAL, pods and namespaces; resolves when nothing is left. */
  stop(): Promise<void>;
}

const API_PORT = 16_443;
/** Pods get STOP_GRACE_MS of it (local.ts); the rest is margin for a busy machine. */
const STOP_LIMIT_MS = 10_000;

/** @throws MeshError PORT_IN_USE, TOOL_MISSING, KERNEL_FEATURE_MISSING, NAMESPACES_FORBIDDEN, LOCAL_MACHINE_FAILED (another one runs). */
export async function startMachine(options: MachineOptions): Promise<Machine> {
  const { stateDir, runDir, log, apiPort = API_PORT, path = DEFAULT_PATH } = options;
  const tools = findTools(path);
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  mkdirSync(runDir, { recursive: true, mode: 0o700 });
  const lock = await acquireMachineLock(runDir, log);
  try {
    const rights = readRightsFacts(process.getuid?.() ?? 0);
    await probeKernel(tools, rights);
    const ipFamily = clusterFamily(stateDir, options.ipFamily);
    const listener = await bindApiPort(apiPort);
    // What the last machine left here describes processes that are gone.
    rmSync(join(runDir, 'nodes'), { recursive: true, force: true });
    mkdirSync(join(runDir, 'nodes'), { mode: 0o700 });
    const logPath = join(runDir, 'local.log');
    const logFd = openSync(logPath, 'w', 0o600);
    try {
      const config: MachineConfig = {
        stateDir,
        runDir,
        root: options.root,
        node: options.node,
        apiPort,
        apiFd: API_FD,
        path,
        replacements: options.replacements ?? [],
        ipFamily,
        ...(options.nodeCount === undefined ? {} : { nodeCount: options.nodeCount }),
        ...(options.images === undefined ? {} : { images: options.images }),
        logLevel: log.enabled('debug') ? 'debug' : 'info',
      };
      const child = spawnMachine(tools, config, listener, logFd, !rights.isAdmin);
      return attach(child, lock, logPath, options);
    } finally {
      closeSync(logFd);
      listener.close();
    }
  } catch (error) {
    lock.release();
    throw error;
  }
}

const API_FD = 4;

function bindApiPort(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', (error) => {
      reject(
        errnoOf(error) === 'EADDRINUSE'
          ? new MeshError(
              'PORT_IN_USE',
              `127.0.0.1:${port} (the API server's port) is taken by another program; stop it (ss -ltnp 'sport = :${port}' names it) or choose another with --api-port`,
              { details: { port } },
            )
          : MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot listen on 127.0.0.1:${port}`),
      );
    });
    // The caller hands the socket on and closes it here before the event loop could accept anything from it.
    server.listen({ port, host: '127.0.0.1', backlog: 511 }, () => resolve(server));
  });
}

function spawnMachine(
  tools: Tools,
  config: MachineConfig,
  listener: Server,
  logFd: number,
  inUserNamespace: boolean,
): ChildProcess {
  // The descriptor of a server is not public in Node; the process that inherits it adopts it by `listen({fd})`.
  const { fd } = (listener as unknown as { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  if (fd === undefined || fd < 0)
    throw new MeshError(
      'LOCAL_MACHINE_FAILED',
      'this build of Node does not show the descriptor of a listener',
    );
  return spawn(tools.unshare, machineArguments(tools, config, inUserNamespace), {
    stdio: ['ignore', logFd, logFd, 'ipc', fd],
    cwd: '/',
    // A process group of its own: Ctrl-C at the terminal reaches FRONT only, which then stops the machine in order.
    detached: true,
    env: {
      PATH: config.path,
      HOME: '/root',
      LANG: 'C.UTF-8',
      MALLOC_ARENA_MAX: '1', // as in containers (container-plan.ts)
      NODE_COMPILE_CACHE: join(config.stateDir, 'cache'),
    },
  });
}

function attach(child: ChildProcess, lock: MachineLock, logPath: string, options: MachineOptions): Machine {
  const { log, onStep } = options;
  let stopping = false;
  let fatal: MeshError | undefined;
  let resolveReady: (ready: MachineReady) => void = () => {};
  let rejectReady: (error: MeshError) => void = () => {};
  const ready = new Promise<MachineReady>((resolve, reject) => {
    resolveReady = resolve;
    rejectReady = reject;
  });
  ready.catch(() => {}); // a caller that only waits for `exited` has heard of it there

  child.on('message', (value) => {
    const message = parseLocalMessage(value);
    if (message === undefined) return;
    switch (message.type) {
      case 'step':
        log.debug('step done', { step: message.step, ms: message.ms });
        onStep?.({ step: message.step, ms: message.ms });
        return;
      case 'ready':
        if (message.adoptedContainers > 0)
          log.warn('the local control process was started again', { adopted: message.adoptedContainers });
        resolveReady(message);
        return;
      case 'failed':
        fatal = new MeshError(message.code as ErrorCode, message.message);
        return;
      case 'host-port':
        sendHostPort(child, message, log);
        return;
    }
  });
  const exited = new Promise<MachineExit>((resolve) => {
    const ended = (error: MeshError | undefined): void => {
      lock.release();
      const failure = error ?? new MeshError('LOCAL_MACHINE_FAILED', 'the machine was stopped');
      rejectReady(failure);
      resolve(error === undefined ? { kind: 'stopped' } : { kind: 'failed', error });
    };
    child.on('error', (error) =>
      ended(MeshError.from(error, 'LOCAL_MACHINE_FAILED', 'cannot start the machine')),
    );
    child.on('exit', (code, signal) => {
      if (stopping || code === EXIT_STOPPED) ended(undefined);
      else ended(fatal ?? unexpectedEnd(code, signal, logPath));
    });
  });
  if (child.pid !== undefined) lock.own(child.pid);

  return {
    ready,
    exited,
    pid: child.pid ?? 0,
    async stop() {
      stopping = true;
      if (child.connected) {
        child.send({ type: 'stop' }, (error) => {
          if (error !== null) log.debug('the machine is gone already', { error: reasonOf(error) });
        });
      }
      const patience = new AbortController();
      const outcome = await Promise.race([exited, sleep(STOP_LIMIT_MS, patience.signal)]);
      patience.abort();
      if (outcome === undefined) {
        log.warn('the machine did not stop in time and is killed', { limitMs: STOP_LIMIT_MS });
        child.kill('SIGKILL'); // --kill-child takes everything inside with it
        await exited;
      }
    },
  };
}

function unexpectedEnd(code: number | null, signal: string | null, logPath: string): MeshError {
  const how =
    code === EXIT_KEEPS_DYING
      ? 'the local control process keeps ending'
      : `the machine ended (${signal ?? `exit code ${code}`})`;
  let tail = '';
  try {
    tail = readFileSync(logPath, 'utf8').trimEnd().split('\n').slice(-5).join('\n');
  } catch {
    // no log, nothing to add
  }
  return new MeshError('LOCAL_MACHINE_FAILED', `${how}; last lines of ${logPath}:\n${tail}`);
}

/** A try of what the machine needs, so that a missing right or feature is named instead of met halfway. */
async function probeKernel(tools: Tools, rights: RightsFacts): Promise<void> {
  const script = `${tools.ip} link add p0 type veth peer name p1 && echo 'add table ip probe' | ${tools.nft} -f -`;
  const args = [...newNamespaces(!rights.isAdmin), tools.sh, '-c', script];
  const { code, stderr } = await runCommand(tools.unshare, args);
  if (code !== 0) throw diagnoseNamespaces(stderr.trim().split('\n').slice(0, 3).join('; '), rights);
}
