// Fuzzes one target: changes inputs, tries them, and keeps those that led somewhere new. A failure is whatever the target
// throws, and work or memory out of proportion to the input.

import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { mutate } from './mutate.ts';
import { Random, seedFor } from './random.ts';
import type { Target } from './target.ts';

export interface Failure {
  readonly target: string;
  readonly what: string;
  readonly input: Buffer;
}

export interface Outcome {
  readonly inputs: number;
  /** Kinds of outcome seen. */
  readonly kinds: number;
  readonly failure: Failure | undefined;
}

export interface Bounds {
  readonly seed: number;
  readonly maxInputs: number;
  readonly maxMs: number;
  /** Told of each input before it is tried, for whoever must know it when it never comes back. */
  readonly onInput?: (input: Uint8Array) => void;
}

const DEFAULT_MAX_BYTES = 64 * 1024;
/** Of a target whose outcomes say what the input was. */
const MOST_KINDS = 5000;
/** More inputs are not kept: each new one takes an old one's place. */
const MOST_KEPT = 500;

// Far above what any decoder here takes, and far below what quadratic work on 64 KiB does.
const FREE_CPU_MS = 60;
const CPU_US_PER_BYTE = 6;
// Allocated, not kept: garbage of one input is seldom collected before its end.
const FREE_MEMORY_BYTES = 16 << 20;
const MEMORY_PER_BYTE = 1024;

export async function fuzz(target: Target, bounds: Bounds): Promise<Outcome> {
  const random = new Random(seedFor(bounds.seed, target.name));
  const options = { maxBytes: target.maxBytes ?? DEFAULT_MAX_BYTES, tokens: target.tokens ?? [] };
  const kept: Uint8Array[] = [];
  const kinds = new Set<string>();
  const endMs = performance.now() + bounds.maxMs;
  let inputs = 0;
  const attempt = async (input: Buffer): Promise<Failure | undefined> => {
    inputs++;
    bounds.onInput?.(input);
    const result = await tryInput(target, input);
    if ('what' in result) return { target: target.name, what: result.what, input };
    if (kinds.size < MOST_KINDS && !kinds.has(result.kind)) {
      kinds.add(result.kind);
      if (kept.length < MOST_KEPT) kept.push(input);
      else kept[random.below(kept.length)] = input;
    }
    return undefined;
  };
  for (const seed of await target.seeds()) {
    kept.push(seed);
    const failure = await attempt(Buffer.from(seed));
    if (failure !== undefined) return { inputs, kinds: kinds.size, failure };
  }
  if (kept.length === 0) throw new Error(`${target.name} has no input to begin with`);
  while (inputs < bounds.maxInputs && performance.now() < endMs) {
    const failure = await attempt(mutate(random.pick(kept), random.pick(kept), random, options));
    if (failure !== undefined) return { inputs, kinds: kinds.size, failure };
  }
  return { inputs, kinds: kinds.size, failure: undefined };
}

export type Tried = { readonly kind: string } | { readonly what: string };

export async function tryInput(target: Target, input: Buffer): Promise<Tried> {
  const { kind, what, cpuMs, memoryBytes } = await measured(target, input);
  if (what !== undefined) return { what };
  const mayCpuMs = FREE_CPU_MS + (CPU_US_PER_BYTE * input.length) / 1000;
  const mayMemoryBytes = FREE_MEMORY_BYTES + MEMORY_PER_BYTE * input.length;
  // What was garbage of others, or somebody else's time, is not there each time.
  if (cpuMs > mayCpuMs) {
    const least = await leastOf(target, input, (each) => each.cpuMs);
    if (least > mayCpuMs) return { what: `${input.length} bytes took ${Math.round(least)} ms of CPU` };
  }
  if (memoryBytes > mayMemoryBytes) {
    const least = await leastOf(target, input, (each) => each.memoryBytes, collectGarbage());
    if (least > mayMemoryBytes) return { what: `${input.length} bytes took ${least >> 20} MiB of memory` };
  }
  return { kind: kind ?? '' };
}

interface Measured {
  readonly kind: string | undefined;
  readonly what: string | undefined;
  readonly cpuMs: number;
  readonly memoryBytes: number;
}

async function measured(target: Target, input: Buffer): Promise<Measured> {
  let kind: string | undefined;
  let what: string | undefined;
  const memory = usedBytes();
  const cpu = process.threadCpuUsage();
  try {
    // A copy: a decoder that writes into its input must not spoil what is saved.
    kind = await target.run(Buffer.from(input));
  } catch (error) {
    what = error instanceof Error ? (error.stack ?? error.message) : `threw ${String(error)}`;
  }
  const { user, system } = process.threadCpuUsage(cpu);
  return { kind, what, cpuMs: (user + system) / 1000, memoryBytes: usedBytes() - memory };
}

async function leastOf(
  target: Target,
  input: Buffer,
  measure: (each: Measured) => number,
  before: () => void = () => {},
): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let turn = 0; turn < 3; turn++) {
    before();
    least = Math.min(least, measure(await measured(target, input)));
  }
  return least;
}

function usedBytes(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

function collectGarbage(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

/** A smaller input that fails as well: pieces are left out, large ones first, while the failure stays. */
export async function smaller(target: Target, input: Buffer, maxMs = 5000): Promise<Buffer> {
  const endMs = performance.now() + maxMs;
  let best = input;
  for (let length = input.length >> 1; length > 0; length >>= 1)
    for (let at = 0; at < best.length && performance.now() < endMs; ) {
      const candidate = Buffer.concat([best.subarray(0, at), best.subarray(at + length)]);
      if ('what' in (await tryInput(target, candidate))) best = candidate;
      else at += length;
    }
  return best;
}
