// What a decoder must bring to be fuzzed, and the few things that all of them use.

import { MeshError } from '#base/errors.ts';

export interface Target {
  readonly name: string;
  /** Valid inputs, from encoders or hands, from which the changed ones are made. */
  seeds(): readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /**
   * Decodes, and checks what can be checked of the result. Returns what kind of outcome it was: an input with an outcome not
   * seen before is kept and changed further, which leads deep into a decoder. Whatever is thrown is a failure.
   */
  run(input: Buffer): string | Promise<string>;
  readonly tokens?: readonly Uint8Array[];
  readonly maxBytes?: number;
}

export const tokens = (...texts: readonly string[]): readonly Uint8Array[] =>
  texts.map((text) => Buffer.from(text));

export const texts = (...all: readonly string[]): (() => readonly Uint8Array[]) => {
  return () => tokens(...all);
};

/** The outcome of a refusal: its sentence without what comes from the input. */
export function kindOf(sentence: string): string {
  return sentence
    .slice(0, 400)
    .replace(/"(?:[^"\\]|\\.)*"?/g, '"…"')
    .replace(/\d+/g, '0')
    .slice(0, 80);
}

/** Runs a decoder that refuses with MeshErrors of these codes and nothing else. */
export function refusedOr<T>(
  codes: readonly string[],
  decode: () => T,
  check: (value: T) => string = () => 'read',
): string {
  let value: T;
  try {
    value = decode();
  } catch (error) {
    return refusal(error, codes);
  }
  return check(value);
}

/** @throws the error itself when it is not one that the decoder declares */
export function refusal(error: unknown, codes: readonly string[]): string {
  if (error instanceof MeshError && codes.includes(error.code) && error.message !== '')
    return `refused: ${kindOf(error.message)}`;
  throw error;
}

/** A small number that depends on the input alone: how it is cut, who is asked. */
export function pickedBy(input: Uint8Array, limit: number): number {
  let sum = input.length;
  for (let at = 0; at < input.length; at++) sum = (sum * 31 + input[at]!) >>> 0;
  return sum % limit;
}

/** The input in pieces of `length` bytes. */
export function* piecesOf(input: Buffer, length: number): Generator<Buffer> {
  for (let at = 0; at < input.length; at += length) yield input.subarray(at, at + length);
}

/** Several messages in one input, each behind its length in 16 bits. */
export function behindLength(message: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

export function messagesOf(input: Buffer): Buffer[] {
  const messages: Buffer[] = [];
  for (let at = 0; at + 2 <= input.length; ) {
    const end = at + 2 + input.readUInt16BE(at);
    messages.push(input.subarray(at + 2, end));
    at = end;
  }
  return messages;
}
