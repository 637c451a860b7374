// A profile in the format of pprof (github.com/google/pprof, profile.proto), which `go tool pprof` and its kin read.

export interface PprofNode {
  readonly id: number;
  /** The caller; undefined for the root, which is left out of stacks. */
  readonly parent: number | undefined;
  readonly functionName: string;
  readonly file: string;
  readonly line: number;
  /** Of this node itself, in the order of the sample types. */
  readonly values: readonly number[];
}

export interface PprofProfile {
  readonly sampleTypes: readonly (readonly [type: string, unit: string])[];
  readonly periodType: readonly [type: string, unit: string];
  readonly period: number;
  readonly durationNanos: number;
  readonly nodes: readonly PprofNode[];
}

export function encodePprof(profile: PprofProfile): Uint8Array {
  const strings = new Map<string, number>([['', 0]]);
  const text = (value: string): number => {
    const known = strings.get(value);
    if (known !== undefined) return known;
    strings.set(value, strings.size);
    return strings.size - 1;
  };
  const valueType = ([type, unit]: readonly [string, string]): number[] => [
    ...number(1, text(type)),
    ...number(2, text(unit)),
  ];
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const out: number[] = [];
  for (const type of profile.sampleTypes) push(out, message(1, valueType(type)));
  for (const node of profile.nodes) {
    if (node.values.every((value) => value === 0)) continue;
    const stack: number[] = [];
    for (let at: PprofNode | undefined = node; at?.parent !== undefined; at = byId.get(at.parent))
      stack.push(at.id);
    if (stack.length > 0) push(out, message(2, [...packed(1, stack), ...packed(2, node.values)]));
  }
  for (const { id, line } of profile.nodes)
    push(out, message(4, [...number(1, id), ...message(4, [...number(1, id), ...number(2, line)])]));
  for (const { id, functionName, file } of profile.nodes) {
    const name = text(functionName);
    push(
      out,
      message(5, [...number(1, id), ...number(2, name), ...number(3, name), ...number(4, text(file))]),
    );
  }
  push(out, number(10, profile.durationNanos));
  push(out, message(11, valueType(profile.periodType)));
  push(out, number(12, profile.period));
  for (const value of strings.keys()) push(out, message(6, Buffer.from(value)));
  return Uint8Array.from(out);
}

function push(out: number[], bytes: Iterable<number>): void {
  for (const byte of bytes) out.push(byte);
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = Math.max(0, Math.round(value));
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return bytes;
}

const number = (field: number, value: number): number[] => [...varint(field * 8), ...varint(value)];
const packed = (field: number, values: readonly number[]): number[] => message(field, values.flatMap(varint));

function message(field: number, bytes: ArrayLike<number> & Iterable<number>): number[] {
  return [...varint(field * 8 + 2), ...varint(bytes.length), ...bytes];
}
