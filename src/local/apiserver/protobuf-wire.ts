// Protobuf on the wire (https://protobuf.dev/programming-guides/encoding): tags, varints and lengths, checked at every
// step.

import { isUtf8 } from 'node:buffer';

/** Says what is wrong with the bytes, as the end of a sentence that names them. */
export class WireError extends Error {}

export function utf8(bytes: Buffer): string {
  if (!isUtf8(bytes)) throw new WireError('a text in it is not UTF-8');
  return bytes.toString('utf8');
}

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const GROUP = 3;
const FIXED32 = 5;

export class WireReader {
  /** Of the field whose tag was read last. */
  wireType: number;
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer, wireType = VARINT) {
    this.#bytes = bytes;
    this.wireType = wireType;
  }

  more(): boolean {
    return this.#at < this.#bytes.length;
  }

  /** The next field's number. */
  tag(): number {
    const tag = this.#varint();
    this.wireType = Number(tag & 7n);
    const number = Number(tag >> 3n);
    if (number === 0 || number >= 2 ** 29) throw new WireError(`a field has the impossible number ${number}`);
    if (this.wireType === GROUP || this.wireType === 4 || this.wireType > FIXED32)
      throw new WireError(`field ${number} has the unknown wire type ${this.wireType}`);
    return number;
  }

  varint(): bigint {
    this.#expect(VARINT);
    return this.#varint();
  }

  double(): number {
    this.#expect(FIXED64);
    return this.#take(8).readDoubleLE(0);
  }

  bytes(): Buffer {
    this.#expect(LENGTH);
    return this.#take(this.#length());
  }

  skip(): void {
    switch (this.wireType) {
      case VARINT:
        this.#varint();
        return;
      case FIXED64:
        this.#take(8);
        return;
      case LENGTH:
        this.#take(this.#length());
        return;
      default:
        this.#take(4);
    }
  }

  #expect(wireType: number): void {
    if (this.wireType !== wireType)
      throw new WireError(`a field has the wire type ${this.wireType} in place of ${wireType}`);
  }

  #length(): number {
    const length = this.#varint();
    if (length > BigInt(this.#bytes.length)) throw new WireError('it ends in the middle of a field');
    return Number(length);
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new WireError('it ends in the middle of a field');
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }

  #varint(): bigint {
    // Tags and lengths are short: plain numbers as far as they are exact.
    let low = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte();
      low |= (byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt(low);
    }
    let value = BigInt(low);
    for (let shift = 28n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new WireError('a number is longer than ten bytes');
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new WireError('it ends in the middle of a number');
    return byte;
  }
}
