// DER (X.690 §8, §10), the little of it that certificate requests need: one element at a time, definite lengths,
// single-byte tags. What the elements mean is the caller's business.

import { MeshError } from '#base/errors.ts';

export interface DerElement {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag, length and content as they came. */
  readonly encoded: Uint8Array;
  /** What follows the element. */
  readonly rest: Uint8Array;
}

/** Reads the first element. Throws MeshError `CERTIFICATE_INVALID` when it is cut short or not DER. */
export function readDer(bytes: Uint8Array): DerElement {
  const tag = bytes[0];
  const first = bytes[1];
  if (tag === undefined || first === undefined) throw malformed('it is cut short');
  if ((tag & 0x1f) === 0x1f) throw malformed('it uses a tag of more than one byte');
  let start = 2;
  let length = first;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw malformed('a length is indefinite or larger than 4 GiB');
    if (bytes.length < 2 + count) throw malformed('it is cut short');
    length = 0;
    for (let at = 2; at < 2 + count; at++) length = length * 256 + bytes[at]!;
    // X.690 §10.1: the shortest form only, or two encodings would mean one value.
    if (bytes[2] === 0 || length < 0x80) throw malformed('a length is not in its shortest form');
    start = 2 + count;
  }
  const end = start + length;
  if (end > bytes.length) throw malformed('it is cut short');
  return {
    tag,
    content: bytes.subarray(start, end),
    encoded: bytes.subarray(0, end),
    rest: bytes.subarray(end),
  };
}

/** One element around the concatenation of `contents`. */
export function writeDer(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  const lengthBytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) lengthBytes.unshift(rest % 256);
  return Buffer.concat([Buffer.from([tag, 0x80 | lengthBytes.length, ...lengthBytes]), content]);
}

function malformed(why: string): MeshError {
  return new MeshError('CERTIFICATE_INVALID', `the data are not valid DER: ${why}`);
}
