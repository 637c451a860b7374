import assert from 'node:assert/strict';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { Code, ConnectError } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import type { SpiffeId } from '#model/identity.ts';
import { certificateService } from '#proto/citadel.ts';
import { silentLogger } from '#telemetry/log.ts';
import { type Authority, createAuthority } from '#tls/issue.ts';
import { createCaClient } from './ca-client.ts';
import { createGrpcChannel, type GrpcChannel, type GrpcChannelOptions } from './client.ts';
import { encodeFrame, FrameDecoder } from './frames.ts';
import type { GrpcStatus } from './status.ts';

type OnStream = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;

interface TestServer {
  readonly server: http2.Http2SecureServer;
  readonly sessions: http2.ServerHttp2Session[];
  readonly port: number;
  readonly authority: Authority;
}

async function serve(
  scope: Scope,
  handler: {
    onStream?: OnStream;
    onRequest?: (request: http2.Http2ServerRequest, response: http2.Http2ServerResponse) => void;
  },
): Promise<TestServer> {
  const authority = await createAuthority({ commonName: 'root', validDays: 1 });
  const { certPem, keyPem } = await authority.issue({
    dnsNames: ['istiod.istio-system.svc'],
    server: true,
    validForMs: 3_600_000,
  });
  const server = http2.createSecureServer({ cert: certPem, key: keyPem! });
  if (handler.onRequest !== undefined) server.on('request', handler.onRequest);
  if (handler.onStream !== undefined) server.on('stream', handler.onStream);
  const sessions: http2.ServerHttp2Session[] = [];
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => {});
  });
  scope.onClose(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, sessions, port: (server.address() as AddressInfo).port, authority };
}

function channelTo(
  scope: Scope,
  { port, authority }: TestServer,
  over: Partial<GrpcChannelOptions> = {},
): GrpcChannel {
  return createGrpcChannel(
    { log: silentLogger, scope },
    {
      host: '127.0.0.1',
      port,
      serverName: 'istiod.istio-system.svc',
      rootPem: () => authority.certPem,
      ...over,
    },
  );
}

function scoped(body: (scope: Scope) => Promise<void>): () => Promise<void> {
  return async () => {
    const scope = new Scope('test');
    try {
      await body(scope);
    } finally {
      scope.close();
    }
  };
}

/** Reads one message, then answers; `trailers` end the call. */
const answer =
  (messages: readonly Uint8Array[], trailers: http2.OutgoingHttpHeaders): OnStream =>
  (stream) => {
    stream.on('error', () => {});
    stream.resume();
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    for (const message of messages) stream.write(encodeFrame(message));
    stream.end();
  };

const status = (code: number, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof MeshError);
  assert.equal(error.code, 'GRPC_STATUS');
  assert.equal(error.details.code, code, error.message);
  if (message !== undefined) assert.match(String(error.details.message), message);
  return true;
};

const HELLO = Buffer.from('hello');
const OK = { 'grpc-status': '0' };

describe('a unary call', () => {
  it(
    'sends one message with its headers, and gets one back',
    scoped(async (scope) => {
      const seen: http2.IncomingHttpHeaders[] = [];
      const bodies: Buffer[] = [];
      const server = await serve(scope, {
        onStream: (stream, headers) => {
          seen.push(headers);
          stream.on('data', (chunk: Buffer) => bodies.push(chunk));
          stream.once('end', () => answer([HELLO], OK)(stream, headers));
        },
      });
      const channel = channelTo(scope, server, {
        token: async () => 'abc',
        metadata: { clusterid: 'Kubernetes' },
      });
      const reply = await channel.unary('/a.B/C', Buffer.from('ask'));
      assert.equal(Buffer.from(reply).toString(), 'hello');
      assert.deepEqual([...Buffer.concat(bodies)], [0, 0, 0, 0, 3, ...Buffer.from('ask')]);
      const [headers] = seen;
      assert.equal(headers?.[':method'], 'POST');
      assert.equal(headers?.[':path'], '/a.B/C');
      assert.equal(headers?.['content-type'], 'application/grpc');
      assert.equal(headers?.te, 'trailers');
      assert.equal(headers?.authorization, 'Bearer abc');
      assert.equal(headers?.clusterid, 'Kubernetes');
    }),
  );

  it(
    'reads the token for each call, on one session',
    scoped(async (scope) => {
      const tokens: unknown[] = [];
      const server = await serve(scope, {
        onStream: (stream, headers) => {
          tokens.push(headers.authorization);
          answer([HELLO], OK)(stream, headers);
        },
      });
      let turn = 0;
      const channel = channelTo(scope, server, { token: () => `t${++turn}` });
      await channel.unary('/a.B/C', HELLO);
      await channel.unary('/a.B/C', HELLO);
      assert.deepEqual(tokens, ['Bearer t1', 'Bearer t2']);
      assert.equal(server.sessions.length, 1);
    }),
  );

  const failures: Readonly<Record<string, { stream: OnStream; code: number; message?: RegExp }>> = {
    'a status in trailers': {
      stream: answer([], { 'grpc-status': '16', 'grpc-message': 'no%20token%3A%20%C3%BC' }),
      code: 16,
      message: /^no token: ü$/,
    },
    'a status in the only headers': {
      stream: (stream) =>
        stream.respond({ ':status': 200, 'grpc-status': '12', 'grpc-message': 'what?' }, { endStream: true }),
      code: 12,
      message: /what\?/,
    },
    'an HTTP status': {
      stream: (stream) => stream.respond({ ':status': 503 }, { endStream: true }),
      code: 14,
      message: /HTTP status 503/,
    },
    'no status at all': {
      stream: (stream) => {
        stream.respond({ ':status': 200 });
        stream.end(encodeFrame(HELLO));
      },
      code: 14,
      message: /without a status/,
    },
    'no message with OK': { stream: answer([], OK), code: 13, message: /0 answers/ },
    'two messages': { stream: answer([HELLO, HELLO], OK), code: 13, message: /2 answers/ },
    'half a message': {
      stream: (stream) => {
        stream.respond({ ':status': 200 }, { waitForTrailers: true });
        stream.on('wantTrailers', () => stream.sendTrailers(OK));
        stream.end(encodeFrame(HELLO).subarray(0, 7));
      },
      code: 13,
      message: /inside a message/,
    },
    'a message above the limit': {
      stream: answer([new Uint8Array(2000)], OK),
      code: 8,
      message: /exceeds the limit of 1000/,
    },
    'a refused stream': {
      stream: (stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM),
      code: 14,
    },
    'a lost connection': { stream: (stream) => stream.session?.destroy(), code: 14 },
  };
  for (const [name, { stream: onStream, code, message }] of Object.entries(failures)) {
    it(
      `fails on ${name}`,
      scoped(async (scope) => {
        const server = await serve(scope, {
          onStream: (stream, headers) => {
            stream.on('error', () => {});
            onStream(stream, headers);
          },
        });
        const channel = channelTo(scope, server, { maxMessageBytes: 1000 });
        await assert.rejects(channel.unary('/a.B/C', HELLO), status(code, message));
      }),
    );
  }

  it(
    'fails at its deadline, and the server hears of it',
    scoped(async (scope) => {
      const reset = Promise.withResolvers<number>();
      const server = await serve(scope, {
        onStream: (stream) => {
          stream.on('error', () => {});
          stream.on('close', () => reset.resolve(stream.rstCode ?? -1));
        },
      });
      await assert.rejects(channelTo(scope, server).unary('/a.B/C', HELLO, { deadlineMs: 50 }), status(4));
      assert.equal(await reset.promise, 8);
    }),
  );

  it(
    'fails without a token, and with one that is no header',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: answer([HELLO], OK) });
      await assert.rejects(
        channelTo(scope, server, { token: () => '' }).unary('/a.B/C', HELLO),
        status(16, /empty/),
      );
      const unreadable = (): Promise<string> => Promise.reject(new Error('ENOENT: no token file'));
      await assert.rejects(
        channelTo(scope, server, { token: unreadable }).unary('/a.B/C', HELLO),
        status(16, /no token file/),
      );
    }),
  );
});

describe('a channel', () => {
  it(
    'connects anew when the roots were replaced, and keeps its session while the new ones cannot be used',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: answer([HELLO], OK) });
      const { certPem } = server.authority;
      let roots = certPem;
      const rootPem = (): Promise<string> =>
        roots === '' ? Promise.reject(new Error('being written')) : Promise.resolve(roots);
      const channel = channelTo(scope, server, { rootPem });
      const call = () => channel.unary('/a.B/C', HELLO);
      await call();
      for (const unusable of ['', 'no certificate', (await createAuthority({ validDays: 1 })).certPem]) {
        roots = unusable;
        await call();
        assert.equal(server.sessions.filter((session) => !session.destroyed).length, 1);
      }
      roots = `${(await createAuthority({ validDays: 1 })).certPem}${certPem}`;
      const [first] = server.sessions;
      const closed = new Promise((resolve) => first!.once('close', resolve));
      await Promise.all([call(), call()]);
      await closed;
      assert.equal(server.sessions.filter((session) => !session.destroyed).length, 1);
    }),
  );

  it(
    'connects anew for the next call when the session is gone',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: answer([HELLO], OK) });
      const channel = channelTo(scope, server);
      await channel.unary('/a.B/C', HELLO);
      server.sessions[0]!.destroy();
      // The client may not know yet: then this call fails, and the next one finds a new session.
      await channel.unary('/a.B/C', HELLO).catch(() => channel.unary('/a.B/C', HELLO));
      assert.equal(server.sessions.length, 2);
    }),
  );

  it(
    'refuses a server of another name, a foreign root, and a server that is not there',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: answer([HELLO], OK) });
      const call = (over: Partial<GrpcChannelOptions>): Promise<unknown> =>
        channelTo(scope, server, over).unary('/a.B/C', HELLO);
      await assert.rejects(call({ serverName: 'other.svc' }), status(14, /altnames/));
      await call({ serverName: 'other.svc', alternativeServerName: 'istiod.istio-system.svc' });
      const foreign = await createAuthority({ commonName: 'root', validDays: 1 });
      await assert.rejects(call({ rootPem: () => foreign.certPem }), status(14, /TLS/));
      await assert.rejects(call({ port: 1 }), status(14, /ECONNREFUSED/));
    }),
  );

  it(
    'reads the root at each connect',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: answer([HELLO], OK) });
      const foreign = await createAuthority({ commonName: 'root', validDays: 1 });
      let root = foreign.certPem;
      const channel = channelTo(scope, server, { rootPem: async () => root });
      await assert.rejects(channel.unary('/a.B/C', HELLO), status(14));
      root = server.authority.certPem;
      await channel.unary('/a.B/C', HELLO);
    }),
  );

  it(
    'ends calls whose server no longer answers pings',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: (stream) => stream.on('error', () => {}) });
      // A relay that stops relaying stands for a server that is gone without a word.
      let isCut = false;
      const relay = net.createServer((inner) => {
        const outer = net.connect(server.port, '127.0.0.1');
        for (const [from, to] of [
          [inner, outer],
          [outer, inner],
        ] as const) {
          from.on('error', () => {});
          from.on('data', (chunk) => {
            if (!isCut) to.write(chunk);
          });
          scope.onClose(() => from.destroy());
        }
      });
      scope.onClose(() => relay.close());
      await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
      const { port } = relay.address() as AddressInfo;
      const channel = channelTo(scope, server, { port, keepaliveIntervalMs: 10, keepaliveTimeoutMs: 50 });
      server.server.on('stream', () => {
        isCut = true;
      });
      await assert.rejects(channel.unary('/a.B/C', HELLO), status(14, /no answer to a ping/));
    }),
  );

  it(
    'ends open calls when it closes, and takes no more',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: (stream) => stream.on('error', () => {}) });
      const channel = channelTo(scope, server);
      const call = channel.unary('/a.B/C', HELLO);
      channel.close();
      await assert.rejects(call, status(1));
      await assert.rejects(channel.unary('/a.B/C', HELLO), status(14, /closed/));
    }),
  );
});

describe('a bidirectional stream', () => {
  it(
    'carries messages both ways until both ends are done',
    scoped(async (scope) => {
      const server = await serve(scope, {
        onStream: (stream) => {
          const decoder = new FrameDecoder(1 << 20);
          stream.respond({ ':status': 200 }, { waitForTrailers: true });
          stream.on('wantTrailers', () => stream.sendTrailers(OK));
          stream.on('data', (chunk: Buffer) => {
            for (const message of decoder.push(chunk)) stream.write(encodeFrame(message));
          });
          stream.on('end', () => stream.end());
        },
      });
      const stream = channelTo(scope, server).stream('/a.B/Echo');
      const received: string[] = [];
      let isOpen = false;
      const done = new Promise<GrpcStatus>((resolve) => stream.onEnd(resolve));
      stream.onOpen(() => {
        isOpen = true;
      });
      stream.onMessage((message) => {
        received.push(Buffer.from(message).toString());
        if (received.length === 3) stream.end();
        else stream.send(Buffer.from(`m${received.length}`));
      });
      stream.send(Buffer.from('m0'));
      assert.deepEqual(await done, { code: 0, message: '', reached: 'answered' });
      assert.deepEqual(received, ['m0', 'm1', 'm2']);
      assert.equal(isOpen, true);
    }),
  );

  it(
    'says how far it came',
    scoped(async (scope) => {
      const server = await serve(scope, { onStream: (stream) => stream.on('error', () => {}) });
      const end = (channel: GrpcChannel): Promise<GrpcStatus> =>
        new Promise((resolve) => channel.stream('/a.B/Echo').onEnd(resolve));
      const nowhere = await end(channelTo(scope, server, { port: 1 }));
      assert.deepEqual([nowhere.code, nowhere.reached], [14, 'connect']);
      const cut = end(channelTo(scope, server));
      server.server.on('stream', (stream) => stream.session?.destroy());
      const lost = await cut;
      assert.deepEqual([lost.code, lost.reached], [14, 'request']);
    }),
  );

  it(
    'can be cancelled before and after it is open',
    scoped(async (scope) => {
      const server = await serve(scope, {
        onStream: (stream) => {
          stream.on('error', () => {});
          stream.respond({ ':status': 200 });
        },
      });
      const channel = channelTo(scope, server);
      const early = channel.stream('/a.B/Echo');
      const earlyEnd = new Promise<GrpcStatus>((resolve) => early.onEnd(resolve));
      early.cancel();
      assert.equal((await earlyEnd).code, 1);
      const late = channel.stream('/a.B/Echo');
      const lateEnd = new Promise<GrpcStatus>((resolve) => late.onEnd(resolve));
      late.onOpen(() => late.cancel());
      assert.deepEqual([(await lateEnd).code, (await lateEnd).reached], [1, 'answered']);
      assert.equal(late.send(HELLO), false);
    }),
  );
});

describe('the certificate authority client', () => {
  const WEB = 'spiffe://cluster.local/ns/shop/sa/web' as SpiffeId;

  /** Served by Connect, an implementation that is not ours. */
  const start = (
    scope: Scope,
    sign: (csr: string, ttl: bigint, metadata: unknown) => string[],
  ): Promise<TestServer> =>
    serve(scope, {
      onRequest: connectNodeAdapter({
        routes: (router) => {
          router.service(certificateService, {
            createCertificate: (request) => ({
              certChain: sign(request.csr, request.validityDuration, request.metadata),
            }),
          });
        },
      }),
    });

  it(
    'asks in the name of a workload',
    scoped(async (scope) => {
      const asked: unknown[] = [];
      const server = await start(scope, (...request) => {
        asked.push(request);
        return ['leaf', 'root'];
      });
      const ca = createCaClient(channelTo(scope, server));
      assert.deepEqual(await ca.sign(WEB, 'CSR', 86_400), ['leaf', 'root']);
      assert.deepEqual(asked, [['CSR', 86_400n, { ImpersonatedIdentity: WEB }]]);
    }),
  );

  it(
    'asks in its own name where it stands for one workload',
    scoped(async (scope) => {
      const asked: unknown[] = [];
      const server = await start(scope, (...request) => {
        asked.push(request);
        return ['leaf', 'root'];
      });
      const ca = createCaClient(channelTo(scope, server), { impersonate: false });
      await ca.sign(WEB, 'CSR', 60);
      assert.deepEqual(asked, [['CSR', 60n, undefined]]);
    }),
  );

  it(
    'tells a refusal from a failure',
    scoped(async (scope) => {
      let code = Code.Unauthenticated;
      const server = await start(scope, () => {
        throw new ConnectError('not on this node', code);
      });
      const ca = createCaClient(channelTo(scope, server));
      await assert.rejects(ca.sign(WEB, 'CSR', 1), (error: MeshError) => {
        assert.equal(error.code, 'CA_REFUSED');
        assert.match(error.message, /refuses to sign for spiffe:\/\/.*: not on this node/);
        return true;
      });
      code = Code.Internal;
      await assert.rejects(ca.sign(WEB, 'CSR', 1), { code: 'GRPC_STATUS' });
    }),
  );
});
