// A changed copy of a valid input: bits and bytes, numbers at the edges of their ranges, pieces left out, doubled, taken from
// another input, or repeated until the input is as large as may be (that is what shows work beyond the linear).

import type { Random } from './random.ts';

export interface MutationOptions {
  readonly maxBytes: number;
  /** Pieces that mean something to the decoder; texts have separators and keywords. */
  readonly tokens: readonly Uint8Array[];
}

const EDGES_8 = [0, 1, 0x7f, 0x80, 0xff];
const EDGES_16 = [0, 1, 0xff, 0x7fff, 0x8000, 0xffff];
const EDGES_32 = [0, 1, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** One time in so many the input is inflated: large ones take longer to try than all the others. */
const INFLATED_ONE_IN = 64;
const MOST_CHANGES = 4;

type Mutation = (input: Buffer, random: Random, other: Uint8Array, options: MutationOptions) => Buffer;

const changed = (input: Buffer, change: (copy: Buffer) => void): Buffer => {
  const copy = Buffer.from(input);
  if (copy.length > 0) change(copy);
  return copy;
};

const put = (input: Buffer, at: number, piece: Uint8Array, instead = 0): Buffer =>
  Buffer.concat([input.subarray(0, at), piece, input.subarray(Math.min(input.length, at + instead))]);

/** A piece of `bytes`; short ones are the likelier. */
function pieceOf(bytes: Uint8Array, random: Random): Uint8Array {
  const start = random.below(bytes.length + 1);
  const most = random.below(2) === 0 ? 16 : bytes.length;
  return bytes.subarray(start, start + 1 + random.below(most));
}

function randomBytes(random: Random): Uint8Array {
  return Uint8Array.from({ length: 1 + random.below(8) }, () => random.bits() & 0xff);
}

const MUTATIONS: readonly Mutation[] = [
  function flipBit(input, random) {
    return changed(input, (copy) => {
      const at = random.below(copy.length);
      copy[at] = copy[at]! ^ (1 << random.below(8));
    });
  },
  function setByte(input, random) {
    return changed(input, (copy) => {
      copy[random.below(copy.length)] = random.below(2) === 0 ? random.pick(EDGES_8) : random.bits() & 0xff;
    });
  },
  function nudgeByte(input, random) {
    return changed(input, (copy) => {
      const at = random.below(copy.length);
      copy[at] = copy[at]! + random.below(9) - 4;
    });
  },
  function set16(input, random) {
    return changed(input, (copy) => {
      if (copy.length >= 2) copy.writeUInt16BE(random.pick(EDGES_16), random.below(copy.length - 1));
    });
  },
  function set32(input, random) {
    return changed(input, (copy) => {
      if (copy.length >= 4) copy.writeUInt32BE(random.pick(EDGES_32), random.below(copy.length - 3));
    });
  },
  function leaveOut(input, random) {
    const at = random.below(input.length + 1);
    return put(input, at, Buffer.alloc(0), pieceOf(input, random).length);
  },
  function cutOff(input, random) {
    return Buffer.from(input.subarray(0, random.below(input.length + 1)));
  },
  function double(input, random) {
    return put(input, random.below(input.length + 1), pieceOf(input, random));
  },
  function insert(input, random) {
    return put(input, random.below(input.length + 1), randomBytes(random));
  },
  function splice(input, random, other) {
    return put(input, random.below(input.length + 1), pieceOf(other, random), random.below(16));
  },
  function join(input, _random, other) {
    return Buffer.concat([input, other]);
  },
  function token(input, random, _other, { tokens }) {
    const piece = tokens.length === 0 ? randomBytes(random) : random.pick(tokens);
    return put(input, random.below(input.length + 1), piece, random.below(2) * piece.length);
  },
];

/** One piece over and over, in its place. */
function inflate(input: Buffer, random: Random, tokens: readonly Uint8Array[], maxBytes: number): Buffer {
  const piece =
    tokens.length > 0 && random.below(2) === 0
      ? random.pick(tokens)
      : pieceOf(input.length === 0 ? randomBytes(random) : input, random);
  const room = maxBytes - input.length;
  if (piece.length === 0 || room <= 0) return input;
  return put(input, random.below(input.length + 1), Buffer.alloc(room, piece));
}

/** `input` itself stays as it is; the result has at most `maxBytes`. */
export function mutate(
  input: Uint8Array,
  other: Uint8Array,
  random: Random,
  options: MutationOptions,
): Buffer {
  let result: Buffer = Buffer.from(input);
  for (let changes = 1 + random.below(MOST_CHANGES); changes > 0; changes--)
    result = random.pick(MUTATIONS)(result, random, other, options);
  if (random.below(INFLATED_ONE_IN) === 0) result = inflate(result, random, options.tokens, options.maxBytes);
  return result.subarray(0, options.maxBytes);
}
