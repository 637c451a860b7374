// New streams: a bucket of one second's depth, and a second's patience (control-plane.md §4.1).

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { rateLimit } from './admission.ts';

test('a second’s worth at once, a second’s worth waits its turn, the rest is turned away', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    let now = 0;
    const admit = rateLimit(10, () => now);
    let admitted = 0;
    const refused: unknown[] = [];
    for (let index = 0; index < 25; index++)
      admit().then(
        () => {
          admitted++;
        },
        (error: unknown) => refused.push(error),
      );
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    await turn();
    assert.equal(admitted, 10);
    assert.equal(refused.length, 5);
    for (const error of refused) {
      assert.ok(error instanceof MeshError);
      assert.equal(error.details.code, 8);
    }
    mock.timers.tick(500);
    await turn();
    assert.equal(admitted, 15);
    mock.timers.tick(500);
    await turn();
    assert.equal(admitted, 20);
    now = 2000;
    await admit();
  } finally {
    mock.timers.reset();
  }
});
