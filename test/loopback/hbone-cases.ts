// What every HBONE client and server must do together: a table of cases for any pair of implementations.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Scope } from '#base/scope.ts';
import type { HboneRequest, HboneStream } from '#hbone/hbone.ts';
import { until } from '../lib/until.ts';
import { CLIENT_ID, echo, type Pair, record, SERVER_ID } from './hbone-peers.ts';

export type StartPair = (scope: Scope, onRequest: (request: HboneRequest) => void) => Promise<Pair>;

const accept = (request: HboneRequest): HboneStream => request.accept({ baggage: 'service.name=cart' });

/** Opens a tunnel and hands out both of its ends. */
async function tunnel(
  scope: Scope,
  start: StartPair,
): Promise<{ pair: Pair; near: HboneStream; far: HboneStream }> {
  let far: HboneStream | undefined;
  const pair = await start(scope, (request) => {
    far = accept(request);
  });
  const { stream: near } = await pair.client.connect('10.0.0.1:80');
  assert.ok(far);
  return { pair, near, far };
}

export const HBONE_CASES: Readonly<Record<string, (scope: Scope, start: StartPair) => Promise<void>>> = {
  'carries authority, headers and identities': async (scope, start) => {
    const pair = await start(scope, accept);
    const opened = await pair.client.connect('10.0.0.1:8080', {
      baggage: 'k8s.namespace.name=shop',
      forwarded: 'for="10.0.0.9:1234"',
    });
    const [request] = pair.requests;
    assert.equal(request?.authority, '10.0.0.1:8080');
    assert.deepEqual(request?.headers, {
      baggage: 'k8s.namespace.name=shop',
      forwarded: 'for="10.0.0.9:1234"',
    });
    assert.equal(request?.peer.identity, CLIENT_ID);
    assert.equal(request?.peer.address.ip, '127.0.0.1');
    assert.deepEqual(opened.headers, { baggage: 'service.name=cart' });
    assert.equal(opened.peer.identity, SERVER_ID);
  },

  'carries 4 MB both ways unchanged': async (scope, start) => {
    const pair = await start(scope, (request) => echo(accept(request)));
    const { stream } = await pair.client.connect('10.0.0.1:80');
    const sent = randomBytes(4 << 20);
    let at = 0;
    const received = record(stream);
    const pump = (): void => {
      while (at < sent.length) {
        const chunk = sent.subarray(at, at + 50_000);
        at += chunk.length;
        if (!stream.write(chunk)) return;
      }
      stream.end();
    };
    received.drain = pump;
    pump();
    await until('both ends closed', () => received.outcome !== undefined);
    assert.ok(Buffer.concat(received.chunks).equals(sent));
    assert.deepEqual(received.order, ['data', 'end', 'close']);
    assert.deepEqual(received.outcome, { clean: true });
  },

  'lets the server speak first': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    far.write(Buffer.from('220 ready'));
    const sink = record(near);
    await until('the greeting came', () => sink.text === '220 ready');
  },

  'closes each direction by itself': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    near.write(Buffer.from('request'));
    near.end();
    await until('the far end heard the end', () => farSink.ended);
    assert.equal(farSink.text, 'request');
    assert.equal(farSink.outcome, undefined);
    far.write(Buffer.from('late answer'));
    far.end();
    await until('both are closed', () => nearSink.outcome !== undefined && farSink.outcome !== undefined);
    assert.equal(nearSink.text, 'late answer');
    assert.deepEqual(nearSink.order, ['data', 'end', 'close']);
    assert.deepEqual([nearSink.outcome, farSink.outcome], [{ clean: true }, { clean: true }]);
  },

  'the far end may close first': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    far.end();
    await until('the near end heard the end', () => nearSink.ended);
    near.write(Buffer.from('still here'));
    near.end();
    await until('both are closed', () => nearSink.outcome !== undefined && farSink.outcome !== undefined);
    assert.equal(farSink.text, 'still here');
    assert.deepEqual([nearSink.outcome, farSink.outcome], [{ clean: true }, { clean: true }]);
  },

  'delivers nothing before attach': async (scope, start) => {
    const { pair, near, far } = await tunnel(scope, start);
    near.write(Buffer.from('early'));
    near.end();
    // Answered on the same session, so what was sent before has arrived.
    await pair.client.connect('10.0.0.2:80');
    const sink = record(far);
    assert.equal(sink.bytes, 0);
    await until('it is delivered', () => sink.ended);
    assert.equal(sink.text, 'early');
  },

  'a reset with CANCEL is no end of data': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    near.write(Buffer.from('half'));
    await until('half came', () => farSink.text === 'half');
    near.reset('CANCEL');
    await until('both are closed', () => nearSink.outcome !== undefined && farSink.outcome !== undefined);
    assert.deepEqual(farSink.order, ['data', 'close']);
    assert.deepEqual(farSink.outcome, { clean: true });
  },

  'the server may reset with CANCEL': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    far.reset('CANCEL');
    await until('both are closed', () => nearSink.outcome !== undefined && farSink.outcome !== undefined);
    assert.equal(nearSink.ended, false);
    assert.deepEqual(nearSink.outcome, { clean: true });
  },

  'a reset with INTERNAL_ERROR is not clean': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    far.reset('INTERNAL_ERROR');
    await until('both are closed', () => nearSink.outcome !== undefined && farSink.outcome !== undefined);
    assert.equal(nearSink.ended, false);
    assert.equal(nearSink.outcome?.clean, false);
    assert.match(nearSink.outcome?.reason ?? '', /INTERNAL_ERROR/);
    assert.equal(farSink.outcome?.clean, false);
  },

  'a reset after a half-close is told to the reader': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    near.end();
    await until('the far end heard the end', () => farSink.ended);
    far.write(Buffer.from('part'));
    await until('part came', () => nearSink.text === 'part');
    far.reset('CANCEL');
    await until('the near end is closed', () => nearSink.outcome !== undefined);
    assert.deepEqual(nearSink.order, ['data', 'close']);
  },

  'a stream that is over takes calls without harm': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const nearSink = record(near);
    far.reset('CANCEL');
    await until('the near end is closed', () => nearSink.outcome !== undefined);
    assert.equal(near.write(Buffer.from('x')), false);
    near.end();
    near.pause();
    near.resume();
    near.reset('INTERNAL_ERROR');
    const late = record(far);
    await until('a late sink hears of the end', () => late.outcome !== undefined);
    assert.deepEqual(late.order, ['close']);
  },

  'a session cut under a stream is not clean': async (scope, start) => {
    const { pair, near } = await tunnel(scope, start);
    const nearSink = record(near);
    near.write(Buffer.from('x'));
    pair.server.close();
    await until('the near end is closed', () => nearSink.outcome !== undefined);
    assert.equal(nearSink.ended, false);
    assert.equal(nearSink.outcome?.clean, false);
  },

  'refuses with the status': async (scope, start) => {
    const pair = await start(scope, (request) => request.refuse(request.authority === 'a:1' ? 401 : 503));
    for (const [target, status] of [
      ['a:1', 401],
      ['b:1', 503],
    ] as const) {
      await assert.rejects(pair.client.connect(target), {
        code: 'HBONE_REFUSED',
        message: `http status: ${status}`,
        details: { status },
      });
    }
    assert.equal(pair.connections(), 1);
  },

  'a refusal leaves the session in order': async (scope, start) => {
    const pair = await start(scope, (request) => {
      if (request.authority === 'no:1') request.refuse(401);
      else echo(accept(request));
    });
    const { stream } = await pair.client.connect('yes:1');
    const sink = record(stream);
    await assert.rejects(pair.client.connect('no:1'), { code: 'HBONE_REFUSED' });
    stream.write(Buffer.from('on'));
    await until('the first stream still echoes', () => sink.text === 'on');
  },

  'tells the server that a waiting peer went away': async (scope, start) => {
    let aborted = 0;
    const pair = await start(scope, (request) => request.onAbort(() => (aborted += 1)));
    const connecting = pair.client.connect('10.0.0.1:80');
    connecting.catch(() => {});
    await until('the request came', () => pair.requests.length === 1);
    pair.pool.close();
    await assert.rejects(connecting);
    await until('the server heard of it', () => aborted === 1);
    const late = record(accept(pair.requests[0]!));
    await until('a late accept is closed at once', () => late.outcome !== undefined);
  },

  'holds a writer back while the reader is paused': async (scope, start) => {
    const { near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    far.pause();
    const chunk = Buffer.alloc(256 * 1024);
    let sent = 0;
    const pump = (): void => {
      do sent += chunk.length;
      while (near.write(chunk) && sent < 64 << 20);
    };
    nearSink.drain = pump;
    pump();
    let before = -1;
    // The window and what lies in between fill up, then nothing moves any more.
    await until('the writer is stuck', () => {
      const stuck = before === sent;
      before = sent;
      return stuck && sent > 4 << 20;
    });
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
    assert.ok(sent < 8 << 20, `${sent} bytes were taken for a reader that takes none`);
    nearSink.drain = () => {};
    far.resume();
    near.end();
    await until('all of it arrives', () => farSink.ended);
    assert.equal(farSink.bytes, sent);
  },

  'a stalled stream does not stall another': async (scope, start) => {
    const pair = await start(scope, (request) => {
      const stream = accept(request);
      if (request.authority === 'stalled:1') stream.pause();
      else echo(stream);
    });
    const chunk = Buffer.alloc(1 << 20);
    for (let stalled = 0; stalled < 6; stalled++) {
      const { stream } = await pair.client.connect('stalled:1');
      for (let part = 0; part < 6; part++) stream.write(chunk);
    }
    const { stream } = await pair.client.connect('live:1');
    const sink = record(stream);
    for (let part = 0; part < 4; part++) stream.write(chunk);
    stream.end();
    await until('the live stream is done', () => sink.ended);
    assert.equal(sink.bytes, 4 << 20);
    assert.equal(pair.connections(), 1);
  },

  'drains: open streams finish, new ones find no session': async (scope, start) => {
    const { pair, near, far } = await tunnel(scope, start);
    const [nearSink, farSink] = [record(near), record(far)];
    pair.server.drain();
    near.write(Buffer.from('after'));
    await until('bytes still pass', () => farSink.text === 'after');
    // A request that was on its way when the server began to drain may still be served.
    for (let served = true; served; ) {
      served = await pair.client.connect('10.0.0.1:80').then(
        ({ stream }) => {
          stream.reset('CANCEL');
          return true;
        },
        () => false,
      );
    }
    near.end();
    far.end();
    await until('the stream ends by itself', () => nearSink.outcome !== undefined);
    assert.deepEqual(nearSink.outcome, { clean: true });
    await until('the session goes with it', () => pair.pool.sessionCount === 0);
  },
};
