// The short form of `npm run fuzz`: a fixed number of inputs from a fixed seed for every decoder, and that the fuzzer finds
// what it is there to find.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { fuzz, smaller } from './engine.ts';
import { Random } from './random.ts';
import { refusedOr, type Target, texts } from './target.ts';
import { TARGETS } from './targets/all.ts';
import { runWatched } from './watched.ts';

const SEED = 20_260_101;
const INPUTS = 1500;

for (const target of TARGETS)
  test(`${target.name}: ${INPUTS} changed inputs`, async () => {
    const bounds = { seed: SEED, maxInputs: INPUTS, maxMs: Number.POSITIVE_INFINITY };
    const { inputs, kinds, failure } = await fuzz(target, bounds);
    assert.equal(
      failure,
      undefined,
      `${failure?.what}\ninput (base64): ${failure?.input.toString('base64')}`,
    );
    assert.equal(inputs, INPUTS);
    assert.ok(kinds > 1, 'inputs that all end alike test nothing');
  });

const found = async (target: Target): Promise<string> => {
  const { failure } = await fuzz(target, { seed: SEED, maxInputs: 20_000, maxMs: 60_000 });
  assert.ok(failure !== undefined, `nothing found in ${target.name}`);
  return failure.what;
};
const seeds = texts('one,two', '1,2,3');

test('an error that a decoder does not declare is found, and its input made small', async () => {
  const target: Target = {
    name: 'planted',
    seeds,
    run: (input) =>
      refusedOr(['CONFIG_INVALID'], () => {
        if (input.includes(',,')) throw new MeshError('CONNECT_FAILED', 'two commas');
        if (input.length > 60) throw new MeshError('CONFIG_INVALID', 'too long');
      }),
  };
  assert.match(await found(target), /two commas/);
  assert.equal(String(await smaller(target, Buffer.from('a lot,of text,,and more'))), ',,');
});

test('work beyond the linear is found', async () => {
  const run = (input: Buffer): string => String(/,+x/.test(String(input)));
  assert.match(
    await found({ name: 'planted', seeds, tokens: [Buffer.from(',')], maxBytes: 32_768, run }),
    /ms of CPU/,
  );
});

test('memory out of proportion is found', async () => {
  const run = (input: Buffer): string => {
    const size = input.includes('5') ? 1 << 27 : 1;
    return String(new Uint8Array(size).length);
  };
  assert.match(await found({ name: 'planted', seeds, run }), /MiB of memory/);
});

test('the same seed makes the same inputs', async () => {
  const inputsOf = async (seed: number): Promise<string[]> => {
    const seen: string[] = [];
    const run = (input: Buffer): string => String(input.length);
    await fuzz(
      { name: 'planted', seeds, run },
      {
        seed,
        maxInputs: 200,
        maxMs: Number.POSITIVE_INFINITY,
        onInput: (input) => seen.push(Buffer.from(input).toString('hex')),
      },
    );
    return seen;
  };
  const first = await inputsOf(1);
  assert.deepEqual(await inputsOf(1), first);
  assert.notDeepEqual(await inputsOf(2), first);
});

test('random numbers are spread, and never beyond their limit', () => {
  const random = new Random(7);
  const seen = new Set<number>();
  for (let each = 0; each < 1000; each++) seen.add(random.below(10));
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('a run in a thread reports, and tries a single input again', async () => {
  const job = { target: 'baggage', seed: 1, maxInputs: 50, maxMs: 60_000, input: undefined };
  assert.deepEqual((await runWatched(job)).failure, undefined);
  const again = await runWatched({ ...job, input: Buffer.from('service.name=web') });
  assert.deepEqual(again, { inputs: 1, kinds: 1, failure: undefined });
});

test('a thread that is silent for too long is ended', async () => {
  const job = { target: 'baggage', seed: 1, maxInputs: Number.MAX_SAFE_INTEGER, maxMs: 3_600_000 };
  const { failure } = await runWatched({ ...job, input: Buffer.from('service.name=web') }, 4);
  assert.match(failure?.what ?? '', /nothing came back/);
});
