// Protobuf request bodies: typed Go clients and kubectl from 1.33 on send them. Field numbers come from a generated table
// (tools/k8s-schema); what comes out is the object as it would have come in JSON.

import { isObject, type JsonObject } from './object.ts';
import { PROTOBUF_SPECIALS } from './protobuf-specials.ts';
import { utf8, WireError, WireReader } from './protobuf-wire.ts';
import { dataFile, kindKey } from './schema-bundle.ts';
import { badRequest } from './status.ts';

/** Before every body: what follows is a `runtime.Unknown`. */
const MAGIC = Buffer.from('k8s\0');
const MAX_DEPTH = 200;
/** A body of two-byte messages would grow a hundredfold in memory. */
const MAX_VALUES = 500_000;

interface Field {
  /** Empty: the message's fields stand in this object itself. */
  readonly name: string;
  readonly shape: 'one' | 'list' | 'map';
  /** `string`, `bytes`, `int`, `bool`, `double`, `strings` (a list in a message of its own) or the name of a message. */
  readonly type: string;
  /** A pointer keeps its zero; other fields leave theirs out of the JSON where `omitEmpty` says so. */
  readonly pointer: boolean;
  readonly omitEmpty: boolean;
}
type Message = ReadonlyMap<number, Field>;

interface Table {
  readonly kinds: Readonly<Record<string, string>>;
  readonly messages: Readonly<Record<string, readonly (readonly [number, string, string])[]>>;
}

let table: Table | undefined;
const messages = new Map<string, Message>();

function readTable(): Table {
  table ??= JSON.parse(dataFile('protobuf.json').toString()) as Table;
  return table;
}

function messageOf(name: string): Message {
  const known = messages.get(name);
  if (known !== undefined) return known;
  const fields = readTable().messages[name];
  if (fields === undefined) throw new Error(`the protobuf table names ${name} and does not hold it`);
  const message: Message = new Map(
    fields.map(([number, json, notation]) => {
      const [, omit, pointer, shape, type] = /^(\??)(\*?)(\[\]|\{\}|)(.+)$/.exec(notation)!;
      return [
        number,
        {
          name: json,
          shape: shape === '[]' ? 'list' : shape === '{}' ? 'map' : 'one',
          type: type!,
          pointer: pointer === '*',
          omitEmpty: omit === '?',
        },
      ];
    }),
  );
  messages.set(name, message);
  return message;
}

/** The object in a body; throws 400 for anything that is none. */
export function decodeProtobuf(body: Buffer): JsonObject {
  try {
    if (!body.subarray(0, MAGIC.length).equals(MAGIC))
      throw new WireError('it does not begin with the four bytes "k8s\\0"');
    const { apiVersion, kind, raw } = readEnvelope(body.subarray(MAGIC.length));
    const [version = '', group = ''] = apiVersion.split('/').reverse();
    const { kinds } = readTable();
    // Options of a request may come under the version of the group that they are meant for.
    const key = kind === 'DeleteOptions' ? kindKey('', 'v1', kind) : kindKey(group, version, kind);
    if (!Object.hasOwn(kinds, key))
      throw badRequest(
        `no kind ${JSON.stringify(kind)} in version ${JSON.stringify(apiVersion)} is known in protobuf; send JSON or YAML`,
      );
    const object = new Decoder().message(raw, kinds[key]!, {}, 0);
    return { apiVersion, kind, ...object };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw badRequest(`the body of the request cannot be read as protobuf: ${error.message}`);
  }
}

function readEnvelope(bytes: Buffer): { apiVersion: string; kind: string; raw: Buffer } {
  let apiVersion = '';
  let kind = '';
  let raw: Buffer = Buffer.alloc(0);
  const reader = new WireReader(bytes);
  while (reader.more()) {
    const field = reader.tag();
    if (field === 1) {
      const typeMeta = new WireReader(reader.bytes());
      while (typeMeta.more()) {
        const part = typeMeta.tag();
        if (part === 1) apiVersion = utf8(typeMeta.bytes());
        else if (part === 2) kind = utf8(typeMeta.bytes());
        else typeMeta.skip();
      }
    } else if (field === 2) raw = reader.bytes();
    else if (field === 3 && reader.wireType === 2) {
      const encoding = utf8(reader.bytes());
      if (encoding !== '') throw new WireError(`its content encoding ${JSON.stringify(encoding)} is unknown`);
    } else reader.skip();
  }
  if (kind === '') throw new WireError('its envelope names no kind');
  return { apiVersion, kind, raw };
}

/** Readers of numbers in a packed list know no tags. */
const WIRE_TYPES: Readonly<Record<string, number>> = { int: 0, bool: 0, double: 1 };

class Decoder {
  #values = 0;

  /** Adds to `target`: a message that comes in pieces is merged, and inline messages share their parent's object. */
  message(bytes: Buffer, type: string, target: JsonObject, depth: number): JsonObject {
    if (depth > MAX_DEPTH) throw new WireError(`it is nested deeper than ${MAX_DEPTH} levels`);
    const fields = messageOf(type);
    const reader = new WireReader(bytes);
    while (reader.more()) {
      const field = fields.get(reader.tag());
      if (field === undefined) reader.skip();
      else this.#field(reader, field, target, depth);
    }
    return target;
  }

  #field(reader: WireReader, field: Field, target: JsonObject, depth: number): void {
    const { name } = field;
    if (name === '') {
      this.message(reader.bytes(), field.type, target, depth + 1);
    } else if (field.shape === 'list') {
      const list = Array.isArray(target[name]) ? target[name] : [];
      target[name] = list;
      // Numbers may come packed: many in one field.
      const packedAs = WIRE_TYPES[field.type];
      if (packedAs !== undefined && reader.wireType === 2) {
        const packed = new WireReader(reader.bytes(), packedAs);
        while (packed.more()) list.push(this.#scalar(packed, field.type));
      } else list.push(this.#value(reader, field.type, undefined, depth));
    } else if (field.shape === 'map') {
      const map = isObject(target[name]) ? target[name] : {};
      target[name] = map;
      const [key, value] = this.#entry(reader.bytes(), field.type, depth);
      map[key] = value;
    } else {
      const value = this.#value(reader, field.type, target[name], depth);
      if (value === null || (!field.pointer && field.omitEmpty && isEmpty(value))) delete target[name];
      else target[name] = value;
    }
  }

  #entry(bytes: Buffer, type: string, depth: number): [string, unknown] {
    let key = '';
    let value: unknown;
    const reader = new WireReader(bytes);
    while (reader.more()) {
      const part = reader.tag();
      if (part === 1) key = utf8(reader.bytes());
      else if (part === 2) value = this.#value(reader, type, undefined, depth);
      else reader.skip();
    }
    if (key === '__proto__') throw new WireError('a field may not be named "__proto__"');
    return [key, value ?? (type === 'strings' ? [] : isScalar(type) ? '' : {})];
  }

  #value(reader: WireReader, type: string, before: unknown, depth: number): unknown {
    if (isScalar(type)) return this.#scalar(reader, type);
    this.#count();
    const bytes = reader.bytes();
    const special = Object.hasOwn(PROTOBUF_SPECIALS, type) ? PROTOBUF_SPECIALS[type] : undefined;
    if (special !== undefined) return special(bytes, (part, name) => this.message(part, name, {}, depth + 1));
    return this.message(bytes, type, isObject(before) ? before : {}, depth + 1);
  }

  #scalar(reader: WireReader, type: string): unknown {
    this.#count();
    switch (type) {
      case 'string':
        return utf8(reader.bytes());
      case 'bytes':
        return reader.bytes().toString('base64');
      case 'strings':
        return this.#strings(reader.bytes());
      case 'bool':
        return reader.varint() !== 0n;
      case 'double':
        return reader.double();
      default:
        return Number(BigInt.asIntN(64, reader.varint()));
    }
  }

  #strings(bytes: Buffer): string[] {
    const reader = new WireReader(bytes);
    const items: string[] = [];
    while (reader.more())
      if (reader.tag() === 1) {
        this.#count();
        items.push(utf8(reader.bytes()));
      } else reader.skip();
    return items;
  }

  #count(): void {
    if (++this.#values > MAX_VALUES) throw new WireError(`it holds more than ${MAX_VALUES} values`);
  }
}

/** Messages have a dot in their names. */
const isScalar = (type: string): boolean => !type.includes('.');

const isEmpty = (value: unknown): boolean =>
  value === '' ||
  value === 0 ||
  value === false ||
  (Array.isArray(value) ? value.length === 0 : isObject(value) && Object.keys(value).length === 0);
