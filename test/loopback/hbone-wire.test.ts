// What goes over the wire, seen by peers that are not ours: bytes of TLS and HTTP/2, and node:http2 as the other end.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import tls from 'node:tls';
import fc from 'fast-check';
import type { Scope } from '#base/scope.ts';
import { ordinaryHeaders } from '#hbone/http2/header-rules.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { clientTlsOptions, createWorkloadTlsServer } from '#tls/options.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { until } from '../lib/until.ts';
import {
  dialTcp,
  keyFor,
  listen,
  newPool,
  newSecrets,
  record,
  scoped,
  startServer,
  type TestServerOptions,
} from './hbone-peers.ts';

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const SETTINGS = 0x4;
const WINDOW_UPDATE = 0x8;
const GOAWAY = 0x7;

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** RFC 9113 §4.1, whole frames only. */
function framesOf(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    if (at + 9 + length > bytes.length) break;
    frames.push({
      type: bytes[at + 3]!,
      flags: bytes[at + 4]!,
      stream: bytes.readUInt32BE(at + 5) & 0x7fffffff,
      payload: bytes.subarray(at + 9, at + 9 + length),
    });
    at += 9 + length;
  }
  return frames;
}

/** Identifier → value (RFC 9113 §6.5.1). */
function settingsOf(frames: readonly Frame[]): Map<number, number> {
  const frame = frames.find(({ type, flags }) => type === SETTINGS && flags === 0);
  const settings = new Map<number, number>();
  const payload = frame?.payload ?? Buffer.alloc(0);
  for (let at = 0; at < payload.length; at += 6)
    settings.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
  return settings;
}

function connectionCredit(frames: readonly Frame[]): number | undefined {
  return frames.find(({ type, stream }) => type === WINDOW_UPDATE && stream === 0)?.payload.readUInt32BE(0);
}

function collect(socket: Socket): () => Buffer {
  const chunks: Buffer[] = [];
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks);
}

async function secrets(): Promise<{ server: WorkloadSecret; client: WorkloadSecret }> {
  const { server, client } = await newSecrets();
  return { server, client };
}

/** A TLS client that is not ours, over which the test speaks. */
async function rawTls(scope: Scope, address: SocketAddress, secret: WorkloadSecret): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    ...clientTlsOptions(secret, () => undefined),
    socket: await dialTcp(address, false),
  });
  scope.onClose(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

describe('the HBONE client on the wire', () => {
  it(
    'sends its settings and credit',
    scoped(async (scope) => {
      const { server, client } = await secrets();
      const terminator = createWorkloadTlsServer(server, 10_000);
      let received = (): Buffer => Buffer.alloc(0);
      terminator.on('secureConnection', (socket) => {
        received = collect(socket);
      });
      const address = await listen(scope, (socket) => terminator.emit('connection', socket));
      newPool(scope, async () => client)
        .connect(keyFor(address), 'a:1', {})
        .catch(() => {});
      await until(
        'the preface, settings and credit came',
        () => connectionCredit(framesOf(received().subarray(PREFACE.length))) !== undefined,
      );
      assert.equal(received().subarray(0, PREFACE.length).toString(), PREFACE);
      const frames = framesOf(received().subarray(PREFACE.length));
      assert.deepEqual(
        settingsOf(frames),
        new Map([
          [2, 0], // ENABLE_PUSH
          [4, 4194304], // INITIAL_WINDOW_SIZE
          [5, 1048576], // MAX_FRAME_SIZE
          [6, 16384], // MAX_HEADER_LIST_SIZE
        ]),
      );
      assert.equal(connectionCredit(frames), (16 << 20) - 65535);
    }),
  );

  it(
    'sends :method and :authority and the given headers, nothing else',
    scoped(async (scope) => {
      const { server, client } = await secrets();
      const terminator = createWorkloadTlsServer(server, 10_000);
      let seen: readonly string[] = [];
      terminator.on('secureConnection', (socket) => {
        const session = http2.performServerHandshake(socket);
        session.on('error', () => {});
        session.on('stream', (stream, _headers, _flags, rawHeaders) => {
          seen = rawHeaders;
          stream.on('error', () => {});
          stream.respond({ ':status': 200 });
        });
      });
      const address = await listen(scope, (socket) => terminator.emit('connection', socket));
      const pool = newPool(scope, async () => client);
      await pool.connect(keyFor(address), '[fd00::1]:80', { baggage: '', traceparent: '00-1-1-00' });
      assert.deepEqual(seen, [
        ':method',
        'CONNECT',
        ':authority',
        '[fd00::1]:80',
        'baggage',
        '',
        'traceparent',
        '00-1-1-00',
      ]);
    }),
  );

  it(
    'says hello as the field does: two suites, no server name, h2',
    scoped(async (scope) => {
      const { client } = await secrets();
      let received = (): Buffer => Buffer.alloc(0);
      const address = await listen(scope, (socket) => {
        received = collect(socket);
      });
      newPool(scope, async () => client)
        .connect(keyFor(address), 'a:1', {})
        .catch(() => {});
      await until(
        'the hello came',
        () => received().length > 5 && received().length >= 5 + received().readUInt16BE(3),
      );
      const hello = readClientHello(received());
      assert.deepEqual(hello.suites, [0x1302, 0x1301]);
      assert.equal(hello.extensions.has(0), false, 'server_name');
      // The field's groups: X25519MLKEM768, X25519, P-256, P-384, with a key share of each of the first two.
      assert.deepEqual(words(hello.extensions.get(10)!.subarray(2)), [0x11ec, 0x001d, 0x0017, 0x0018]);
      assert.deepEqual(keyShareGroups(hello.extensions.get(51)!), [0x11ec, 0x001d]);
      assert.equal(hello.extensions.get(16)!.subarray(3).toString(), 'h2');
      assert.deepEqual([...hello.extensions.get(43)!], [2, 0x03, 0x04]);
      assert.equal(hello.extensions.has(41), false, 'pre_shared_key');
    }),
  );

  it(
    'accepts exactly 200',
    scoped(async (scope) => {
      const { server, client } = await secrets();
      const terminator = createWorkloadTlsServer(server, 10_000);
      terminator.on('secureConnection', (socket) => {
        const session = http2.performServerHandshake(socket);
        session.on('error', () => {});
        session.on('stream', (stream) => {
          stream.on('error', () => {});
          stream.respond({ ':status': 204 }, { endStream: true });
        });
      });
      const address = await listen(scope, (socket) => terminator.emit('connection', socket));
      const pool = newPool(scope, async () => client);
      await assert.rejects(pool.connect(keyFor(address), 'a:1', {}), {
        code: 'HBONE_REFUSED',
        message: 'http status: 204',
      });
    }),
  );
});

describe('the HBONE server on the wire', () => {
  const start = async (scope: Scope, options: Omit<TestServerOptions, 'secret'> = {}) => {
    const { server, client } = await secrets();
    const running = await startServer(scope, { ...options, secret: async () => server });
    const socket = await rawTls(scope, running.address, client);
    const session = (): http2.ClientHttp2Session => {
      const opened = http2.connect('https://x', { createConnection: () => socket });
      opened.on('error', () => {});
      return opened;
    };
    return { running, socket, session };
  };

  it(
    'sends its settings and credit',
    scoped(async (scope) => {
      const { socket } = await start(scope);
      const received = collect(socket);
      socket.write(PREFACE);
      socket.write(Buffer.from([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]));
      await until('settings and credit came', () => connectionCredit(framesOf(received())) !== undefined);
      const frames = framesOf(received());
      assert.deepEqual(
        settingsOf(frames),
        new Map([
          [3, 200], // MAX_CONCURRENT_STREAMS
          [4, 4194304],
          [5, 1048576],
          [6, 65536],
        ]),
      );
      assert.equal(connectionCredit(frames), (16 << 20) - 65535);
    }),
  );

  it(
    'answers 200 only when accepted, without a date',
    scoped(async (scope) => {
      const { running, session } = await start(scope);
      const stream = session().request({ ':method': 'CONNECT', ':authority': 'a:1' });
      stream.on('error', () => {});
      const answers: string[][] = [];
      stream.on('response', (_headers, _flags, rawHeaders) => answers.push(rawHeaders as string[]));
      await until('the request came', () => running.requests.length === 1);
      assert.equal(answers.length, 0);
      running.requests[0]!.accept({ baggage: 'k=v' });
      await until('the answer came', () => answers.length === 1);
      assert.deepEqual(answers, [[':status', '200', 'baggage', 'k=v']]);
    }),
  );

  it(
    'refuses with END_STREAM on the headers and no body',
    scoped(async (scope) => {
      const { session } = await start(scope, { onRequest: (request) => request.refuse(503) });
      const stream = session().request({ ':method': 'CONNECT', ':authority': 'a:1' });
      stream.on('error', () => {});
      let answer: { headers: unknown; flags: number } | undefined;
      let bytes = 0;
      stream.on('response', (_headers, flags, rawHeaders) => {
        answer = { headers: rawHeaders, flags };
      });
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
      });
      await once(stream, 'end');
      assert.deepEqual(answer?.headers, [':status', '503']);
      assert.equal(answer!.flags & 0x1, 0x1);
      assert.equal(bytes, 0);
    }),
  );

  it(
    'answers 400 to other methods',
    scoped(async (scope) => {
      const { running, session } = await start(scope);
      const opened = session();
      for (const method of ['GET', 'POST', 'OPTIONS']) {
        const stream = opened.request({ ':method': method, ':path': '/' });
        stream.on('error', () => {});
        const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
        assert.equal(headers[':status'], 400);
      }
      assert.equal(running.requests.length, 0);
    }),
  );

  it(
    'sends GOAWAY with NO_ERROR at drain and at close',
    scoped(async (scope) => {
      for (const end of ['drain', 'close'] as const) {
        const { running, socket } = await start(scope);
        const received = collect(socket);
        socket.write(PREFACE);
        socket.write(Buffer.from([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]));
        await until('the session is up', () => connectionCredit(framesOf(received())) !== undefined);
        running.server[end]();
        await until('GOAWAY came', () => framesOf(received()).some(({ type }) => type === GOAWAY));
        const goaway = framesOf(received()).find(({ type }) => type === GOAWAY)!;
        assert.equal(goaway.payload.readUInt32BE(4), 0);
      }
    }),
  );

  it(
    'pings, and hangs up on a peer that does not answer',
    scoped(async (scope) => {
      const { socket } = await start(scope, { limits: { pingIntervalMs: 10, pingTimeoutMs: 40 } });
      const received = collect(socket);
      socket.write(PREFACE);
      socket.write(Buffer.from([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]));
      await until('the server hung up', () => socket.destroyed);
      const pings = framesOf(received()).filter(({ type, flags }) => type === 0x6 && flags === 0);
      assert.equal(pings.length, 1);
    }),
  );

  it(
    'survives honest peers that reset many streams',
    scoped(async (scope) => {
      const { running, session } = await start(scope, { onRequest: (request) => record(request.accept({})) });
      const opened = session();
      for (let round = 0; round < 20; round++) {
        const streams = Array.from({ length: 75 }, () =>
          opened.request({ ':method': 'CONNECT', ':authority': 'a:1' }),
        );
        await Promise.all(
          streams.map(async (stream) => {
            stream.on('error', () => {});
            await once(stream, 'response');
            stream.close(http2.constants.NGHTTP2_CANCEL);
            await once(stream, 'close');
          }),
        );
      }
      assert.equal(running.requests.length, 1500);
      assert.equal(opened.destroyed, false);
    }),
  );
});

describe('header lists', () => {
  it('joins repeated headers by a bare comma and leaves pseudo-headers out', () => {
    assert.deepEqual(ordinaryHeaders([':method', 'CONNECT', 'baggage', 'a=1', 'x', 'y', 'baggage', 'b=2']), {
      baggage: 'a=1,b=2',
      x: 'y',
    });
  });

  it('keeps every value of every name', () => {
    const name = fc.stringMatching(/^[a-z][a-z-]{0,8}$/);
    fc.assert(
      fc.property(fc.array(fc.tuple(name, fc.stringMatching(/^[a-z0-9]{0,6}$/))), (pairs) => {
        const headers = ordinaryHeaders(pairs.flat());
        for (const [key] of pairs) {
          assert.equal(
            headers[key],
            pairs
              .filter(([other]) => other === key)
              .map(([, value]) => value)
              .join(','),
          );
        }
        assert.equal(Object.keys(headers).length, new Set(pairs.map(([key]) => key)).size);
      }),
    );
  });
});

interface ClientHello {
  readonly suites: number[];
  readonly extensions: ReadonlyMap<number, Buffer>;
}

/** Of a ClientHello's key_share (RFC 8446 §4.2.8): groups with the lengths of their shares, behind a length of all. */
function keyShareGroups(extension: Buffer): number[] {
  const groups: number[] = [];
  for (let at = 2; at < extension.length; at += 4 + extension.readUInt16BE(at + 2))
    groups.push(extension.readUInt16BE(at));
  return groups;
}

const words = (bytes: Buffer): number[] =>
  Array.from({ length: bytes.length / 2 }, (_unused, at) => bytes.readUInt16BE(at * 2));

/** RFC 8446 §4.1.2, out of one TLS record. */
function readClientHello(record: Buffer): ClientHello {
  // Record header 5, handshake header 4, legacy version 2, random 32, then three lists with their lengths.
  let at = 5 + 4 + 2 + 32;
  at += 1 + record[at]!;
  const suiteBytes = record.readUInt16BE(at);
  const suites = words(record.subarray(at + 2, at + 2 + suiteBytes));
  at += 2 + suiteBytes;
  at += 1 + record[at]!;
  const end = at + 2 + record.readUInt16BE(at);
  at += 2;
  const extensions = new Map<number, Buffer>();
  while (at < end) {
    const length = record.readUInt16BE(at + 2);
    extensions.set(record.readUInt16BE(at), record.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return { suites, extensions };
}
