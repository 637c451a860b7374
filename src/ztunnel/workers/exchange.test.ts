import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import { MeshError } from '#base/errors.ts';
import { Exchange } from './exchange.ts';

interface Told {
  readonly put: string;
}
interface Asked {
  readonly held: { readonly ask: null; readonly answer: readonly string[] };
  readonly later: { readonly ask: string; readonly answer: string };
}
type Nothing = Record<never, never>;

function pair() {
  const { port1, port2 } = new MessageChannel();
  const held: string[] = [];
  const far = new Exchange<Nothing, Nothing, Told, Asked>(port2, {
    told: { put: (text) => held.push(text) },
    asked: {
      held: () => [...held],
      later: async (text) => {
        if (text === 'no') throw new MeshError('IDENTITY_UNAVAILABLE', 'not this one');
        return text.toUpperCase();
      },
    },
  });
  const near = new Exchange<Told, Asked, Nothing, Nothing>(port1, { told: {}, asked: {} });
  return { near, far, close: () => port1.close() };
}

test('an answer comes after everything that was told before the question', async () => {
  const { near, close } = pair();
  near.tell('put', 'a');
  const first = near.ask('held', null);
  near.tell('put', 'b');
  assert.deepEqual([await first, await near.ask('held', null)], [['a'], ['a', 'b']]);
  close();
});

test('what takes time is answered when it is there, a failure with its code', async () => {
  const { near, close } = pair();
  const refused = assert.rejects(near.ask('later', 'no'), {
    name: 'MeshError',
    code: 'IDENTITY_UNAVAILABLE',
    message: 'not this one',
  });
  assert.equal(await near.ask('later', 'yes'), 'YES');
  await refused;
  close();
});

test('when the other end is gone, nobody waits for it', async () => {
  const { near, close } = pair();
  const gone = new MeshError('WORKER_FAILED', 'thread x has ended');
  const waiting = assert.rejects(near.ask('later', 'yes'), gone);
  near.fail(gone);
  await waiting;
  await assert.rejects(near.ask('held', null), gone);
  close();
});
