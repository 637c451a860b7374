// A captured segment as a line: text where it is text, the kind of record where it is TLS, bytes otherwise. Pure.

import type { Style } from '../style.ts';
import type { TcpSegment } from './pcap.ts';

export type Place = 'pod' | 'wire';

const SHOWN_CHARACTERS = 100;
const SHOWN_BYTES = 16;
const READABLE_SHARE = 0.9;
/** RFC 8446 §5.1. */
const TLS_TYPES: Readonly<Record<number, string>> = {
  20: 'change cipher spec',
  21: 'alert',
  22: 'handshake',
  23: 'application data',
};

export function renderSegment(place: Place, segment: TcpSegment, style: Style): string {
  const clock = new Date(segment.timeMs).toISOString().slice(11, 23);
  const label = place === 'pod' ? style.bold('pod ') : style.accent('wire');
  const { kind, text } = describePayload(segment.payload);
  const shown = kind === 'text' ? style.bad(text) : kind === 'tls' ? style.good(text) : text;
  return `${style.dim(clock)} ${label} ${segment.source} → ${segment.destination}  ${shown}`;
}

export function describePayload(payload: Buffer): { kind: 'text' | 'tls' | 'bytes'; text: string } {
  const size = `${payload.length} B`;
  const type = TLS_TYPES[payload[0] ?? 0];
  if (type !== undefined && payload.length >= 5 && payload[1] === 3 && (payload[2] ?? 9) <= 4)
    return { kind: 'tls', text: `TLS ${type}, ${size}: ${hex(payload)}` };
  const sample = payload.subarray(0, SHOWN_CHARACTERS * 2);
  const readable = [...sample].filter(
    (byte) => (byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d,
  );
  if (readable.length >= sample.length * READABLE_SHARE) {
    // Nothing of it may move the cursor or change the terminal.
    const text = sample
      .toString('latin1')
      .replace(/\r?\n/g, ' ⏎ ')
      .replace(/[^\x20-\x7e\u23ce]/g, '·');
    return {
      kind: 'text',
      text: `${size}: ${text.slice(0, SHOWN_CHARACTERS)}${text.length > SHOWN_CHARACTERS ? '…' : ''}`,
    };
  }
  return { kind: 'bytes', text: `${size}: ${hex(payload)}` };
}

const hex = (payload: Buffer): string =>
  `${[...payload.subarray(0, SHOWN_BYTES)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}${
    payload.length > SHOWN_BYTES ? ' …' : ''
  }`;
