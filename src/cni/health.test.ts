import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { startHealthServer } from './health.ts';

test('health for everybody, debug pages for the node itself', async () => {
  let isReady = false;
  const server = await startHealthServer(0, () => isReady, {
    '/debug/older-connections': () => [{ pod: 'a' }],
  });
  const ask = async (path: string, host = '127.0.0.1'): Promise<[number, string]> => {
    const answer = await fetch(`http://${host}:${server.port}${path}`);
    return [answer.status, (await answer.text()).trim()];
  };
  try {
    assert.deepEqual(await ask('/healthz'), [200, 'ok']);
    assert.deepEqual(await ask('/readyz'), [503, 'not ready']);
    isReady = true;
    assert.deepEqual(await ask('/readyz?verbose'), [200, 'ok']);
    assert.deepEqual(await ask('/debug/older-connections'), [200, '[{"pod":"a"}]']);
    assert.deepEqual(await ask('/constructor'), [404, 'not found']);
    const outside = Object.values(networkInterfaces())
      .flat()
      .find((address) => address?.internal === false && address.family === 'IPv4')?.address;
    if (outside !== undefined)
      assert.deepEqual(await ask('/debug/older-connections', outside), [403, 'only from the node itself']);
  } finally {
    server.close();
  }
});
