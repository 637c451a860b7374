// Runs a page's blocks as a person would: one shell's exports hold for the next block, long-running commands get a
// terminal of their own.

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { projectDir, until } from '../harness.ts';
import type { DocBlock } from './doc-blocks.ts';

const run = promisify(execFile);

export interface Running {
  readonly child: ChildProcess;
  printed(): string;
  /** Ctrl-C. */
  stop(): Promise<void>;
}

export class DocShell {
  readonly #env: NodeJS.ProcessEnv;
  #exports = '';

  constructor(env: NodeJS.ProcessEnv) {
    this.#env = env;
  }

  /** What the block printed. Fails, with all of it, when one of its commands does. */
  async run({ commands, line }: Pick<DocBlock, 'commands' | 'line'>): Promise<string> {
    try {
      const { stdout, stderr } = await run('bash', ['-e', '-c', `${this.#exports}\n${commands}`], {
        cwd: projectDir,
        env: this.#env,
        timeout: 120_000,
      });
      for (const text of commands.split('\n')) if (text.startsWith('export ')) this.#exports += `${text}\n`;
      return stdout + stderr;
    } catch (error) {
      const { stdout, stderr, message } = error as Error & { stdout: string; stderr: string };
      throw new Error(`the block at line ${line} failed: ${message}\n${stdout}${stderr}`);
    }
  }

  start(commands: string): Running {
    const child = spawn('bash', ['-c', `${this.#exports}\nexec ${commands}`], {
      cwd: projectDir,
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let printed = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        printed += text;
      });
    }
    const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
    return {
      child,
      printed: () => printed,
      async stop() {
        if (ended()) return;
        const group = child.pid as number;
        // As a terminal does: to everything in the foreground.
        process.kill(-group, 'SIGINT');
        try {
          await until(ended, `"${commands}" to end`, 30_000);
        } catch (error) {
          const left = await run('ps', ['-o', 'pid,ppid,stat,wchan:20,args', '-g', String(group)]).then(
            ({ stdout }) => stdout,
            () => 'none',
          );
          // It holds the pipes, and with them this test's process.
          process.kill(-group, 'SIGKILL');
          throw new Error(`${(error as Error).message}; still there:\n${left}\nit printed:\n${printed}`);
        }
      },
    };
  }
}
