// `culvert up`: FRONT. Starts the machine, brings the mesh up in it, shows it, and ends it all on Ctrl-C.

import { writeFileSync } from 'node:fs';
import { uptime } from 'node:os';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { MeshError } from '#base/errors.ts';
import type { UpFlags } from '#cli/command.ts';
import { interruptHandler } from '#cli/interrupt.ts';
import { createProgram } from '#cli/program.ts';
import { runProgram } from '#cli/run.ts';
import { createSteps } from '#cli/screen/steps.ts';
import { styleFor } from '#cli/style.ts';
import { bringUpMesh } from '#cli/up.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { startMachine } from '#local/machine/front.ts';
import { readReplacements } from '#local/machine/replacements.ts';
import { createLogger } from '#telemetry/log.ts';
import { actions } from './lib/actions.ts';
import { contextWith } from './lib/context.ts';
import { end } from './lib/end.ts';
import { env, projectDir, runDirOf, version } from './lib/person.ts';

/** By then the mesh stands, and what is left to do is to wait and to print. */
const SETTLED_MS = 15_000;

// In seconds since boot, by the launcher. The age of this process would not do: it may have been npm's set-up before.
const launchedAtS = Number(env.CULVERT_LAUNCHED_AT ?? uptime() - process.uptime());
const startedAtMs = performance.now() - (uptime() - launchedAtS) * 1000;
const monotonicMs = (): number => performance.now();

async function up(flags: UpFlags): Promise<void> {
  const isTerminal = process.stdout.isTTY === true;
  const style = styleFor(isTerminal, env);
  const write = (text: string): void => void process.stdout.write(text);
  const steps = createSteps({ write, isTerminal, style, monotonicMs, startedAtMs });
  const log = createLogger('up', {
    format: 'plain',
    level: env.CULVERT_DEBUG === '1' ? 'debug' : 'warn',
    write: (line) => process.stderr.write(line),
  });
  const stateDir = resolve(flags.stateDir);
  const stopping = new AbortController();

  const path = `${env.PATH ?? ''}:/usr/sbin:/sbin`;
  const replacements = readReplacements(flags, { path, cwd: process.cwd() });

  write(`${style.bold('Culvert')} ${style.dim(`${version()} — a service mesh on this machine`)}\n`);
  const frontReadyMs = monotonicMs();
  steps.done('launcher and front', frontReadyMs - startedAtMs);
  const machine = await startMachine({
    stateDir,
    runDir: runDirOf(stateDir),
    root: projectDir,
    node: process.execPath,
    apiPort: flags.apiPort,
    ...(flags.ipFamily === undefined ? {} : { ipFamily: flags.ipFamily }),
    ...(flags.nodes === undefined ? {} : { nodeCount: flags.nodes }),
    ...(flags.image === undefined ? {} : { images: flags.image }),
    log,
    onStep: ({ step, ms }) => steps.done(step, ms),
    replacements,
    path,
  });
  let interrupted = false;
  const onInterrupt = interruptHandler({
    monotonicMs,
    inOrder: () => {
      interrupted = true;
      stopping.abort();
    },
    atOnce: () => process.exit(130), // the machine ends with this process
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onInterrupt);
  // If the machine ends by itself, so does this command, with the machine's reason.
  const ended = machine.exited.then((exit) => {
    if (exit.kind === 'failed') throw exit.error;
    if (!interrupted) throw new MeshError('LOCAL_MACHINE_FAILED', 'the machine ended by itself');
  });
  try {
    const shown = machine.ready.then(async ({ kubeconfig }) => {
      const kubeconfigPath = join(stateDir, 'kubeconfig');
      writeFileSync(kubeconfigPath, kubeconfig, { mode: 0o600 });
      setTimeout(() => globalThis.gc?.(), SETTLED_MS).unref();
      const client = createRestClient(kubeconfigEndpoint(kubeconfig));
      try {
        await bringUpMesh(
          { client, steps, style, write, monotonicMs },
          {
            projectDir,
            version: version(),
            bare: flags.bare === true,
            sample: flags.sample,
            timings: flags.timings ?? false,
            replaced: new Map(replacements.map(({ program, argv }) => [program, dirname(argv[0] as string)])),
            replacedOn: replacements.flatMap(({ node }) => node ?? []),
            startedAtMs,
            signal: stopping.signal,
            nextSteps: {
              kubeconfigPath,
              culvert: fromHere('bin/culvert'),
              examplesDir: fromHere('examples'),
            },
          },
        );
      } finally {
        client.close();
      }
    });
    const interruption = new Promise<void>((resolve) =>
      stopping.signal.addEventListener('abort', () => resolve(), { once: true }),
    );
    await Promise.race([shown, ended, interruption]);
  } catch (error) {
    if (!interrupted) throw error;
  } finally {
    if (interrupted) write(`\n${style.dim('ending the mesh …')}\n`);
    stopping.abort();
    await machine.stop();
    await ended.catch(() => {});
  }
}

/** A path of the project as the person can paste it: relative when that is shorter. */
function fromHere(path: string): string {
  const absolute = join(projectDir, path);
  const short = relative(process.cwd(), absolute);
  return short.startsWith('..') || isAbsolute(short) ? absolute : short;
}

const context = contextWith({ ...actions, up });
await runProgram(createProgram(context), ['up', ...process.argv.slice(2)], context);
end();
