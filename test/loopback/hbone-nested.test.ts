// A tunnel inside a tunnel (ztunnel.md §5.8). The gateway is an HBONE server of its own that passes the inner bytes on
// over TCP without reading them; the destination is an HBONE server, ours or the oracle's.

import 'reflect-metadata';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MeshError } from '#base/errors.ts';
import type { Scope } from '#base/scope.ts';
import type { HboneRequest, HboneStream, HboneTunnel } from '#hbone/hbone.ts';
import { openNestedTunnel } from '#hbone/nested.ts';
import { createHboneServer } from '#hbone/server.ts';
import { createSessionShared } from '#hbone/session-life.ts';
import type { SpiffeId } from '#model/identity.ts';
import type { SocketAddress } from '#net/host-port.ts';
import { silentLogger } from '#telemetry/log.ts';
import { parseRevocationLists } from '#tls/crl.ts';
import { Revocations } from '#tls/revocation.ts';
import { copy } from '#ztunnel/copy.ts';
import { newCrl } from '../lib/crls.ts';
import { until } from '../lib/until.ts';
import {
  CLIENT_ID,
  echo,
  keyFor,
  newAuthority,
  newPool,
  newSecret,
  record,
  SERVER_ID,
  scoped,
  startServer,
  type TestServer,
} from './hbone-peers.ts';
import { createNodeServer } from './node-http2/server.ts';
import { dialEnd } from './ztunnel-rig.ts';

const GATEWAY_ID = 'spiffe://cluster.local/ns/istio-system/sa/eastwest' as SpiffeId;
const AUTHORITY = 'stock.shop.svc.cluster.local:80';

interface Rig {
  readonly gateway: TestServer;
  readonly far: TestServer;
  /** Outer sessions stand in the pool. */
  readonly outerSessions: () => number;
  connect(expected?: readonly SpiffeId[], revocations?: Revocations): Promise<HboneTunnel>;
  /** A list that revokes the far end. */
  readonly farRevoked: () => Promise<Buffer>;
}

async function splice(request: HboneRequest, to: SocketAddress): Promise<void> {
  const end = await dialEnd(to);
  copy(request.accept({}), end, { forward: { value: 0 }, backward: { value: 0 } }, () => {});
}

async function startRig(
  scope: Scope,
  onRequest: (request: HboneRequest) => void,
  createServer = createHboneServer,
  atGateway?: (request: HboneRequest) => void,
): Promise<Rig> {
  const authority = await newAuthority();
  const [server, client, between] = await Promise.all(
    [SERVER_ID, CLIENT_ID, GATEWAY_ID].map((id) => newSecret(authority, id)),
  );
  const far = await startServer(scope, { secret: async () => server!, onRequest, createServer });
  const gateway = await startServer(scope, {
    secret: async () => between!,
    onRequest: atGateway ?? ((request) => splice(request, far.address)),
  });
  const pool = newPool(scope, async () => client!);
  const shared = createSessionShared();
  const key = keyFor(gateway.address, { expected: [GATEWAY_ID] });
  return {
    gateway,
    far,
    outerSessions: () => pool.sessionCount,
    farRevoked: () => newCrl(authority, { revoked: server!.chainPem }),
    connect: async (expected = [SERVER_ID], revocations?: Revocations) => {
      const { stream } = await pool.connect(key, AUTHORITY, {});
      return openNestedTunnel(
        { secret: async () => client!, log: silentLogger, shared, revocations },
        stream,
        { ...key, expected },
        AUTHORITY,
        { 'x-forwarded-network': 'east' },
      );
    },
  };
}

const echoing = (request: HboneRequest): void => echo(request.accept({ baggage: 'service.name=stock' }));

for (const [name, createServer] of [
  ['ours', createHboneServer],
  ['node:http2', createNodeServer],
] as const) {
  describe(`a tunnel inside a tunnel, its far end ${name}`, () => {
    it(
      'both ends see each other, the gateway sees neither headers nor bytes',
      scoped(async (scope) => {
        const rig = await startRig(scope, echoing, createServer);
        const { stream, headers, peer } = await rig.connect();
        assert.equal(headers.baggage, 'service.name=stock');
        assert.equal(peer.identity, SERVER_ID);
        const sink = record(stream);
        stream.write(Buffer.from('hello'));
        stream.end();
        await until('the echo is complete', () => sink.outcome !== undefined);
        assert.equal(sink.text, 'hello');
        assert.deepEqual(sink.outcome, { clean: true });
        assert.equal(rig.far.requests[0]?.authority, AUTHORITY);
        assert.equal(rig.far.requests[0]?.headers['x-forwarded-network'], 'east');
        assert.equal(rig.far.requests[0]?.peer.identity, CLIENT_ID);
        assert.equal(rig.gateway.requests[0]?.authority, AUTHORITY);
        assert.equal(rig.gateway.requests[0]?.headers['x-forwarded-network'], undefined);
      }),
    );

    it(
      'ends when the far end is revoked, with the reason',
      scoped(async (scope) => {
        const rig = await startRig(scope, echoing, createServer);
        const lists = new Revocations();
        const { stream } = await rig.connect([SERVER_ID], lists);
        const sink = record(stream);
        lists.replace(parseRevocationLists(await rig.farRevoked()));
        await until('it is cut', () => sink.outcome !== undefined);
        assert.equal(sink.outcome?.error?.code, 'CERTIFICATE_REVOKED');
        await assert.rejects(rig.connect([SERVER_ID], lists), { code: 'CERTIFICATE_REVOKED' });
      }),
    );

    it(
      'carries ten megabytes each way, byte for byte',
      scoped(async (scope) => {
        const rig = await startRig(scope, echoing, createServer);
        const { stream } = await rig.connect();
        const payload = Buffer.alloc(10_000_000);
        for (let at = 0; at < payload.length; at += 4)
          payload.writeUInt32LE((at * 2_654_435_761) % 2 ** 32, at);
        const sink = record(stream);
        let sent = 0;
        const pump = (): void => {
          while (sent < payload.length) {
            const chunk = payload.subarray(sent, sent + 60_000);
            sent += chunk.length;
            if (!stream.write(chunk)) return;
          }
          stream.end();
        };
        const { drain } = sink;
        sink.drain = () => {
          drain.call(sink);
          pump();
        };
        pump();
        await until('everything came back', () => sink.outcome !== undefined);
        assert.ok(Buffer.concat(sink.chunks).equals(payload));
      }),
    );

    it(
      'the outer session is shared, the inner one never',
      scoped(async (scope) => {
        const rig = await startRig(scope, echoing, createServer);
        const tunnels = [await rig.connect(), await rig.connect(), await rig.connect()];
        assert.equal(rig.outerSessions(), 1);
        assert.equal(rig.gateway.connections(), 1);
        assert.equal(rig.far.connections(), 3);
        for (const { stream } of tunnels) {
          record(stream);
          stream.end();
        }
      }),
    );
  });
}

const rejection = async (promise: Promise<unknown>): Promise<MeshError> => {
  try {
    await promise;
  } catch (error) {
    return error as MeshError;
  }
  throw new Error('expected a rejection');
};

it(
  'a reader that stops holds the writer back through both tunnels, and nothing is lost when it goes on',
  scoped(async (scope) => {
    let far: HboneStream | undefined;
    const rig = await startRig(scope, (request) => {
      far = request.accept({});
    });
    const { stream } = await rig.connect();
    const near = record(stream);
    const chunk = Buffer.alloc(64 * 1024, 7);
    let written = 0;
    let drains = 0;
    // Until nothing has moved for a while: windows, TLS and sockets on the way are full.
    for (let quietTurns = 0; quietTurns < 50; ) {
      if (written === 0 || near.drains > drains) {
        drains = near.drains;
        quietTurns = 0;
        do written += chunk.length;
        while (stream.write(chunk));
      } else quietTurns += 1;
      await new Promise((resolve) => setTimeout(resolve, 2));
      assert.ok(written < 64 * 1024 * 1024, 'it is held back');
    }
    const sink = record(far!);
    stream.end();
    await until('everything came', () => sink.ended);
    assert.equal(sink.bytes, written);
  }),
);

describe('a tunnel inside a tunnel that cannot be', () => {
  it(
    'an inner end that is somebody else is refused by name',
    scoped(async (scope) => {
      const rig = await startRig(scope, echoing);
      const error = await rejection(rig.connect(['spiffe://cluster.local/ns/shop/sa/other' as SpiffeId]));
      assert.equal(error.code, 'PEER_IDENTITY_MISMATCH');
      assert.match(error.message, /stock\.shop\.svc\.cluster\.local:80 behind the gateway 127\.0\.0\.1:\d+/);
      assert.equal(rig.far.requests.length, 0);
    }),
  );

  it(
    'the gateway itself cannot pose as the inner end',
    scoped(async (scope) => {
      // It passes the inner handshake to itself.
      const rig: Rig = await startRig(scope, echoing, createHboneServer, (request) =>
        splice(request, rig.gateway.address),
      );
      const error = await rejection(rig.connect());
      assert.equal(error.code, 'PEER_IDENTITY_MISMATCH');
      assert.match(error.message, /sa\/eastwest/);
    }),
  );

  it(
    'the far end’s refusal has its status',
    scoped(async (scope) => {
      const rig = await startRig(scope, (request) => request.refuse(401));
      const error = await rejection(rig.connect());
      assert.equal(error.code, 'HBONE_REFUSED');
      assert.equal(error.details.status, 401);
    }),
  );

  it(
    'a gateway that drops the inner connection is a failed handshake',
    scoped(async (scope) => {
      const rig = await startRig(scope, echoing, createHboneServer, (request) =>
        request.accept({}).reset('CANCEL'),
      );
      const error = await rejection(rig.connect());
      assert.equal(error.code, 'TLS_HANDSHAKE_FAILED');
    }),
  );

  it(
    'a gateway that breaks later breaks the stream: what was cut does not look complete',
    scoped(async (scope) => {
      const rig = await startRig(scope, echoing);
      const { stream } = await rig.connect();
      const sink = record(stream);
      stream.write(Buffer.from('half of it'));
      await until('the echo came', () => sink.bytes > 0);
      rig.gateway.server.close();
      await until('the stream is over', () => sink.outcome !== undefined);
      assert.equal(sink.outcome?.clean, false);
    }),
  );
});

it(
  'nothing stays behind when the connection has ended',
  scoped(async (scope) => {
    const ended: string[] = [];
    const rig = await startRig(scope, (request) => {
      const stream = request.accept({});
      stream.attach({
        data: () => {},
        drain: () => {},
        end: () => stream.end(),
        close: () => void ended.push('far'),
      });
    });
    const { stream } = await rig.connect();
    const sink = record(stream);
    stream.end();
    await until('both ends are over', () => sink.outcome !== undefined && ended.length === 1);
    const again = await rig.connect();
    const second = record(again.stream);
    again.stream.reset('CANCEL');
    await until('the reset one is over too', () => second.outcome !== undefined && ended.length === 2);
    assert.equal(rig.outerSessions(), 1);
  }),
);
