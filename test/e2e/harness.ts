// Starts the local mesh as a person does (`bin/culvert up`) in a state directory of its own, and gives tests and
// benchmarks hands on it: the API client, kubectl, logs, processes. `stop` leaves nothing behind and says so if it does.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { KubeClient } from '#k8s/client.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { freePort } from '../lib/free-port.ts';
import type { OrdinaryUser } from './ordinary-user.ts';

/** What the field's programs are called. */
const PEER_FILES: Readonly<Record<string, string>> = { control: 'pilot-discovery', cni: 'install-cni' };

export const projectDir = join(import.meta.dirname, '../..');
const culvert = join(projectDir, 'bin/culvert');
const run = promisify(execFile);

export interface Mesh {
  readonly client: KubeClient;
  readonly kubeconfigPath: string;
  /** The `culvert up` process. */
  readonly up: ChildProcess;
  /** Everything it has printed so far. */
  screen(): string;
  kubectl(...args: string[]): Promise<string>;
  /** kubectl that reads a manifest from standard input. */
  apply(manifest: string): Promise<string>;
  /** Runs a command in a node's network namespace. */
  inNode(node: string, ...command: string[]): Promise<string>;
  spawnInNode(node: string, ...command: string[]): ChildProcess;
  /** Another `culvert` command on this mesh. */
  culvert(...words: string[]): Promise<string>;
  processes(): MeshProcess[];
  /** The one process that runs a program, on a node if the program runs on each. */
  pidOf(program: string, node?: string): number;
  /** Refusals that a test provokes: their log line matches. Any other one makes `stop` fail. */
  expectDenied(line: RegExp): void;
  /** Fails when the API server has refused anybody anything that no test has announced. */
  stop(): Promise<void>;
}

export interface MeshProcess {
  readonly pid: number;
  readonly parent: number;
  readonly commandLine: string;
  /** A shell or nsenter that started a program has the same words in its command line. */
  readonly executable: string;
  readonly environment: Readonly<Record<string, string>>;
}

export interface MeshOptions {
  readonly sample?: boolean;
  readonly readyLine?: RegExp;
  /** Further flags of `culvert up`. */
  readonly flags?: readonly string[];
  /** Whoever runs the tests, unless given. */
  readonly user?: OrdinaryUser;
}

export async function startMesh(options: MeshOptions = {}): Promise<Mesh> {
  const stateDir = mkdtempSync(join(tmpdir(), 'culvert-e2e-'));
  const apiPort = await freePort();
  const args = [
    'up',
    '--state-dir',
    stateDir,
    '--api-port',
    String(apiPort),
    ...(options.sample === false ? ['--no-sample'] : []),
    ...(options.flags ?? []),
  ];
  const { user } = options;
  user?.own(stateDir);
  const command = (...words: string[]): [string, string[]] =>
    user === undefined ? [culvert, words] : user.command(culvert, words);
  const up = spawn(...command(...args), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: user === undefined ? process.env : { ...process.env, HOME: stateDir },
  });
  let printed = '';
  for (const stream of [up.stdout, up.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      printed += text;
    });
  }
  const readyLine = options.readyLine ?? /Ctrl-C ends the mesh/;
  try {
    await until(
      () => {
        if (up.exitCode !== null || up.signalCode !== null)
          throw new Error(`culvert up ended early:\n${printed}`);
        return readyLine.test(printed);
      },
      'the mesh to come up',
      90_000,
    );
  } catch (error) {
    up.kill('SIGKILL');
    rmSync(stateDir, { recursive: true, force: true });
    throw new Error(`${(error as Error).message}\n--- printed so far:\n${printed}`);
  }
  const kubeconfigPath = join(stateDir, 'kubeconfig');
  const client = createRestClient(kubeconfigEndpoint(readFileSync(kubeconfigPath, 'utf8')));
  const environment = { ...process.env, KUBECONFIG: kubeconfigPath, HOME: stateDir };

  const kubectl = async (...args: string[]): Promise<string> => {
    try {
      // A slow machine makes long logs.
      const options = { env: environment, timeout: 60_000, maxBuffer: 256 * 1024 * 1024 };
      return (await run('kubectl', args, options)).stdout;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
        throw new Error(
          'kubectl is missing; `npm test` installs it (Debian: apt-get install kubernetes-client)',
        );
      }
      throw error;
    }
  };

  const expectedDenials: RegExp[] = [];
  const mesh: Mesh = {
    client,
    kubeconfigPath,
    up,
    screen: () => printed,
    kubectl,
    apply: (manifest) => feed('kubectl', ['apply', '-f', '-'], manifest, environment),
    inNode: async (node, ...words) =>
      (
        await run(...command('node', 'exec', node, '--state-dir', stateDir, '--', ...words), {
          timeout: 60_000,
        })
      ).stdout,
    spawnInNode: (node, ...words) =>
      spawn(...command('node', 'exec', node, '--state-dir', stateDir, '--', ...words), {
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    culvert: async (...words) =>
      (await run(...command(...words, '--state-dir', stateDir), { timeout: 60_000 })).stdout,
    processes: () => descendants(up.pid as number),
    pidOf(program, node) {
      const candidates = mesh.processes().filter(
        ({ commandLine, executable, environment }) =>
          // Somebody else's program is known by its file.
          (executable.endsWith('/node')
            ? programOf(commandLine) === program
            : executable.endsWith(`/${PEER_FILES[program] ?? program}`)) &&
          (node === undefined || environment.NODE_NAME === node),
      );
      // A program that is about to start another one is twice there for a moment.
      const matching = candidates.filter(({ parent }) => !candidates.some(({ pid }) => pid === parent));
      if (matching.length !== 1) {
        throw new Error(
          `expected one ${program}${node === undefined ? '' : ` on ${node}`}, found ${matching.length}`,
        );
      }
      return (matching[0] as MeshProcess).pid;
    },
    expectDenied: (line) => void expectedDenials.push(line),
    async stop() {
      const before = descendants(up.pid as number).map(({ pid }) => pid);
      client.close();
      up.kill('SIGINT');
      try {
        await until(() => up.exitCode !== null || up.signalCode !== null, 'culvert up to end');
      } catch (error) {
        up.kill('SIGKILL'); // its pipes would hold this test's process
        throw error;
      }
      await until(() => before.every((pid) => !isAlive(pid)), 'every process of the mesh to end');
      const denials = deniedIn(join(stateDir, 'run/local.log')).filter(
        (line) => !expectedDenials.some((expected) => expected.test(line)),
      );
      rmSync(stateDir, { recursive: true, force: true });
      if (denials.length > 0)
        throw new Error(
          `the API server refused what nobody should have asked for, or what a role lacks:\n${denials.join('\n')}`,
        );
    },
  };
  return mesh;
}

/** The refusals of authorization in LOCAL's log, which goes on through restarts of LOCAL. */
function deniedIn(log: string): string[] {
  return readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line.includes('\taccess denied\t'));
}

/** Polls until the condition holds; the limit is generous because the machine may be slow, never because it must be. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 60_000,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${limitMs / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function isAlive(pid: number): boolean {
  try {
    // A zombie still has a directory; its state says that it is over.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** `…/dist/local.mjs …`, and process titles such as `local` or `culvert-local`, name the program `local`. */
function programOf(commandLine: string): string {
  const words = commandLine.split(' ').filter((word) => word !== '');
  const bundle = words.find((word) => /\/dist\/[\w-]+\.mjs$/.test(word));
  return bundle === undefined
    ? (words[0] ?? '').replace(/^culvert-/, '')
    : bundle.replace(/^.*\/dist\/|\.mjs$/g, '');
}

function descendants(root: number): MeshProcess[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readProcess(Number(name)));
  const wanted = new Set([root]);
  const found: MeshProcess[] = [];
  for (let grew = true; grew; ) {
    grew = false;
    for (const candidate of all) {
      if (!wanted.has(candidate.pid) && wanted.has(candidate.parent)) {
        wanted.add(candidate.pid);
        found.push(candidate);
        grew = true;
      }
    }
  }
  return found;
}

function readProcess(pid: number): MeshProcess[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
    const environment = Object.fromEntries(
      readFileSync(`/proc/${pid}/environ`, 'utf8')
        .split('\0')
        .filter((pair) => pair.includes('='))
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]),
    );
    return [{ pid, parent, commandLine, environment, executable: readlinkSync(`/proc/${pid}/exe`) }];
  } catch {
    return []; // It ended while we looked.
  }
}

function feed(command: string, args: string[], input: string, env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { env, timeout: 60_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${command} ${args.join(' ')}: ${stderr || error.message}`));
    });
    child.stdin?.end(input);
  });
}
