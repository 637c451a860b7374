// Delta xDS responses in parts that can be shared: a protobuf message may be cut between its fields, so that what all
// clients are told is encoded once and what differs between them (the nonce) is put in front of it.

import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

// Field numbers of DeltaDiscoveryResponse, Resource and Any (discovery.proto).
const RESPONSE = { version: 1, resources: 2, typeUrl: 4, nonce: 5, removed: 6, controlPlane: 7 } as const;
const RESOURCE = { version: 1, resource: 2, name: 3, aliases: 4 } as const;
const ANY = { typeUrl: 1, value: 2 } as const;
const CONTROL_PLANE_IDENTIFIER = 1;

export interface ResponseHead {
  readonly systemVersionInfo: string;
  readonly typeUrl: string;
  readonly nonce: string;
  /** Who answers, as JSON. */
  readonly controlPlane: string;
}

export function encodeResponseHead(head: ResponseHead): Uint8Array {
  const writer = new BinaryWriter();
  text(writer, RESPONSE.version, head.systemVersionInfo);
  text(writer, RESPONSE.typeUrl, head.typeUrl);
  text(writer, RESPONSE.nonce, head.nonce);
  if (head.controlPlane !== '') {
    writer.tag(RESPONSE.controlPlane, WireType.LengthDelimited).fork();
    text(writer, CONTROL_PLANE_IDENTIFIER, head.controlPlane);
    writer.join();
  }
  return writer.finish();
}

/** One element of `resources`, with its tag. */
export function encodeResourceField(
  typeUrl: string,
  resource: { readonly name: string; readonly version: string; readonly bytes: Uint8Array },
  aliases: readonly string[],
): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(RESPONSE.resources, WireType.LengthDelimited).fork();
  text(writer, RESOURCE.version, resource.version);
  writer.tag(RESOURCE.resource, WireType.LengthDelimited).fork();
  text(writer, ANY.typeUrl, typeUrl);
  writer.tag(ANY.value, WireType.LengthDelimited).bytes(resource.bytes);
  writer.join();
  text(writer, RESOURCE.name, resource.name);
  for (const alias of aliases) writer.tag(RESOURCE.aliases, WireType.LengthDelimited).string(alias);
  writer.join();
  return writer.finish();
}

export function encodeRemoved(names: readonly string[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const name of names) writer.tag(RESPONSE.removed, WireType.LengthDelimited).string(name);
  return writer.finish();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  if (value !== '') writer.tag(field, WireType.LengthDelimited).string(value);
}
