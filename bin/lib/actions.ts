// What the command line cannot reach itself, because it lies in src/local: loaded when a command asks for it.

import { execFile, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import type { Actions } from '#cli/command.ts';
import { createLogger, type Logger } from '#telemetry/log.ts';
import { env, runDirOf } from './person.ts';

const COMPLAINTS_LIMIT = 10_000;
const OUTPUT_LIMIT_MS = 30_000;
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024;

/** The one way into a node, for commands whose output is shown, read whole, or read as it comes. */
async function inNode(
  node: string,
  command: readonly string[],
  stateDir: string,
): Promise<[string, string[]]> {
  const { enterNode } = await import('#local/machine/enter.ts');
  const { args, owner, hasOneUid } = enterNode(runDirOf(stateDir), node);
  if (owner !== undefined) {
    process.setgroups?.([owner.gid]);
    process.setgid?.(owner.gid);
    process.setuid?.(owner.uid);
  }
  if (hasOneUid) (await import('#linux/identity-calls.ts')).pretendIdentityChanges();
  return ['nsenter', [...args, ...command]];
}

export const actions: Actions = {
  // The launcher hands `up` to its own bundle; only `culvert help up` comes here.
  up: () => Promise.resolve(),

  async down({ stateDir, purge = false }) {
    const { purgeState, stopMachine } = await import('#local/machine/down.ts');
    const result = await stopMachine(runDirOf(resolve(stateDir)), plainLogger('down'));
    const said = {
      stopped: 'The mesh has ended; its state stays for the next start.',
      'leftover-ended': 'What a killed culvert up had left was ended; the state stays for the next start.',
      'nothing-ran': `No mesh ran from ${stateDir}.`,
    }[result.kind];
    if (!purge) return said;
    const others = purgeState(resolve(stateDir));
    const kept = others.length === 0 ? '' : ` Not ours and left there: ${others.join(', ')}.`;
    return `${said.replace(/; (its|the) state stays for the next start/, '')} Its state in ${stateDir} is removed.${kept}`;
  },

  async nodeExec(node, command, { stateDir }) {
    const child = spawn(...(await inNode(node, command, stateDir)), { stdio: 'inherit' });
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
    process.exitCode = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) =>
        resolve(code ?? (signal === 'SIGINT' || signal === 'SIGTERM' ? 0 : 1)),
      );
    });
  },

  async nodeOutput(node, command, { stateDir }) {
    const { stdout } = await promisify(execFile)(...(await inNode(node, command, stateDir)), {
      timeout: OUTPUT_LIMIT_MS,
      maxBuffer: OUTPUT_LIMIT_BYTES,
    });
    return stdout;
  },

  async nodeSpawn(node, command, { stateDir }) {
    const child = spawn(...(await inNode(node, command, stateDir)), { stdio: ['ignore', 'pipe', 'pipe'] });
    let complaints = '';
    let stopped = false;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (complaints.length < COMPLAINTS_LIMIT) complaints += text;
    });
    const ended = new Promise<{ code: number | null; complaints: string }>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve({ code: stopped ? null : code, complaints }));
    });
    // Whoever reads the output awaits it afterwards; until then it is nobody's failure.
    ended.catch(() => {});
    return {
      output: child.stdout,
      ended,
      stop: () => {
        stopped = true;
        child.kill('SIGTERM');
      },
    };
  },
};

function plainLogger(scope: string): Logger {
  return createLogger(scope, {
    format: 'plain',
    level: env.CULVERT_DEBUG === '1' ? 'debug' : 'warn',
    write: (line) => process.stderr.write(line),
  });
}
