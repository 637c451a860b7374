// What kubectl and tcpdump send: SPDY frames and their header blocks, WebSocket messages, captured packets.

import assert from 'node:assert/strict';
import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { PcapDecoder, tcpSegment } from '#cli/capture/pcap.ts';
import { settle } from '#hbone/http2/wire-rig.ts';
import { encodeFrame, type Frame, FrameDecoder } from '#k8s/streams/spdy-frames.ts';
import { HeaderReader, HeaderWriter, parseHeaders } from '#k8s/streams/spdy-headers.ts';
import { acceptWebSocket, WebSocketBytes } from '#local/streams/websocket.ts';
import { SocksNegotiation } from '#ztunnel/socks5.ts';
import { kindOf, pickedBy, piecesOf, refusal, refusedOr, type Target } from '../target.ts';

const HEADERS = new Map([
  ['streamtype', ['stdout']],
  ['requestid', ['0']],
  ['x', ['a', 'b']],
]);
const headerBlock = (): Buffer => new HeaderWriter().write(HEADERS);

const FRAMES = (): Buffer =>
  Buffer.concat(
    (
      [
        { type: 'syn-stream', streamId: 1, fin: false, unidirectional: false, headerBlock: headerBlock() },
        { type: 'syn-reply', streamId: 1, fin: false, headerBlock: Buffer.alloc(4) },
        { type: 'data', streamId: 1, bytes: Buffer.from('hello'), fin: false },
        { type: 'window-update', streamId: 1, deltaBytes: 32_768 },
        { type: 'settings', values: new Map([[7, 65_536]]) },
        { type: 'ping', id: 9 },
        { type: 'rst-stream', streamId: 3, status: 5 },
        { type: 'data', streamId: 1, bytes: Buffer.alloc(0), fin: true },
        { type: 'goaway', lastStreamId: 3, status: 1 },
      ] satisfies Frame[]
    ).map(encodeFrame),
  );

const spdyFrames: Target = {
  name: 'spdy-frames',
  seeds: () => [FRAMES()],
  tokens: ['80030001', '80030004', '80030009', '00000001', '0100000d'].map((text) =>
    Buffer.from(text, 'hex'),
  ),
  run(input) {
    const decoder = new FrameDecoder();
    const frames: Frame[] = [];
    const result = refusedOr(['STREAM_PROTOCOL'], () => {
      for (const piece of piecesOf(input, 64 + pickedBy(input, 5000))) frames.push(...decoder.push(piece));
    });
    for (const frame of frames) {
      if (frame.type === 'data') continue;
      const [again, ...more] = new FrameDecoder().push(encodeFrame(frame));
      assert.deepEqual([again, more.length], [frame, 0]);
    }
    return `${result} ${[...new Set(frames.map(({ type }) => type))].sort()}`;
  },
};

const spdyHeaders: Target = {
  name: 'spdy-headers',
  seeds: () => [headerBlock(), new HeaderWriter().write(new Map())],
  async run(input) {
    const reader = new HeaderReader();
    try {
      return `read ${Math.min((await reader.read(input)).size, 5)}`;
    } catch (error) {
      return refusal(error, ['STREAM_PROTOCOL']);
    } finally {
      reader.close();
    }
  },
};

const spdyHeaderLists: Target = {
  name: 'spdy-header-lists',
  seeds: () => [
    Buffer.from('00000002000000036162630000000178000000017900000003612062'.slice(0, 56), 'hex'),
    Buffer.from('00000001000000016100000003620063', 'hex'),
  ],
  run: (input) =>
    refusedOr(
      ['STREAM_PROTOCOL'],
      () => parseHeaders(input),
      (headers) => `read ${Math.min(headers.size, 5)}`,
    ),
};

/** RFC 6455 §5.2, masked, as a client sends. */
function webSocketFrame(opcode: number, payload: Buffer, isLast = true): Buffer {
  const mask = Buffer.from('01020304', 'hex');
  const masked = payload.map((byte, at) => byte ^ mask[at % 4]!);
  return Buffer.concat([Buffer.of((isLast ? 0x80 : 0) | opcode, 0x80 | payload.length), mask, masked]);
}

/** The server's end of a connection whose client is the fuzzer. */
class Wire extends Duplex {
  sentBytes = 0;
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.sentBytes += chunk.length;
    done();
  }
}

function opened(wire: Wire): WebSocketBytes {
  const request = new IncomingMessage(new Socket());
  request.method = 'GET';
  request.headers = {
    ...{ upgrade: 'websocket', connection: 'Upgrade', 'sec-websocket-version': '13' },
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  let bytes: WebSocketBytes | undefined;
  acceptWebSocket(request, wire, Buffer.alloc(0), 'v5.channel.k8s.io', (webSocket) => {
    bytes = new WebSocketBytes(webSocket);
  });
  if (bytes === undefined) throw new Error('the handshake of the fuzzer was refused');
  return bytes;
}

const webSocket: Target = {
  name: 'websocket',
  seeds: () => [
    Buffer.concat([
      webSocketFrame(2, Buffer.from('\0ls\n')),
      webSocketFrame(9, Buffer.from('?')),
      webSocketFrame(1, Buffer.from('ä'), false),
      webSocketFrame(0, Buffer.from('b')),
      webSocketFrame(8, Buffer.from([3, 232])),
    ]),
  ],
  async run(input) {
    const wire = new Wire({ allowHalfOpen: false });
    const bytes = opened(wire);
    let received = 0;
    let failure = '';
    bytes.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    bytes.on('error', (error) => {
      failure = error.message;
    });
    for (const piece of piecesOf(input, 100 + pickedBy(input, 70_000))) if (!wire.destroyed) wire.push(piece);
    await settle();
    assert.ok(received <= input.length);
    assert.ok(wire.sentBytes <= 1000 + 3 * input.length, `${wire.sentBytes} bytes sent`);
    const isOpen = !bytes.destroyed;
    bytes.destroy();
    wire.destroy();
    await settle();
    return `${isOpen ? 'open' : 'closed'} ${kindOf(failure)} ${Math.min(received, 8)}`;
  },
};

function pcapOf(...packets: readonly Buffer[]): Buffer {
  const head = Buffer.from('d4c3b2a1020004000000000000000000ffff000001000000', 'hex');
  const records = packets.flatMap((packet) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(packet.length, 8);
    record.writeUInt32LE(packet.length, 12);
    return [record, packet];
  });
  return Buffer.concat([head, ...records]);
}
/** Ethernet, IPv4 or IPv6, TCP, and "hi". */
const PACKET_V4 = Buffer.from(
  `${'00'.repeat(12)}0800 4500002a000040004006 0000 0a000001 0a000002 1f90005000000000000000005018ffff00000000 6869`.replaceAll(
    ' ',
    '',
  ),
  'hex',
);
const PACKET_V6 = Buffer.from(
  `${'00'.repeat(12)}86dd 60000000001606 40 ${'fd'.repeat(16)} ${'fe'.repeat(16)} 1f90005000000000000000005018ffff00000000 6869`.replaceAll(
    ' ',
    '',
  ),
  'hex',
);

const pcap: Target = {
  name: 'pcap',
  seeds: () => [pcapOf(PACKET_V4, PACKET_V6), pcapOf(PACKET_V6)],
  run(input) {
    const decoder = new PcapDecoder();
    let segments = 0;
    const result = refusedOr(['CONFIG_INVALID'], () => {
      for (const piece of piecesOf(input, 512 + pickedBy(input, 5000)))
        for (const packet of decoder.push(piece)) {
          const segment = tcpSegment(packet);
          if (segment === undefined) continue;
          segments++;
          assert.ok(segment.payload.length > 0);
        }
    });
    return `${result} ${Math.min(segments, 4)}`;
  },
};

const socks5: Target = {
  name: 'socks5',
  maxBytes: 4096,
  seeds: () =>
    [
      '05010005010001' + '0a6000070050',
      '0502000205010003' + '03612e620050',
      `05010005010004${'00'.repeat(15)}0101bb`,
    ].map((text) => Buffer.from(text, 'hex')),
  run(input) {
    const outcomeOf = (length: number): string => {
      const negotiation = new SocksNegotiation();
      for (const piece of piecesOf(input, length)) {
        let step = negotiation.push(piece);
        while (step.kind === 'reply') step = negotiation.push(Buffer.alloc(0));
        if (step.kind === 'refused') return step.reason;
        // What follows the request is not cut alike.
        if (step.kind === 'request') return JSON.stringify(step.target);
      }
      return 'more';
    };
    const whole = outcomeOf(input.length || 1);
    assert.equal(outcomeOf(1 + pickedBy(input, 20)), whole);
    return kindOf(whole);
  },
};

export const STREAM_TARGETS: readonly Target[] = [
  spdyFrames,
  spdyHeaders,
  spdyHeaderLists,
  webSocket,
  socks5,
  pcap,
];
