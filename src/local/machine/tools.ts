// The programs of the machine that local mode calls: finding them, and running one to its end.

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';

/** tool → Debian package, as the error sentence names it. */
const PACKAGES = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  mount: 'util-linux',
  umount: 'util-linux',
  pivot_root: 'util-linux',
  ip: 'iproute2',
  nft: 'nftables',
  sh: 'dash',
  mkfifo: 'coreutils',
  sleep: 'coreutils',
} as const;

export type ToolName = keyof typeof PACKAGES;
/** Absolute paths. */
export type Tools = Readonly<Record<ToolName, string>>;

/** System tools stand outside an ordinary user's PATH on Debian. */
const SYSTEM_DIRS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
export const DEFAULT_PATH = SYSTEM_DIRS.join(':');

/** @throws MeshError TOOL_MISSING naming every missing tool with its package. */
export function findTools(path: string): Tools {
  const dirs = [...path.split(':').filter((dir) => dir.startsWith('/')), ...SYSTEM_DIRS];
  const missing: ToolName[] = [];
  const found: Partial<Record<ToolName, string>> = {};
  for (const tool of Object.keys(PACKAGES) as ToolName[]) {
    const dir = dirs.find((candidate) => isExecutable(join(candidate, tool)));
    if (dir === undefined) missing.push(tool);
    else found[tool] = join(dir, tool);
  }
  if (missing.length > 0) {
    const packages = [...new Set(missing.map((tool) => PACKAGES[tool]))].join(' ');
    throw new MeshError(
      'TOOL_MISSING',
      `local mode needs ${missing.join(', ')}; install ${packages}, e.g.: sudo apt-get install ${packages}`,
      { details: { tools: missing.join(' '), packages } },
    );
  }
  return found as Tools;
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface CommandResult {
  /** 128 + signal when a signal ended it, as a shell counts. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Then SIGKILL; 20 s unless told otherwise. */
  readonly timeoutMs?: number;
}

/** Runs a program to its end. Rejects only when it cannot be started or outlives its time. */
export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { input, env = { PATH: DEFAULT_PATH }, timeoutMs = 20_000 } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env, cwd: '/', stdio: ['pipe', 'pipe', 'pipe'] });
    const what = `${file} ${args.slice(0, 6).join(' ')}`;
    let stdout = '';
    let stderr = '';
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(MeshError.from(error, 'LOCAL_MACHINE_FAILED', `cannot start ${what}`));
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (timedOut) {
        reject(new MeshError('LOCAL_MACHINE_FAILED', `${what} did not end within ${timeoutMs} ms`));
      } else {
        resolve({ code: code ?? 128 + (signal === 'SIGKILL' ? 9 : 15), stdout, stderr });
      }
    });
    // A program may end without reading its input; its exit code tells why.
    child.stdin.on('error', () => {});
    child.stdin.end(input ?? '');
  });
}

/** As `runCommand`, but a non-zero exit is a MeshError with what the program said. */
export async function mustRun(
  file: string,
  args: readonly string[],
  options: CommandOptions & { readonly doing: string },
): Promise<string> {
  const result = await runCommand(file, args, options);
  if (result.code === 0) return result.stdout;
  const said = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(0, 4).join('; ');
  if (/operation not supported|unknown device type|No such file or directory.*netfilter/i.test(said)) {
    throw new MeshError('KERNEL_FEATURE_MISSING', `${options.doing}: the kernel refuses it: ${said}`);
  }
  throw new MeshError('LOCAL_MACHINE_FAILED', `${options.doing}: exit code ${result.code}: ${said}`);
}
