import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { styleFor } from '../style.ts';
import { captureCommands } from './capture.ts';
import { PcapDecoder, tcpSegment } from './pcap.ts';
import { describePayload, renderSegment } from './render.ts';

/** A capture by hand: RFC 791 and RFC 9293 headers around a payload, little-endian pcap. */
function frame(payload: string | Buffer, change: { protocol?: number; padding?: number } = {}): Buffer {
  const body = Buffer.from(payload as string);
  const ethernet = Buffer.concat([Buffer.alloc(12), Buffer.from([0x08, 0x00])]);
  const ip = Buffer.alloc(20);
  ip[0] = 0x45;
  ip.writeUInt16BE(40 + body.length, 2);
  ip[9] = change.protocol ?? 6;
  ip.set([10, 244, 1, 3], 12);
  ip.set([10, 96, 0, 20], 16);
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(41000, 0);
  tcp.writeUInt16BE(8080, 2);
  tcp[12] = 0x50;
  return Buffer.concat([ethernet, ip, tcp, body, Buffer.alloc(change.padding ?? 0)]);
}

function pcap(...frames: Buffer[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt32LE(1, 20);
  const records = frames.map((one) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(1_700_000_000, 0);
    record.writeUInt32LE(250_000, 4);
    record.writeUInt32LE(one.length, 8);
    record.writeUInt32LE(one.length, 12);
    return Buffer.concat([record, one]);
  });
  return Buffer.concat([header, ...records]);
}

test('a segment with its addresses, time and payload; without padding', () => {
  const [packet] = new PcapDecoder().push(pcap(frame('GET /', { padding: 6 })));
  assert.ok(packet);
  assert.deepEqual(tcpSegment(packet), {
    timeMs: 1_700_000_000_250,
    source: '10.244.1.3:41000',
    destination: '10.96.0.20:8080',
    payload: Buffer.from('GET /'),
  });
});

test('what carries no bytes, or is no TCP, is passed over', () => {
  const segments = new PcapDecoder()
    .push(pcap(frame(''), frame('x', { protocol: 17 }), Buffer.alloc(10), frame('y')))
    .map(tcpSegment);
  assert.deepEqual(
    segments.map((segment) => segment?.payload.toString()),
    [undefined, undefined, undefined, 'y'],
  );
});

test('however the stream is cut, the packets are the same', () => {
  const whole = pcap(frame('one'), frame('two'), frame('three'));
  fc.assert(
    fc.property(fc.array(fc.nat(whole.length), { maxLength: 6 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), whole.length];
      const decoder = new PcapDecoder();
      const packets = at.slice(1).flatMap((end, index) => decoder.push(whole.subarray(at[index], end)));
      assert.deepEqual(
        packets.map((packet) => tcpSegment(packet)?.payload.toString()),
        ['one', 'two', 'three'],
      );
    }),
  );
});

test('any bytes are a packet, nothing, or a clear refusal', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      tcpSegment({ timeMs: 0, frame: Buffer.from(bytes) });
    }),
  );
  assert.throws(() => new PcapDecoder().push(Buffer.alloc(24)), /no pcap header/);
});

test('text is shown as text without anything that moves the cursor, TLS as TLS, the rest as bytes', () => {
  assert.deepEqual(describePayload(Buffer.from('GET / HTTP/1.1\r\nHost: cart\r\n')), {
    kind: 'text',
    text: '28 B: GET / HTTP/1.1 ⏎ Host: cart ⏎ ',
  });
  assert.doesNotMatch(describePayload(Buffer.from(`${'a'.repeat(40)}\u001b[2J`)).text, /[^\x20-\x7e⏎·]/);
  assert.deepEqual(describePayload(Buffer.from([0x17, 0x03, 0x03, 0x00, 0x02, 0xaa, 0xbb])), {
    kind: 'tls',
    text: 'TLS application data, 7 B: 17 03 03 00 02 aa bb',
  });
  assert.equal(describePayload(Buffer.from([0, 1, 2, 3])).kind, 'bytes');
  const line = renderSegment(
    'wire',
    { timeMs: 0, source: 'a:1', destination: 'b:2', payload: Buffer.from('hello') },
    styleFor(false, {}),
  );
  assert.equal(line, '00:00:00.000 wire a:1 → b:2  5 B: hello');
});

test('the wire is watched at every address of the pod', () => {
  const { wire } = captureCommands({
    podUid: 'u1',
    podIps: ['10.244.1.2', 'fd00:10:244:1::2'],
    enrolled: true,
  });
  assert.equal(wire.at(-1), 'tcp and (host 10.244.1.2 or host fd00:10:244:1::2)');
});
