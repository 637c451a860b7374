// The OpenAPI v2 document in protobuf, the only form that old clients read: message `openapi.v2.Document` of gnostic, as
// far as our document goes. Whatever else stands in a schema travels as an extension, which is YAML (and so JSON) text.

import { isObject, type JsonObject } from './object.ts';

/** With a dot before `v1.0`: older clients take no other spelling. */
export const OPENAPI_V2_PROTOBUF_TYPE = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

export function openApiV2Protobuf(document: JsonObject): Buffer {
  const { swagger, info, paths, definitions } = document as Record<string, JsonObject | string>;
  const { title, version } = info as { title: string; version: string };
  return join(
    text(1, swagger as string),
    message(2, text(1, title), text(2, version)),
    message(8, ...entries(paths, (name, item) => message(2, text(1, name), message(2, ...pathItem(item))))),
    message(9, ...namedSchemas(definitions)),
  );
}

type Parts = readonly Buffer[];

/** Buffers are joined once per message, inside out. */
function join(...parts: Parts): Buffer {
  return Buffer.concat(parts);
}

function message(field: number, ...parts: Parts): Buffer {
  const content = parts.length === 1 ? parts[0]! : join(...parts);
  return join(varint((field << 3) | 2), varint(content.length), content);
}

const text = (field: number, content: string): Buffer => message(field, Buffer.from(content));
const flag = (field: number, value: boolean): Buffer => join(varint(field << 3), varint(value ? 1 : 0));

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function entries(map: unknown, write: (name: string, value: JsonObject) => Buffer): Buffer[] {
  return Object.entries((map ?? {}) as Record<string, JsonObject>).map(([name, value]) => write(name, value));
}

const namedSchemas = (map: unknown): Buffer[] =>
  entries(map, (name, each) => message(1, text(1, name), message(2, ...schema(each))));

const anything = (field: number, value: unknown): Buffer => message(field, text(2, JSON.stringify(value)));

const extensions = (field: number, holder: JsonObject): Buffer[] =>
  Object.entries(holder)
    .filter(([name]) => name.startsWith('x-'))
    .map(([name, value]) => message(field, text(1, name), anything(2, value)));

const texts = (field: number, list: unknown): Buffer[] =>
  ((list ?? []) as string[]).map((each) => text(field, each));

const OPERATIONS: Readonly<Record<string, number>> = { get: 2, put: 3, post: 4, delete: 5, patch: 8 };

const pathItem = (item: JsonObject): Buffer[] =>
  entries(item, (verb, operation) => message(OPERATIONS[verb]!, ...operationParts(operation)));

function operationParts(operation: JsonObject): Buffer[] {
  return [
    ...texts(7, operation.consumes),
    // ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema
    ...((operation.parameters ?? []) as JsonObject[]).map((each) =>
      message(8, message(1, message(2, message(3, ...queryParameter(each))))),
    ),
    message(
      9,
      ...entries(operation.responses, (code, response) =>
        message(
          1,
          text(1, code),
          message(
            2,
            message(
              1,
              text(1, String(response.description)),
              message(2, message(1, ...schema(response.schema as JsonObject))),
            ),
          ),
        ),
      ),
    ),
    ...extensions(13, operation),
  ];
}

const queryParameter = ({ name, in: where, type, uniqueItems }: JsonObject): Buffer[] => [
  text(2, String(where)),
  text(4, String(name)),
  text(6, String(type)),
  ...(uniqueItems === true ? [flag(20, true)] : []),
];

function schema(node: JsonObject): Buffer[] {
  const { properties, items, additionalProperties: additional } = node;
  return [
    ...(['$ref', 'format', 'title', 'description'] as const).flatMap((name, index) =>
      typeof node[name] === 'string' ? [text(index + 1, node[name])] : [],
    ),
    ...('default' in node ? [anything(5, node.default)] : []),
    ...texts(19, node.required),
    ...((node.enum ?? []) as unknown[]).map((each) => anything(20, each)),
    ...(isObject(additional)
      ? [message(21, message(1, ...schema(additional)))]
      : typeof additional === 'boolean'
        ? [message(21, flag(2, additional))]
        : []),
    ...(typeof node.type === 'string' ? [message(22, text(1, node.type))] : []),
    ...(isObject(items) ? [message(23, message(1, ...schema(items)))] : []),
    ...(isObject(properties) ? [message(25, ...namedSchemas(properties))] : []),
    ...extensions(31, node),
  ];
}
