// `npm run fuzz [-- [--seed N] [--seconds N] [TARGET…]]`: changed inputs for every decoder, or for those named. A failing input
// is made small and saved, and the command that tries it again is printed.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { TARGETS } from './targets/all.ts';
import { runWatched } from './watched.ts';

const USAGE = `usage: npm run fuzz -- [--seed N] [--seconds N] [--input FILE] [TARGET…]
  --seed N      repeats the run with that seed (the seed of each run is printed)
  --seconds N   for how long each target is tried (default 10)
  --input FILE  tries this one input on the one target named
targets: ${TARGETS.map(({ name }) => name).join(' ')}`;

/** Beside the sources, and known to .gitignore. */
const SAVED = join(import.meta.dirname, 'failures');

function fail(why: string): never {
  console.error(`fuzz: ${why}\n${USAGE}`);
  process.exit(2);
}

function number(text: string, option: string): number {
  if (!/^\d{1,10}$/.test(text)) fail(`--${option} is ${JSON.stringify(text)}, expected a whole number`);
  return Number(text);
}

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        seed: { type: 'string' },
        seconds: { type: 'string', default: '10' },
        input: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
  } catch (error) {
    return fail((error as Error).message);
  }
}

const { values, positionals } = parsed();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const seed = values.seed === undefined ? Date.now() >>> 0 : number(values.seed, 'seed');
const maxMs = number(values.seconds, 'seconds') * 1000;
for (const name of positionals)
  if (!TARGETS.some((target) => target.name === name)) fail(`there is no target ${JSON.stringify(name)}`);
if (values.input !== undefined && positionals.length !== 1) fail('--input needs exactly one target');
const names = positionals.length > 0 ? positionals : TARGETS.map(({ name }) => name);

console.log(`fuzz: seed ${seed}`);
let failures = 0;
for (const target of names) {
  const input = values.input === undefined ? undefined : readFileSync(values.input);
  const maxInputs = Number.MAX_SAFE_INTEGER;
  const { inputs, kinds, failure } = await runWatched({ target, seed, maxInputs, maxMs, input });
  if (failure === undefined) {
    console.log(`${target.padEnd(26)} ${inputs} inputs, ${kinds} kinds of outcome`);
    continue;
  }
  failures++;
  mkdirSync(SAVED, { recursive: true });
  const digest = createHash('sha256').update(failure.input).digest('hex').slice(0, 12);
  const file = join(SAVED, `${target}-${digest}`);
  writeFileSync(file, failure.input);
  console.log(`${target.padEnd(26)} FAILED after ${inputs} inputs: ${failure.what}`);
  console.log(`  again: npm run fuzz -- --input ${relative(process.cwd(), file)} ${target}`);
}
console.log(failures === 0 ? 'fuzz: nothing found' : `fuzz: ${failures} of ${names.length} targets failed`);
process.exit(failures === 0 ? 0 : 1);
