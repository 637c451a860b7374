import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect, createServer as createTcpServer, type Server } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import type { ProbeOutcome } from './probe.ts';
import { probeGrpc } from './probe-grpc.ts';

async function listening(t: TestContext, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function probe(port: number, service = '', timeoutMs = 20_000): Promise<ProbeOutcome> {
  const socket = connect({ port, host: '127.0.0.1' });
  await once(socket, 'connect');
  return probeGrpc(socket, service, timeoutMs);
}

/** Answers as gRPC says: what was asked comes to `asked`. */
async function healthServer(
  t: TestContext,
  answer: (stream: ServerHttp2Stream, path: string, body: Buffer) => void,
): Promise<number> {
  const server = createServer();
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {}); // the probe leaves as soon as it knows
    buffer(stream).then(
      (body) => answer(stream, String(headers[':path']), body),
      () => {},
    );
  });
  return listening(t, server);
}

function reply(stream: ServerHttp2Stream, message: readonly number[], grpcStatus = '0'): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': grpcStatus }));
  stream.end(Buffer.from([0, 0, 0, 0, message.length, ...message]));
}

test('a service is asked for by name, and serving is success', async (t) => {
  const asked: [string, string][] = [];
  const port = await healthServer(t, (stream, path, body) => {
    asked.push([path, body.toString('hex')]);
    reply(stream, [0x08, 1]);
  });
  assert.deepEqual(await probe(port), { kind: 'success' });
  assert.deepEqual(await probe(port, 'db'), { kind: 'success' });
  assert.deepEqual(asked, [
    ['/grpc.health.v1.Health/Check', '0000000000'],
    ['/grpc.health.v1.Health/Check', '00000000040a026462'],
  ]);
});

test('what does not serve fails and says how', async (t) => {
  const answers: ((stream: ServerHttp2Stream) => void)[] = [
    (stream) => reply(stream, [0x08, 2]),
    (stream) => reply(stream, []),
    (stream) =>
      stream.respond({ ':status': 200, 'grpc-status': '12', 'grpc-message': 'x' }, { endStream: true }),
    (stream) => stream.respond({ ':status': 200, 'grpc-status': '5' }, { endStream: true }),
    (stream) => stream.respond({ ':status': 404 }, { endStream: true }),
    (stream) => stream.close(2),
  ];
  const expected = [
    /^service unhealthy \(responded with "NOT_SERVING"\)$/,
    /^service unhealthy \(responded with "UNKNOWN"\)$/,
    /does not implement the grpc health protocol/,
    /grpc-status 5/,
    /HTTP status 404/,
    /health rpc failed/,
  ];
  const port = await healthServer(t, (stream) => answers.shift()!(stream));
  for (const pattern of expected) {
    const outcome = await probe(port);
    assert.match(outcome.kind === 'failure' ? outcome.message : 'success', pattern);
  }
});

test('who is no gRPC server, or silent, fails', async (t) => {
  const rude = await listening(
    t,
    createTcpServer((socket) => {
      socket.on('error', () => {});
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    }),
  );
  assert.equal((await probe(rude)).kind, 'failure');
  const silent = await listening(
    t,
    createTcpServer((socket) => void socket.on('error', () => {}).resume()),
  );
  assert.deepEqual(await probe(silent, '', 50), {
    kind: 'failure',
    message: 'timeout: health rpc did not complete within 50ms',
  });
});
