// The Huffman code of HPACK (RFC 7541 §5.2, appendix B). The code is canonical: codes of one length count upwards in the
// order of their symbols, and each length goes on from the doubled end of the one before. So the lengths say it all.

/** Bits of each byte's code. The end-of-string symbol (30 bits, all ones) is never sent whole. */
// biome-ignore format: sixteen to a row, as one reads hexadecimal
const LENGTHS = Uint8Array.of(
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
);
const EOS = 256;
const EOS_LENGTH = 30;

const CODES = new Uint32Array(257);
{
  const symbols = Array.from({ length: 257 }, (_unused, symbol) => symbol).sort(
    (a, b) => lengthOf(a) - lengthOf(b) || a - b,
  );
  let code = 0;
  let length = 0;
  for (const symbol of symbols) {
    code = (code << (lengthOf(symbol) - length)) >>> 0;
    length = lengthOf(symbol);
    CODES[symbol] = code++;
  }
}

function lengthOf(symbol: number): number {
  return symbol === EOS ? EOS_LENGTH : LENGTHS[symbol]!;
}

/**
 * Decoding by half bytes: a state is an inner node of the code's tree, and a transition is packed as
 * `next state << 16 | symbol << 8 | flags`. No code is shorter than five bits, so half a byte ends one symbol at most.
 */
const EMITS = 1;
/** The end of the text may stand here: fewer than eight bits, all ones, since the last symbol. */
const ACCEPTS = 2;
const FAILS = 4;
const TRANSITIONS = buildTransitions();

function buildTransitions(): Uint32Array {
  // Inner nodes 0…255; a child below zero is the leaf of symbol -child - 1.
  const children: [number, number][] = [[0, 0]];
  for (let symbol = 0; symbol <= EOS; symbol++) {
    const length = lengthOf(symbol);
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const side = (CODES[symbol]! >>> bit) & 1;
      let next = children[node]![side]!;
      if (next === 0) {
        next = children.push([0, 0]) - 1;
        children[node]![side] = next;
      }
      node = next;
    }
    children[node]![CODES[symbol]! & 1] = -symbol - 1;
  }
  const accepting = new Set<number>([0]);
  for (let node = children[0]![1], depth = 1; depth < 8; depth++) {
    accepting.add(node);
    node = children[node]![1];
  }
  const table = new Uint32Array(children.length * 16);
  for (let state = 0; state < children.length; state++)
    for (let half = 0; half < 16; half++) {
      let node = state;
      let symbol = -1;
      for (let bit = 3; bit >= 0 && symbol !== EOS; bit--) {
        const next = children[node]![(half >>> bit) & 1]!;
        if (next < 0) symbol = -next - 1;
        node = Math.max(next, 0);
      }
      table[state * 16 + half] =
        symbol === EOS
          ? FAILS
          : ((node << 16) |
              (Math.max(symbol, 0) << 8) |
              (symbol >= 0 ? EMITS : 0) |
              (accepting.has(node) ? ACCEPTS : 0)) >>>
            0;
    }
  return table;
}

/** Undefined when the bytes are no Huffman text: a wrong end, or the end symbol inside. */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string | undefined {
  // Five bits are the shortest code.
  const text = Buffer.allocUnsafe(Math.floor(((end - start) * 8) / 5));
  let length = 0;
  let transition = ACCEPTS;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    transition = TRANSITIONS[(transition >>> 16) * 16 + (byte >>> 4)]!;
    if ((transition & EMITS) !== 0) text[length++] = (transition >>> 8) & 0xff;
    if ((transition & FAILS) !== 0) return undefined;
    transition = TRANSITIONS[(transition >>> 16) * 16 + (byte & 15)]!;
    if ((transition & EMITS) !== 0) text[length++] = (transition >>> 8) & 0xff;
    if ((transition & FAILS) !== 0) return undefined;
  }
  return (transition & ACCEPTS) === 0 ? undefined : text.toString('latin1', 0, length);
}

/** Bytes that `encodeHuffman` would take for a latin-1 text. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let at = 0; at < text.length; at++) bits += LENGTHS[text.charCodeAt(at) & 0xff]!;
  return (bits + 7) >>> 3;
}

/** Writes a latin-1 text at `at` and returns the position behind it. */
export function encodeHuffman(text: string, into: Uint8Array, at: number): number {
  let next = at;
  let waiting = 0;
  let count = 0;
  for (let index = 0; index < text.length; index++) {
    const symbol = text.charCodeAt(index) & 0xff;
    const code = CODES[symbol]!;
    // At most 7 bits wait, and a code has at most 30: 37 bits do not fit 32, so long codes go in two steps.
    for (let left = LENGTHS[symbol]!; left > 0; ) {
      const step = left > 20 ? left - 15 : left;
      left -= step;
      waiting = (waiting << step) | ((code >>> left) & ((1 << step) - 1));
      count += step;
      for (; count >= 8; into[next++] = waiting >>> count) count -= 8;
      waiting &= (1 << count) - 1;
    }
  }
  if (count > 0) into[next++] = (waiting << (8 - count)) | ((1 << (8 - count)) - 1);
  return next;
}
