import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { StreamOutcome } from '../hbone.ts';
import { HpackEncoder } from './hpack-encoder.ts';
import type { Stream } from './stream.ts';
import { frame, newShared, PREFACE, type Rig, settle, startSession } from './wire-rig.ts';

const [DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [0, 1, 3, 4, 6, 7, 8, 9];
const MIB = 1 << 20;

const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [at, value] of values.entries()) bytes.writeUInt32BE(value, 4 * at);
  return bytes;
};
/** A request that needs no state: :method CONNECT and :authority a:1, literals without indexing. */
const REQUEST = Buffer.from('0207434f4e4e45435401 03613a31'.replaceAll(' ', ''), 'hex');
const SETTINGS_FRAME = frame(SETTINGS, 0, 0);
const ACK = frame(SETTINGS, 1, 0);

interface Accepted extends Rig {
  readonly streams: Stream[];
}

/** A server that accepts everything; the test is its client. */
async function server(options: Parameters<typeof startSession>[2] = {}): Promise<Accepted> {
  const streams: Stream[] = [];
  const rig = startSession(
    'server',
    {
      request: (stream) => {
        streams.push(stream);
        rig.session.respond(stream, [':status', '200'], false);
      },
    },
    options,
  );
  rig.wire.feed(Buffer.from(PREFACE), SETTINGS_FRAME, ACK);
  await settle();
  return { ...rig, streams };
}

async function client(): Promise<Rig> {
  const rig = startSession('client');
  rig.wire.feed(SETTINGS_FRAME, ACK);
  await settle();
  return rig;
}

/** `CODE` of the GOAWAY that ended the session. */
const goawayCode = ({ wire }: Rig): number | undefined => wire.of(GOAWAY!).at(-1)?.payload.readUInt32BE(4);
const resetCode = ({ wire }: Rig, id: number): number | undefined =>
  wire.of(RST!, id)[0]?.payload.readUInt32BE(0);

describe('a session ends with the code of RFC 9113 for', () => {
  const BREACHES: Readonly<Record<string, readonly [code: number, ...frames: Buffer[]]>> = {
    'DATA on stream 0 (§6.1)': [1, frame(DATA!, 0, 0, '00')],
    'DATA on a stream nobody opened (§5.1)': [1, frame(DATA!, 0, 7, '00')],
    'HEADERS on stream 0 (§6.2)': [1, frame(HEADERS!, 5, 0, REQUEST)],
    'HEADERS on an even stream (§5.1.1)': [1, frame(HEADERS!, 5, 2, REQUEST)],
    'PRIORITY of 4 bytes (§6.3)': [6, frame(2, 0, 1, '00000000')],
    'RST_STREAM on stream 0 (§6.4)': [1, frame(RST!, 0, 0, '00000000')],
    'RST_STREAM of 3 bytes (§6.4)': [6, frame(RST!, 0, 1, '000000')],
    'RST_STREAM on a stream nobody opened (§6.4)': [1, frame(RST!, 0, 9, '00000000')],
    'SETTINGS on a stream (§6.5)': [1, frame(SETTINGS!, 0, 1)],
    'SETTINGS of 5 bytes (§6.5)': [6, frame(SETTINGS!, 0, 0, '0001000010')],
    'SETTINGS with ACK and content (§6.5)': [6, frame(SETTINGS!, 1, 0, '000100001000')],
    'ENABLE_PUSH 2 (§6.5.2)': [1, frame(SETTINGS!, 0, 0, '000200000002')],
    'INITIAL_WINDOW_SIZE 2^31 (§6.5.2)': [3, frame(SETTINGS!, 0, 0, '000480000000')],
    'MAX_FRAME_SIZE 16383 (§6.5.2)': [1, frame(SETTINGS!, 0, 0, '000500003fff')],
    'PUSH_PROMISE (§8.4)': [1, frame(5, 4, 1, '00000002')],
    'PING on a stream (§6.7)': [1, frame(PING!, 0, 1, '0000000000000000')],
    'PING of 6 bytes (§6.7)': [6, frame(PING!, 0, 0, '000000000000')],
    'GOAWAY on a stream (§6.8)': [1, frame(GOAWAY!, 0, 1, '0000000000000000')],
    'GOAWAY of 4 bytes (§6.8)': [6, frame(GOAWAY!, 0, 0, '00000000')],
    'WINDOW_UPDATE of 0 (§6.9)': [1, frame(WINDOW_UPDATE!, 0, 0, '00000000')],
    'WINDOW_UPDATE of 3 bytes (§6.9)': [6, frame(WINDOW_UPDATE!, 0, 0, '000001')],
    'a session window above 2^31-1 (§6.9.1)': [3, frame(WINDOW_UPDATE!, 0, 0, '7fffffff')],
    'CONTINUATION without HEADERS (§6.10)': [1, frame(CONTINUATION!, 4, 1, REQUEST)],
    'another frame inside a header block (§6.10)': [
      1,
      frame(HEADERS!, 0, 1, REQUEST),
      frame(PING!, 0, 0, '0000000000000000'),
    ],
    'DATA inside a header block (§6.10)': [1, frame(HEADERS!, 0, 1, REQUEST), frame(DATA!, 0, 1, '00')],
    'CONTINUATION of another stream (§6.10)': [1, frame(HEADERS!, 0, 1, REQUEST), frame(CONTINUATION!, 4, 3)],
    'a broken header block (§4.3)': [9, frame(HEADERS!, 5, 1, '80')],
    'a frame above MAX_FRAME_SIZE (§4.2)': [6, Buffer.from('100001000000000001', 'hex')],
    'endless CONTINUATION (§10.5)': [
      11,
      frame(HEADERS!, 0, 1, REQUEST),
      ...new Array(32).fill(frame(CONTINUATION!, 0, 1)),
    ],
    'a thousand SETTINGS (§10.5)': [11, ...new Array(1001).fill(SETTINGS_FRAME)],
    'ten thousand PINGs (§10.5)': [11, ...new Array(10_001).fill(frame(PING!, 0, 0, '0000000000000000'))],
    'ten thousand frames of an unknown type (§10.5)': [11, ...new Array(10_001).fill(frame(99, 0, 0))],
    'ten thousand empty DATA frames (§10.5)': [
      11,
      frame(HEADERS!, 4, 1, REQUEST),
      ...new Array(10_001).fill(frame(DATA!, 0, 1)),
    ],
  };
  for (const [what, [code, ...frames]] of Object.entries(BREACHES)) {
    it(what, async () => {
      const rig = await server();
      rig.wire.feed(...frames);
      await settle();
      assert.equal(goawayCode(rig), code);
      assert.equal(rig.closed.length, 1);
      assert.match(rig.closed[0]!, /^the peer broke HTTP\/2: /);
    });
  }

  it('a first frame that is not SETTINGS (§3.4)', async () => {
    const rig = startSession('server');
    rig.wire.feed(Buffer.from(PREFACE), frame(PING!, 0, 0, '0000000000000000'));
    await settle();
    assert.equal(goawayCode(rig), 1);
  });

  it('but not for twelve thousand streams, each ended by an empty DATA frame as HTTP/2 has it', async () => {
    const rig = await server();
    for (let round = 0; round < 12; round++) {
      const ids = Array.from({ length: 1000 }, (_, each) => 1 + 2 * (round * 1000 + each));
      for (const id of ids) {
        rig.wire.feed(frame(HEADERS!, 4, id, REQUEST), frame(DATA!, 1, id));
        rig.session.respond(rig.streams.at(-1)!, [':status', '503'], true);
      }
      await settle();
    }
    assert.deepEqual(rig.closed, []);
    assert.equal(rig.streams.length, 12_000);
    assert.equal(rig.session.openStreams, 0);
  });

  it('rapid resets: ten thousand streams opened and cancelled at once (CVE-2023-44487)', async () => {
    const rig = await server();
    for (let round = 0; round < 20; round++) {
      const frames: Buffer[] = [];
      for (let each = 0; each < 1000; each++) {
        const id = 1 + 2 * (round * 1000 + each);
        frames.push(frame(HEADERS!, 4, id, REQUEST), frame(RST!, 0, id, u32(8)));
      }
      if (rig.closed.length === 0) rig.wire.feed(...frames);
      await settle();
    }
    assert.equal(goawayCode(rig), 11);
    assert.equal(rig.streams.length, 9991, 'ten of ten thousand went for the SETTINGS at the start');
  });
});

describe('one stream, not the session, ends for', () => {
  it('a malformed request', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, '820207434f4e4e454354'), frame(HEADERS!, 4, 3, REQUEST));
    await settle();
    assert.equal(resetCode(rig, 1), 1);
    assert.equal(rig.streams.length, 1);
    assert.equal(rig.closed.length, 0);
  });

  it('streams above the limit: REFUSED_STREAM, so that they are tried elsewhere', async () => {
    const rig = await server({ maxStreams: 2 });
    rig.wire.feed(...[1, 3, 5].map((id) => frame(HEADERS!, 4, id, REQUEST)));
    await settle();
    assert.equal(resetCode(rig, 5), 7);
    assert.equal(rig.session.openStreams, 2);
  });

  it('DATA behind END_STREAM', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 5, 1, REQUEST), frame(DATA!, 0, 1, '00'));
    await settle();
    assert.equal(resetCode(rig, 1), 5);
  });

  it('more DATA than its window', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST));
    for (let each = 0; each < 5; each++) rig.wire.feed(frame(DATA!, 0, 1, Buffer.alloc(MIB)));
    await settle();
    assert.equal(resetCode(rig, 1), 3);
    assert.equal(rig.closed.length, 0);
  });

  it('a WINDOW_UPDATE of 0 on it', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST), frame(WINDOW_UPDATE!, 0, 1, u32(0)));
    await settle();
    assert.equal(resetCode(rig, 1), 1);
  });
});

describe('flow control', () => {
  const attachPaused = (stream: Stream): { outcome?: StreamOutcome; bytes: number } => {
    const seen: { outcome?: StreamOutcome; bytes: number } = { bytes: 0 };
    stream.attach({
      data: (chunk) => {
        seen.bytes += chunk.length;
      },
      drain: () => {},
      end: () => {},
      close: (outcome) => {
        seen.outcome = outcome;
      },
    });
    stream.pause();
    return seen;
  };

  it('gives credit for what was read, in large steps, and none for what was not', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST));
    await settle();
    attachPaused(rig.streams[0]!);
    await settle();
    rig.wire.feed(frame(DATA!, 0, 1, Buffer.alloc(MIB)), frame(DATA!, 0, 1, Buffer.alloc(MIB)));
    await settle();
    assert.deepEqual(rig.wire.of(WINDOW_UPDATE!, 1), []);
    rig.streams[0]!.resume();
    await settle();
    const credit = rig.wire.of(WINDOW_UPDATE!, 1).map(({ payload }) => payload.readUInt32BE(0));
    assert.deepEqual(credit, [2 * MIB]);
  });

  it('padding is given back at once', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST));
    const padded = Buffer.alloc(256);
    padded[0] = 255;
    for (let each = 0; each < 4096; each++) rig.wire.feed(frame(DATA!, 8, 1, padded));
    await settle();
    const credit = rig.wire.of(WINDOW_UPDATE!, 1).map(({ payload }) => payload.readUInt32BE(0));
    assert.deepEqual(credit, [MIB]);
  });

  it('windows shrink as more lies unread, and grow when it is read', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST), frame(HEADERS!, 4, 3, REQUEST));
    await settle();
    attachPaused(rig.streams[0]!);
    await settle();
    for (let each = 0; each < 4; each++) rig.wire.feed(frame(DATA!, 0, 1, Buffer.alloc(MIB)));
    await settle();
    const windows = (): number[] =>
      rig.wire
        .of(SETTINGS!)
        .slice(1)
        .filter(({ flags }) => flags === 0)
        .map(({ payload }) => payload.readUInt32BE(2));
    assert.deepEqual(windows(), [MIB]);
    // Until the peer says that it knows, the old window counts.
    assert.equal(rig.streams[1]!.receiveWindow, 4 * MIB);
    rig.wire.feed(ACK);
    await settle();
    assert.equal(rig.streams[1]!.receiveWindow, MIB);
    rig.streams[0]!.resume();
    await settle();
    assert.deepEqual(windows(), [MIB, 4 * MIB]);
  });

  it('above the bound of the process the stream that holds most is reset', async () => {
    const shared = newShared(3 * MIB);
    const rig = await server({ shared });
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST), frame(HEADERS!, 4, 3, REQUEST));
    await settle();
    const [small, large] = [attachPaused(rig.streams[0]!), attachPaused(rig.streams[1]!)];
    await settle();
    rig.wire.feed(frame(DATA!, 0, 1, Buffer.alloc(MIB)));
    for (let each = 0; each < 3; each++) rig.wire.feed(frame(DATA!, 0, 3, Buffer.alloc(MIB)));
    await settle();
    assert.equal(resetCode(rig, 3), 11);
    assert.match(large.outcome?.reason ?? '', /bytes unread: the proxy holds too much/);
    assert.equal(small.outcome, undefined);
    assert.equal(shared.budget.unreadBytes, MIB);
    rig.session.cut('test');
    await settle();
    assert.equal(shared.budget.unreadBytes, 0);
  });

  it('a million one-byte frames that nobody reads cost about a megabyte', async () => {
    const rig = await server();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST));
    await settle();
    attachPaused(rig.streams[0]!);
    await settle();
    const thousand = Buffer.concat(new Array(1000).fill(frame(DATA!, 0, 1, '61')));
    global.gc?.();
    const before = process.memoryUsage();
    for (let each = 0; each < 1000; each++) {
      rig.wire.feed(thousand);
      if (each % 100 === 0) await settle();
    }
    await settle();
    assert.equal(rig.streams[0]!.unreadBytes, 1_000_000);
    assert.ok(process.memoryUsage().arrayBuffers - before.arrayBuffers < 64 * MIB);
    rig.streams[0]!.resume();
    await settle();
    assert.equal(rig.streams[0]!.unreadBytes, 0);
  });

  it('sends no more than the windows allow, and goes on when they open', async () => {
    const rig = await client();
    const stream = rig.session.request([':method', 'CONNECT', ':authority', 'a:1']);
    let drains = 0;
    stream.attach({ data: () => {}, drain: () => (drains += 1), end: () => {}, close: () => {} });
    assert.equal(stream.write(Buffer.alloc(100_000)), false);
    stream.end();
    await settle();
    const sent = (): number => rig.wire.of(DATA!).reduce((sum, { payload }) => sum + payload.length, 0);
    assert.equal(sent(), 65_535);
    rig.wire.feed(frame(WINDOW_UPDATE!, 0, 1, u32(10_000)));
    await settle();
    assert.equal(sent(), 65_535, 'the window of the session is still closed');
    rig.wire.feed(frame(WINDOW_UPDATE!, 0, 0, u32(100_000)));
    await settle();
    assert.equal(sent(), 75_535);
    assert.equal(rig.wire.of(DATA!).at(-1)?.flags, 0);
    rig.wire.feed(frame(SETTINGS!, 0, 0, Buffer.from('000400020000', 'hex')));
    await settle();
    assert.equal(sent(), 100_000);
    assert.equal(rig.wire.of(DATA!).at(-1)?.flags, 1, 'END_STREAM behind everything written');
    assert.equal(drains, 0, 'nobody is called for more behind an end');
  });

  it('keeps to the frame size of the peer', async () => {
    const rig = await client();
    rig.wire.feed(
      frame(WINDOW_UPDATE!, 0, 0, u32(MIB)),
      frame(SETTINGS!, 0, 0, Buffer.from('00050000600000040000ffff', 'hex')),
    );
    await settle();
    const stream = rig.session.request([':method', 'CONNECT', ':authority', 'a:1']);
    stream.write(Buffer.alloc(60_000));
    await settle();
    assert.deepEqual(
      rig.wire.of(DATA!).map(({ payload }) => payload.length),
      [24_576, 24_576, 10_848],
    );
  });

  it('a socket that takes nothing holds writers back after half a megabyte', async () => {
    const rig = await client();
    rig.wire.feed(
      frame(WINDOW_UPDATE!, 0, 0, u32(64 * MIB)),
      frame(SETTINGS!, 0, 0, Buffer.from('000404000000', 'hex')),
    );
    await settle();
    const stream = rig.session.request([':method', 'CONNECT', ':authority', 'a:1']);
    let drains = 0;
    stream.attach({ data: () => {}, drain: () => (drains += 1), end: () => {}, close: () => {} });
    rig.wire.isStuck = true;
    let taken = 0;
    for (let each = 0; each < 100 && stream.write(Buffer.alloc(64 * 1024)); each++) {
      taken += 64 * 1024;
      await settle();
    }
    assert.ok(taken < MIB, `${taken} bytes were taken`);
    assert.equal(drains, 0);
    rig.wire.unstick();
    await settle();
    assert.equal(drains, 1);
  });

  it('with eight busy streams no bytes pile up: all are held when the socket is full, and go on two by two', async () => {
    const rig = await client();
    rig.wire.feed(
      frame(WINDOW_UPDATE!, 0, 0, u32(64 * MIB)),
      frame(SETTINGS!, 0, 0, Buffer.from('000404000000', 'hex')),
    );
    await settle();
    const said: string[] = [];
    const streams = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => {
      const stream = rig.session.request([':method', 'CONNECT', ':authority', 'a:1']);
      const hold = (): void => void said.push(`hold ${name}`);
      const drain = (): void => void said.push(`drain ${name}`);
      stream.attach({ data: () => {}, hold, drain, end: () => {}, close: () => {} });
      assert.ok(stream.write(Buffer.alloc(1)));
      return stream;
    });
    await settle();
    rig.wire.isStuck = true;
    const read = Buffer.alloc(256 * 1024);
    assert.ok(streams[0]!.write(read));
    assert.ok(!streams[1]!.write(read), 'two reads are enough');
    assert.deepEqual(
      said.splice(0),
      ['a', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => `hold ${name}`),
    );
    rig.wire.unstick();
    await settle();
    assert.equal(said.length, 8, said.join());
    assert.deepEqual(new Set(said.splice(0)), new Set([...'abcdefgh'].map((name) => `drain ${name}`)));

    rig.wire.isStuck = true;
    const [first, second] = streams as [Stream, Stream];
    first.write(read);
    second.write(read);
    said.splice(0);
    const turns: number[] = [];
    rig.wire.unstick();
    for (let turn = 0; turn < 8; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      turns.push(said.splice(0).length);
    }
    assert.ok(
      turns.every((each) => each <= 4),
      `not all at once: ${turns}`,
    );
    assert.equal(
      turns.reduce((sum, each) => sum + each, 0),
      8,
    );
  });

  it('a stream that is over is not held or woken any more', async () => {
    const rig = await client();
    rig.wire.feed(frame(WINDOW_UPDATE!, 0, 0, u32(64 * MIB)));
    rig.wire.feed(frame(SETTINGS!, 0, 0, Buffer.from('000404000000', 'hex')));
    await settle();
    const open = (said: string[]): Stream => {
      const stream = rig.session.request([':method', 'CONNECT', ':authority', 'a:1']);
      const tell = (what: string) => (): void => void said.push(what);
      stream.attach({
        data: () => {},
        hold: tell('hold'),
        drain: tell('drain'),
        end: () => {},
        close: () => {},
      });
      return stream;
    };
    const said: string[] = [];
    const gone = open(said);
    const busy = open([]);
    gone.write(Buffer.alloc(1));
    gone.reset('CANCEL');
    await settle();
    rig.wire.isStuck = true;
    while (busy.write(Buffer.alloc(256 * 1024)));
    rig.wire.unstick();
    await settle();
    assert.deepEqual(said, []);
  });
});

describe('the end of a session', () => {
  it('a server drains in two steps: what was on its way is served', async () => {
    const rig = await server();
    rig.session.drain();
    rig.wire.feed(frame(HEADERS!, 4, 1, REQUEST));
    await settle();
    assert.equal(rig.streams.length, 1);
    const [first] = rig.wire.of(GOAWAY!);
    assert.deepEqual([first?.payload.readUInt32BE(0), first?.payload.readUInt32BE(4)], [0x7fffffff, 0]);
    const ping = rig.wire.of(PING!)[0]!;
    rig.wire.feed(frame(PING!, 1, 0, ping.payload), frame(HEADERS!, 4, 3, REQUEST));
    await settle();
    assert.equal(rig.streams.length, 1, 'behind the last word nothing is served');
    assert.equal(rig.wire.of(GOAWAY!)[1]?.payload.readUInt32BE(0), 1);
    assert.equal(rig.closed.length, 0);
    rig.wire.feed(frame(RST!, 0, 1, u32(8)));
    await settle();
    assert.equal(rig.closed.length, 1);
  });

  it('GOAWAY tells a client which streams may be repeated', async () => {
    const rig = await client();
    const streams = [1, 3].map(() => rig.session.request([':method', 'CONNECT', ':authority', 'a:1']));
    rig.wire.feed(frame(GOAWAY!, 0, 0, u32(1, 0)));
    await settle();
    assert.equal(rig.session.isUsable, false);
    assert.deepEqual(
      streams.map(({ isOver, isUnprocessed }) => [isOver, isUnprocessed]),
      [
        [false, false],
        [true, true],
      ],
    );
  });

  it('the reason of the peer is passed on', async () => {
    const rig = await client();
    let outcome: StreamOutcome | undefined;
    rig.session.request([':method', 'CONNECT', ':authority', 'a:1'], {
      closed: (_, end) => {
        outcome = end;
      },
    });
    rig.wire.feed(frame(GOAWAY!, 0, 0, Buffer.concat([u32(1, 11), Buffer.from('too many')])));
    rig.wire.push(null);
    await settle();
    const reason = 'the peer ended the session with GOAWAY ENHANCE_YOUR_CALM: too many';
    assert.deepEqual(outcome, { clean: false, reason });
    assert.deepEqual(rig.closed, [reason]);
  });
});

describe('any peer', () => {
  const encoder = (): HpackEncoder => new HpackEncoder();
  const part = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    fc
      .tuple(fc.integer({ min: 0, max: 10 }), fc.nat(255), fc.nat(9), fc.uint8Array({ maxLength: 40 }))
      .map(([type, flags, id, payload]) => frame(type, flags, id, Buffer.from(payload))),
    fc.constantFrom(1, 3, 5, 7).map((id) => frame(HEADERS!, 4, id, REQUEST)),
    fc
      .constantFrom(1, 3, 5)
      .map((id) => frame(HEADERS!, 5, id, encoder().encode([':method', 'CONNECT', ':authority', 'b:2']))),
    fc
      .tuple(fc.constantFrom(1, 3, 5), fc.nat(1), fc.nat(5000))
      .map(([id, flags, n]) => frame(DATA!, flags, id, Buffer.alloc(n))),
    fc
      .tuple(fc.constantFrom(0, 1, 3), fc.nat(100_000))
      .map(([id, n]) => frame(WINDOW_UPDATE!, 0, id, u32(n))),
  );
  it('leaves a session that works or has ended once, and its memory accounted for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('client', 'server'),
        fc.array(part, { maxLength: 30 }),
        async (role, parts) => {
          const shared = newShared();
          const ends = new Map<Stream, number>();
          const watch = (stream: Stream): void => {
            ends.set(stream, 0);
            let isPaused = false;
            stream.attach({
              data: () => {
                isPaused = !isPaused;
                if (isPaused) stream.pause();
              },
              drain: () => {},
              end: () => stream.end(),
              close: () => ends.set(stream, (ends.get(stream) ?? 0) + 1),
            });
            stream.write(Buffer.alloc(70_000));
          };
          const rig = startSession(
            role,
            {
              request: (stream) => {
                rig.session.respond(stream, [':status', '200'], false);
                watch(stream);
              },
            },
            { shared },
          );
          if (role === 'server') rig.wire.feed(Buffer.from(PREFACE));
          rig.wire.feed(SETTINGS_FRAME);
          await settle();
          if (role === 'client')
            for (let each = 0; each < 3; each++)
              watch(rig.session.request([':method', 'CONNECT', ':authority', 'a:1']));
          for (const each of parts) if (rig.closed.length === 0) rig.wire.feed(each);
          await settle();
          rig.session.cut('the test is over');
          await settle();
          assert.equal(rig.closed.length, 1);
          for (const stream of ends.keys()) if (!stream.isOver) stream.reset('CANCEL');
          await settle();
          for (const [stream, count] of ends) assert.equal(count, 1, `stream ${stream.id}`);
          assert.equal(shared.budget.unreadBytes, 0);
        },
      ),
      { numRuns: 200 },
    );
  });
});
