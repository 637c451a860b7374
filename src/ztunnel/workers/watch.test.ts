import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ASK_EVERY_MS, LOOKS_UNTIL_HUNG, silentWithin, type Watched, watchThreads } from './watch.ts';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Answers when it is told to. */
class Thread implements Watched {
  readonly name: string;
  asked = 0;
  hangs = false;
  #waiting: (() => void)[] = [];
  constructor(name: string) {
    this.name = name;
  }
  answer = (): Promise<unknown> => {
    this.asked++;
    return new Promise<void>((resolve) => {
      if (this.hangs) this.#waiting.push(resolve);
      else resolve();
    });
  };
  wakes(): void {
    this.hangs = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

test('those that answer are not named, those that do not are, within the limit', async () => {
  const [a, b] = [new Thread('a'), new Thread('b')];
  assert.deepEqual(await silentWithin([a, b], 60_000), []);
  b.hangs = true;
  assert.deepEqual(await silentWithin([a, b], 1), ['b']);
  await assert.rejects(
    silentWithin([{ name: 'gone', answer: () => Promise.reject(new Error('has ended')) }], 60_000),
    /has ended/,
  );
});

test('a thread that answers nothing for six looks hangs; one that comes back before does not', async ({
  mock,
}) => {
  mock.timers.enable({ apis: ['setInterval'] });
  const [a, b] = [new Thread('a'), new Thread('b')];
  const hung: [string, number][] = [];
  const look = async (times: number): Promise<void> => {
    for (; times > 0; times--) {
      mock.timers.tick(ASK_EVERY_MS);
      await settled();
    }
  };
  watchThreads([a, b], (...args) => hung.push(args));
  await look(10);
  assert.deepEqual([a.asked, b.asked, hung.length], [10, 10, 0]);
  b.hangs = true;
  await look(LOOKS_UNTIL_HUNG);
  assert.equal(b.asked, 11, 'one question is enough');
  b.wakes();
  await settled();
  await look(1);
  b.hangs = true;
  await look(LOOKS_UNTIL_HUNG);
  assert.deepEqual(hung, []);
  await look(1);
  assert.deepEqual(hung, [['b', 30_000]]);
  await look(20);
  assert.equal(hung.length, 1);
});

test('nobody is late while this thread itself hung: that is one look', async ({ mock }) => {
  mock.timers.enable({ apis: ['setInterval'] });
  const a = new Thread('a');
  const hung: string[] = [];
  watchThreads([a], (name) => hung.push(name));
  a.hangs = true;
  mock.timers.tick(ASK_EVERY_MS);
  // Its answer waits in our queue, however long that was.
  a.wakes();
  await settled();
  mock.timers.tick(ASK_EVERY_MS);
  await settled();
  assert.deepEqual([hung, a.asked], [[], 2]);
});

test('stopped, it asks no more', async ({ mock }) => {
  mock.timers.enable({ apis: ['setInterval'] });
  const a = new Thread('a');
  const stop = watchThreads([a], () => {});
  mock.timers.tick(ASK_EVERY_MS);
  stop();
  mock.timers.tick(10 * ASK_EVERY_MS);
  assert.equal(a.asked, 1);
});
