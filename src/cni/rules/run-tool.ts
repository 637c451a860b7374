// Runs nft, iptables, ipset and ip, in our own namespace or in a pod's, and turns their words into one sentence.
//
// A tool is started while our thread is in the pod's namespace, which it inherits: by the very descriptor that ztunnel is
// given, so rules and listeners cannot end up in different namespaces, and without a program in between.

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { errnoOf, MeshError } from '#base/errors.ts';
import { inNetns } from '#linux/netns.ts';

const TOOL_TIMEOUT_MS = 10_000;
const PACKAGES: Readonly<Record<string, string>> = {
  nft: 'nftables',
  ip: 'iproute2',
};

const packageOf = (program: string): string =>
  PACKAGES[program] ?? (/^ip6?tables/.test(program) ? 'iptables' : program);

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Resolves with whatever exit code. @throws MeshError `TOOL_MISSING`, or `RULES_FAILED` when it cannot be run or hangs. */
export function runTool(
  netnsFd: number | undefined,
  command: readonly [string, ...string[]],
  input = '',
): Promise<ToolResult> {
  const [program, ...args] = command;
  const start = (): ChildProcessWithoutNullStreams =>
    spawn(program, args, {
      timeout: TOOL_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
  return new Promise((resolve, reject) => {
    const child = netnsFd === undefined ? start() : inNetns(netnsFd, start);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', (error) => {
      const missing = errnoOf(error) === 'ENOENT';
      reject(
        missing
          ? new MeshError(
              'TOOL_MISSING',
              `${program} is not installed: install the package ${packageOf(program)}`,
            )
          : MeshError.from(error, 'RULES_FAILED', `running ${command.join(' ')}`),
      );
    });
    child.on('close', (exitCode, signal) => {
      if (exitCode !== null) resolve({ exitCode, stdout, stderr });
      else
        reject(
          new MeshError(
            'RULES_FAILED',
            `${command.join(' ')} was ended by ${signal} after ${TOOL_TIMEOUT_MS / 1000} s`,
          ),
        );
    });
    // A tool that ends before it has read its input shows its reason in the exit code.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

/** The same, where anything but success is a failure. */
export async function runToolOrFail(
  netnsFd: number | undefined,
  command: readonly [string, ...string[]],
  input: string,
  purpose: string,
): Promise<string> {
  const { exitCode, stdout, stderr } = await runTool(netnsFd, command, input);
  if (exitCode === 0) return stdout;
  const words = stderr.trim().split('\n').slice(0, 3).join('; ');
  throw new MeshError('RULES_FAILED', `${purpose}: ${words === '' ? `exit code ${exitCode}` : words}`, {
    details: { command: command.join(' '), exitCode },
  });
}
