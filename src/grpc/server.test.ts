// The gRPC server, by Connect's client (an implementation that is not ours), by our own, and by raw HTTP/2.

import assert from 'node:assert/strict';
import http2 from 'node:http2';
import { after, before, describe, test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import { Scope } from '#base/scope.ts';
import { certificateService } from '#proto/citadel.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import { createGrpcChannel } from './client.ts';
import { encodeFrame } from './frames.ts';
import { type GrpcMethod, type GrpcServer, startGrpcServer } from './server.ts';
import type { ServerCall } from './server-call.ts';
import { decodeGrpcMessage, encodeGrpcMessage, statusError } from './status.ts';
import { unaryMethod } from './unary.ts';

const { input, output } = certificateService.method.createCertificate;
const CREATE = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const STREAM = '/test.Service/Stream';
const WORDS = 'not über 100 %\n';

let authority: Authority;
let server: GrpcServer;
let onCall: (call: ServerCall) => void;
const scope = new Scope('test');

before(async () => {
  authority = await createAuthority({ commonName: 'root', validDays: 1 });
  const { certPem, keyPem } = await authority.issue({
    dnsNames: ['localhost'],
    server: true,
    validForMs: 3_600_000,
  });
  const sign = unaryMethod(silentLogger, 1000, async (bytes, call) => {
    const { csr } = fromBinary(input, bytes);
    if (csr === 'refuse') throw statusError(7, WORDS);
    if (csr === 'fail') throw new Error('a secret of ours');
    return toBinary(output, create(output, { certChain: [csr, call.header('authorization') ?? ''] }));
  });
  const methods = new Map<string, GrpcMethod>([
    [CREATE, sign],
    [STREAM, (call) => onCall(call)],
  ]);
  server = await startGrpcServer(
    { log: silentLogger, methods },
    { listen: { host: '127.0.0.1', port: 0 }, tls: { certPem, keyPem: keyPem! } },
  );
});
after(async () => {
  scope.close();
  await server.close();
});

describe('a unary call by another client', () => {
  const client = () =>
    createClient(
      certificateService,
      createGrpcTransport({
        baseUrl: `https://localhost:${server.port}`,
        nodeOptions: { ca: authority.certPem },
      }),
    );

  test('is answered, with its headers', async () => {
    const { certChain } = await client().createCertificate(
      { csr: 'a' },
      { headers: { authorization: 'Bearer b' } },
    );
    assert.deepEqual(certChain, ['a', 'Bearer b']);
  });

  test('is refused with code and words, and not told what failed inside', async () => {
    await assert.rejects(client().createCertificate({ csr: 'refuse' }), (error: ConnectError) => {
      assert.equal(error.code, Code.PermissionDenied);
      assert.equal(error.rawMessage, WORDS);
      return true;
    });
    await assert.rejects(client().createCertificate({ csr: 'fail' }), (error: ConnectError) => {
      assert.equal(error.code, Code.Internal);
      assert.equal(error.rawMessage, 'internal error');
      return true;
    });
    await assert.rejects(client().createCertificate({ csr: 'x'.repeat(2000) }), (error: unknown) => {
      assert.equal(ConnectError.from(error).code, Code.ResourceExhausted);
      return true;
    });
  });
});

interface Raw {
  readonly status: number;
  readonly grpcStatus: string | undefined;
  readonly message: string;
}

/** One request by raw HTTP/2; `body` is sent and the stream left open unless `end`. */
async function raw(headers: http2.OutgoingHttpHeaders, body: Uint8Array, end = true): Promise<Raw> {
  const session = http2.connect(`https://localhost:${server.port}`, { ca: authority.certPem });
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': CREATE,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    let answer: http2.IncomingHttpHeaders = {};
    let trailers: http2.IncomingHttpHeaders = {};
    stream.on('response', (received) => {
      answer = received;
    });
    stream.on('trailers', (received) => {
      trailers = received;
    });
    stream.resume();
    if (end) stream.end(body);
    else stream.write(body);
    await new Promise<void>((resolve, reject) => {
      stream.once('close', resolve);
      stream.once('error', reject);
    });
    const all = { ...answer, ...trailers };
    return {
      status: Number(answer[':status']),
      grpcStatus: all['grpc-status'] as string | undefined,
      message: decodeGrpcMessage((all['grpc-message'] as string | undefined) ?? ''),
    };
  } finally {
    session.close();
  }
}

test('what is no gRPC call, or none that is served, is told so', async () => {
  const nothing = Buffer.alloc(0);
  assert.equal((await raw({ 'content-type': 'text/plain' }, nothing)).status, 415);
  const unknown = await raw({ ':path': '/no.Such/Method' }, nothing, false);
  assert.deepEqual([unknown.status, unknown.grpcStatus], [200, '12']);
  assert.match(unknown.message, /\/no\.Such\/Method is not served/);
  const compressed = await raw({ 'grpc-encoding': 'gzip' }, nothing, false);
  assert.equal(compressed.grpcStatus, '12');
  assert.match(compressed.message, /gzip/);
  assert.match((await raw({}, nothing)).message, /request is empty/);
  const two = Buffer.concat([encodeFrame(nothing), encodeFrame(nothing)]);
  assert.equal((await raw({}, two)).grpcStatus, '13');
  const half = encodeFrame(Buffer.from('hello')).subarray(0, 7);
  assert.match((await raw({}, half)).message, /middle of a message/);
  // A limit is kept before the message is there.
  assert.equal((await raw({}, Uint8Array.of(0, 0, 255, 255, 255), false)).grpcStatus, '8');
});

test('messages of a stream arrive whole, in order; parts make one message; the status ends it for a client that goes on', async () => {
  const received: string[] = [];
  onCall = (call) => {
    call.read(
      100,
      (bytes) => {
        received.push(Buffer.from(bytes).toString());
        if (received.length === 2)
          call.send([Buffer.from('one '), Buffer.from('answer')], () =>
            call.end({ code: 14, message: 'later' }),
          );
      },
      () => assert.fail('the client has not ended'),
    );
  };
  const channel = createGrpcChannel(
    { log: silentLogger, scope },
    {
      host: '127.0.0.1',
      port: server.port,
      serverName: 'localhost',
      rootPem: () => authority.certPem,
    },
  );
  const stream = channel.stream(STREAM);
  const answers: string[] = [];
  stream.onMessage((bytes) => answers.push(Buffer.from(bytes).toString()));
  const ended = new Promise<{ code: number; message: string }>((resolve) => stream.onEnd(resolve));
  stream.send(Buffer.from('a'));
  stream.send(Buffer.from('b'));
  const { code, message } = await ended;
  assert.deepEqual([received, answers, code, message], [['a', 'b'], ['one answer'], 14, 'later']);
});

test('a call ends once, also when its client is gone', async () => {
  const session = http2.connect(`https://localhost:${server.port}`, { ca: authority.certPem });
  session.on('error', () => {});
  const closed = new Promise<ServerCall>((resolve) => {
    onCall = (call) => {
      call.onClose(() => resolve(call));
      session.destroy();
      call.read(
        100,
        () => {},
        () => {},
      );
    };
  });
  const stream = session.request({
    ':method': 'POST',
    ':path': STREAM,
    'content-type': 'application/grpc',
  });
  stream.on('error', () => {});
  stream.write(encodeFrame(Buffer.from('x')));
  const call = await closed;
  assert.equal(call.closed, true);
  call.send([Buffer.from('x')], () => assert.fail('nobody takes it'));
  call.end();
  call.reset();
  let late = false;
  call.onClose(() => {
    late = true;
  });
  assert.ok(late);
});

test('messages of a status survive the header, whatever is in them', () => {
  for (const text of ['', 'plain', WORDS, '100%25', '日本 %', '\ud800 alone'])
    assert.equal(decodeGrpcMessage(encodeGrpcMessage(text)), text.toWellFormed());
  assert.match(encodeGrpcMessage(WORDS), /^[\x20-\x7e]*$/);
});
