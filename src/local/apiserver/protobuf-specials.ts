// Protobuf messages whose JSON is written by Go code of their own: times, quantities, values of two types, raw JSON.

import { utf8, WireError, WireReader } from './protobuf-wire.ts';
import { canonicalQuantity } from './quantity.ts';

/** Decodes a nested message of that name. */
export type NestedMessage = (bytes: Buffer, type: string) => unknown;

/** null: the value is left out, as a zero time is. */
type Special = (bytes: Buffer, nested: NestedMessage) => unknown;

const EMPTY = Buffer.alloc(0);
const SCHEMA = 'apiextensions.v1.JSONSchemaProps';

export const PROTOBUF_SPECIALS: Readonly<Record<string, Special>> = {
  // Seconds only: what JSON cannot carry is dropped on both ways in.
  'meta.v1.Time': (bytes) => {
    const { numbers } = parts(bytes);
    return bytes.length === 0 ? null : time(numbers.get(1) ?? 0n, undefined);
  },
  'meta.v1.MicroTime': (bytes) => {
    const { numbers } = parts(bytes);
    return bytes.length === 0 ? null : time(numbers.get(1) ?? 0n, numbers.get(2) ?? 0n);
  },
  'meta.v1.Duration': (bytes) => goDuration(parts(bytes).numbers.get(1) ?? 0n),
  'meta.v1.FieldsV1': raw,
  'runtime.RawExtension': raw,
  'apiextensions.v1.JSON': raw,
  'resource.Quantity': (bytes) => {
    const text = parts(bytes).texts.get(1)?.[0];
    if (text === undefined || text.length === 0) return '0';
    const quantity = canonicalQuantity(utf8(text));
    if ('error' in quantity) throw new WireError(quantity.error);
    return quantity.text;
  },
  'intstr.IntOrString': (bytes) => {
    const { numbers, texts } = parts(bytes);
    if ((numbers.get(1) ?? 0n) !== 0n) return utf8(texts.get(3)?.[0] ?? EMPTY);
    return Number(BigInt.asIntN(32, numbers.get(2) ?? 0n));
  },
  'apiextensions.v1.JSONSchemaPropsOrArray': (bytes, nested) => {
    const { texts } = parts(bytes);
    const list = texts.get(2);
    if (list !== undefined) return list.map((each) => nested(each, SCHEMA));
    const schema = texts.get(1)?.[0];
    return schema === undefined ? null : nested(schema, SCHEMA);
  },
  'apiextensions.v1.JSONSchemaPropsOrBool': (bytes, nested) => {
    const { numbers, texts } = parts(bytes);
    const schema = texts.get(2)?.[0];
    return schema === undefined ? (numbers.get(1) ?? 0n) !== 0n : nested(schema, SCHEMA);
  },
  'apiextensions.v1.JSONSchemaPropsOrStringArray': (bytes, nested) => {
    const { texts } = parts(bytes);
    const schema = texts.get(1)?.[0];
    if (schema !== undefined) return nested(schema, SCHEMA);
    return (texts.get(2) ?? []).map(utf8);
  },
};

/** A small message by field number: the last number, and every run of bytes. */
function parts(bytes: Buffer): { numbers: Map<number, bigint>; texts: Map<number, Buffer[]> } {
  const numbers = new Map<number, bigint>();
  const texts = new Map<number, Buffer[]>();
  const reader = new WireReader(bytes);
  while (reader.more()) {
    const field = reader.tag();
    if (reader.wireType === 0) numbers.set(field, reader.varint());
    else if (reader.wireType === 2) {
      const before = texts.get(field);
      if (before === undefined) texts.set(field, [reader.bytes()]);
      else before.push(reader.bytes());
    } else reader.skip();
  }
  return { numbers, texts };
}

function raw(bytes: Buffer): unknown {
  const content = parts(bytes).texts.get(1)?.[0];
  if (content === undefined || content.length === 0) return null;
  const text = utf8(content);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new WireError('a raw value in it is not JSON');
  }
}

/** The years that RFC 3339 can name, in seconds since 1970. */
const FIRST_SECOND = -62_167_219_200n;
const LAST_SECOND = 253_402_300_799n;

/** RFC 3339, with six places where there are nanoseconds at all. */
function time(unsigned: bigint, nanos: bigint | undefined): string {
  const seconds = BigInt.asIntN(64, unsigned);
  const micros = nanos === undefined ? 0n : BigInt.asIntN(32, nanos) / 1000n;
  if (seconds < FIRST_SECOND || seconds > LAST_SECOND || micros < 0n || micros >= 1_000_000n)
    throw new WireError('a time in it lies outside the years 0 to 9999');
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return nanos === undefined ? `${whole}Z` : `${whole}.${micros.toString().padStart(6, '0')}Z`;
}

const UNITS = [
  ['h', 3_600_000_000_000n],
  ['m', 60_000_000_000n],
] as const;

/** `1h0m1.5s`, `20ms`: as Go writes durations. */
function goDuration(unsigned: bigint): string {
  const signed = BigInt.asIntN(64, unsigned);
  if (signed === 0n) return '0s';
  const sign = signed < 0n ? '-' : '';
  let rest = signed < 0n ? -signed : signed;
  const fraction = (unit: bigint): string => {
    const places = (rest % unit)
      .toString()
      .padStart(unit.toString().length - 1, '0')
      .replace(/0+$/, '');
    return `${rest / unit}${places === '' ? '' : `.${places}`}`;
  };
  if (rest < 1_000n) return `${sign}${rest}ns`;
  if (rest < 1_000_000n) return `${sign}${fraction(1_000n)}µs`;
  if (rest < 1_000_000_000n) return `${sign}${fraction(1_000_000n)}ms`;
  let text = '';
  for (const [name, unit] of UNITS) {
    if (text !== '' || rest >= unit) text += `${rest / unit}${name}`;
    rest %= unit;
  }
  return `${sign}${text}${fraction(1_000_000_000n)}s`;
}
