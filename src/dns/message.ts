// DNS messages as far as the proxy needs them (RFC 1035 §4, RFC 6891): one question and its EDNS in, addresses out.
// Everything else passes through as the bytes it came in, so no record type can confuse us. Pure.

import { familyOf, type IpAddress, ipToBytes } from '#net/ip.ts';

export const TYPE_A = 1;
export const TYPE_AAAA = 28;
const TYPE_CNAME = 5;
const TYPE_OPT = 41;
export const CLASS_IN = 1;

export const NOERROR = 0;
export const FORMERR = 1;
export const SERVFAIL = 2;
export const NOTIMP = 4;

const HEADER_BYTES = 12;
/** Of a UDP answer to a client that does not say what it can take (RFC 1035 §4.2.1), and the least one may say. */
export const PLAIN_UDP_BYTES = 512;
/** The length field of TCP. */
export const TCP_MESSAGE_BYTES = 65_535;
const LABEL_BYTES = 63;
const NAME_BYTES = 255;
/** Type, class, TTL and length of the data. */
const RECORD_HEAD_BYTES = 10;
const OPT_BYTES = 11;

// The second 16 bits of the header.
const RESPONSE = 0x8000;
const OPCODE = 0x7800;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_DESIRED = 0x0100;
const RECURSION_AVAILABLE = 0x0080;
const CHECKING_DISABLED = 0x0010;
const EDNS_DNSSEC_OK = 0x8000;

export interface Edns {
  /** What the asker can take over UDP. */
  readonly payloadBytes: number;
  readonly version: number;
  readonly dnssecOk: boolean;
}

export interface Query {
  readonly id: number;
  /** The message, without what followed its last record. */
  readonly bytes: Uint8Array;
  /** Name, type and class as they came; echoed by every answer. */
  readonly question: Uint8Array;
  /** Lower case, without the final dot. Undefined when a label holds a byte that no host name of the mesh can have. */
  readonly name: string | undefined;
  readonly type: number;
  readonly class: number;
  readonly edns: Edns | undefined;
}

export type ParsedQuery =
  | { readonly kind: 'query'; readonly query: Query }
  /** To be answered with this code, and with as much of the message as was understood. */
  | { readonly kind: 'refused'; readonly rcode: number; readonly reason: string }
  /** An answer, or too short to have an id to answer to. */
  | { readonly kind: 'ignored' };

/** Whatever the bytes are: never throws, and work is bounded by their number. */
export function parseQuery(bytes: Uint8Array): ParsedQuery {
  if (bytes.length < HEADER_BYTES) return { kind: 'ignored' };
  const flags = u16(bytes, 2);
  // Answering an answer would let one forged datagram, from us to us, go round for ever.
  if ((flags & RESPONSE) !== 0) return { kind: 'ignored' };
  if ((flags & OPCODE) !== 0) return refused(NOTIMP, `opcode ${(flags & OPCODE) >> 11} is not served`);
  if (u16(bytes, 4) !== 1) return refused(FORMERR, `${u16(bytes, 4)} questions instead of one`);
  const name = readName(bytes, HEADER_BYTES);
  if (name === undefined || name.end + 4 > bytes.length) return refused(FORMERR, 'the question is malformed');
  const questionEnd = name.end + 4;
  const rest = readRecords(bytes, questionEnd);
  if (rest === undefined) return refused(FORMERR, 'the records after the question are malformed');
  return {
    kind: 'query',
    query: {
      id: u16(bytes, 0),
      bytes: bytes.subarray(0, rest.end),
      question: bytes.subarray(HEADER_BYTES, questionEnd),
      name: name.text,
      type: u16(bytes, name.end),
      class: u16(bytes, name.end + 2),
      edns: rest.edns,
    },
  };
}

function refused(rcode: number, reason: string): ParsedQuery {
  return { kind: 'refused', rcode, reason };
}

/** The name of a question; a pointer there could only point forward, so it is an error. */
function readName(bytes: Uint8Array, start: number): { text: string | undefined; end: number } | undefined {
  let text = '';
  let isHostName = true;
  let at = start;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > LABEL_BYTES) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > bytes.length || at + length - start > NAME_BYTES - 1) return undefined;
    if (text !== '') text += '.';
    for (const end = at + length; at < end; at++) {
      const byte = bytes[at]!;
      // A dot inside a label would read as two labels.
      if (byte <= 0x20 || byte >= 0x7f || byte === 0x2e) isHostName = false;
      text += String.fromCharCode(byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte);
    }
  }
  return { text: isHostName ? text : undefined, end: at };
}

/** Walks everything after the question, for its end and the OPT record. */
function readRecords(bytes: Uint8Array, start: number): { end: number; edns: Edns | undefined } | undefined {
  const additionalFrom = u16(bytes, 6) + u16(bytes, 8);
  const count = additionalFrom + u16(bytes, 10);
  let at = start;
  let edns: Edns | undefined;
  for (let index = 0; index < count; index++) {
    const owner = at;
    const end = skipName(bytes, at);
    if (end === undefined || end + 10 > bytes.length) return undefined;
    if (u16(bytes, end) === TYPE_OPT && index >= additionalFrom) {
      // One at most, and only for the root (RFC 6891 §6.1.1).
      if (edns !== undefined || bytes[owner] !== 0) return undefined;
      edns = {
        payloadBytes: u16(bytes, end + 2),
        version: bytes[end + 5]!,
        dnssecOk: (u16(bytes, end + 6) & EDNS_DNSSEC_OK) !== 0,
      };
    }
    at = end + 10 + u16(bytes, end + 8);
    if (at > bytes.length) return undefined;
  }
  return { end: at, edns };
}

function skipName(bytes: Uint8Array, start: number): number | undefined {
  for (let at = start; at < bytes.length; ) {
    const length = bytes[at]!;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2;
    if (length > LABEL_BYTES) return undefined;
    at += 1 + length;
  }
  return undefined;
}

/** Addresses of the name that was asked for, or of the name it is an alias of. */
export interface LocalAnswer {
  /** What the question's name stands for (a CNAME record says so), in lower case without the final dot. */
  readonly canonicalName: string | undefined;
  readonly addresses: readonly IpAddress[];
  readonly ttlSeconds: number;
}

/** At most `limitBytes`: what does not fit is left out and the answer marked as truncated. */
export function encodeAnswer(query: Query, answer: LocalAnswer, limitBytes: number): Buffer {
  const room = limitBytes - (query.edns === undefined ? 0 : OPT_BYTES);
  const parts: Uint8Array[] = [query.question];
  let length = HEADER_BYTES + query.question.length;
  let count = 0;
  let isTruncated = false;
  /** Where the record's data begins; undefined when it did not fit. */
  const add = (owner: Uint8Array, type: number, data: Uint8Array): number | undefined => {
    const dataAt = length + owner.length + RECORD_HEAD_BYTES;
    if (dataAt + data.length > room) {
      isTruncated = true;
      return undefined;
    }
    parts.push(owner, recordHead(type, answer.ttlSeconds, data.length), data);
    length = dataAt + data.length;
    count++;
    return dataAt;
  };
  let owner = ownerOf(query);
  if (answer.canonicalName !== undefined) {
    const target = add(owner, TYPE_CNAME, encodeName(answer.canonicalName));
    if (target !== undefined) owner = pointerTo(target);
  }
  for (const address of answer.addresses) {
    if (isTruncated) break;
    const dataAt = add(owner, familyOf(address) === 4 ? TYPE_A : TYPE_AAAA, ipToBytes(address));
    if (dataAt !== undefined && owner.length > 2)
      owner = pointerTo(dataAt - RECORD_HEAD_BYTES - owner.length);
  }
  const flags = AUTHORITATIVE | RECURSION_AVAILABLE | (isTruncated ? TRUNCATED : 0);
  return Buffer.concat([header(query, flags | NOERROR, count), ...parts, optRecord(query.edns)]);
}

/** Owners are spelt in lower case, whatever the question's spelling was; when that is the same, it is pointed at. */
function ownerOf({ name, question }: Query): Uint8Array {
  const spelt = encodeName(name ?? '');
  return equalBytes(spelt, question.subarray(0, question.length - 4)) ? pointerTo(HEADER_BYTES) : spelt;
}

/** An answer without records. */
export function encodeRefusal(query: Query, rcode: number): Buffer {
  return Buffer.concat([
    header(query, RECURSION_AVAILABLE | rcode, 0),
    query.question,
    optRecord(query.edns),
  ]);
}

/** To a message that is no query: its id and flags are all there is. `bytes` has a whole header. */
export function encodeFormatError(bytes: Uint8Array, rcode: number): Buffer {
  const answer = Buffer.alloc(HEADER_BYTES);
  answer.set(bytes.subarray(0, 2));
  answer.writeUInt16BE(RESPONSE | (u16(bytes, 2) & (OPCODE | RECURSION_DESIRED)) | rcode, 2);
  return answer;
}

/**
 * The answer of another server, given on: under the asker's id, as not ours, and marked as truncated when it is larger
 * than the asker can take. Changes `response` in place.
 */
export function relayAnswer(query: Query, response: Buffer, limitBytes: number): Buffer {
  if (response.length > limitBytes) {
    const rcode = u16(response, 2) & 0xf;
    const cut = encodeRefusal(query, rcode);
    cut.writeUInt16BE(u16(cut, 2) | TRUNCATED, 2);
    return cut;
  }
  response.writeUInt16BE(query.id, 0);
  response.writeUInt16BE((u16(response, 2) & ~AUTHORITATIVE) | RECURSION_AVAILABLE, 2);
  return response;
}

/** Whether `response` is an answer to what was asked under `id`. Anything else came by mistake, or is forged. */
export function isAnswerTo(query: Query, id: number, response: Uint8Array): boolean {
  if (response.length < HEADER_BYTES || u16(response, 0) !== id || (u16(response, 2) & RESPONSE) === 0)
    return false;
  // A server that could not read the question cannot repeat it.
  if (u16(response, 4) === 0) return rcodeOf(response) !== NOERROR;
  const end = HEADER_BYTES + query.question.length;
  return (
    u16(response, 4) === 1 &&
    response.length >= end &&
    equalBytes(response.subarray(HEADER_BYTES, end), query.question)
  );
}

export function rcodeOf(response: Uint8Array): number {
  return u16(response, 2) & 0xf;
}

export function answerCountOf(response: Uint8Array): number {
  return u16(response, 6);
}

/** The size of the largest answer this asker takes over UDP. */
export function udpLimit(query: Query): number {
  return Math.max(query.edns?.payloadBytes ?? 0, PLAIN_UDP_BYTES);
}

function header(query: Query, flags: number, answers: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  const asked = u16(query.bytes, 2) & (RECURSION_DESIRED | CHECKING_DISABLED);
  bytes.writeUInt16BE(query.id, 0);
  bytes.writeUInt16BE(RESPONSE | asked | flags, 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt16BE(answers, 6);
  bytes.writeUInt16BE(query.edns === undefined ? 0 : 1, 10);
  return bytes;
}

function recordHead(type: number, ttlSeconds: number, dataBytes: number): Buffer {
  const bytes = Buffer.alloc(RECORD_HEAD_BYTES);
  bytes.writeUInt16BE(type, 0);
  bytes.writeUInt16BE(CLASS_IN, 2);
  bytes.writeUInt32BE(ttlSeconds, 4);
  bytes.writeUInt16BE(dataBytes, 8);
  return bytes;
}

function optRecord(edns: Edns | undefined): Buffer {
  if (edns === undefined) return Buffer.alloc(0);
  const bytes = Buffer.alloc(OPT_BYTES);
  bytes.writeUInt16BE(TYPE_OPT, 1);
  bytes.writeUInt16BE(Math.max(edns.payloadBytes, PLAIN_UDP_BYTES), 3);
  bytes[6] = edns.version;
  bytes.writeUInt16BE(edns.dnssecOk ? EDNS_DNSSEC_OK : 0, 7);
  return bytes;
}

function encodeName(name: string): Buffer {
  if (name === '') return Buffer.alloc(1);
  const labels = name.split('.').map((label) => Buffer.from(label, 'latin1'));
  return Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)]);
}

/** A name as a reference to where it stands already, within the first 16 KiB (RFC 1035 §4.1.4). */
function pointerTo(at: number): Buffer {
  return Buffer.of(0xc0 | (at >> 8), at & 0xff);
}

function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}

function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
