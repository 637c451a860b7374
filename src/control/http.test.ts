import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TokenReviewer } from './ca/token-review.ts';
import { debugRefusal } from './http.ts';

const review: TokenReviewer = async (token) => {
  const namespace = { mesh: 'istio-system', app: 'shop' }[token ?? ''];
  return namespace === undefined
    ? { kind: 'refused', reason: 'no-token', explain: 'no' }
    : { kind: 'authenticated', caller: { namespace, serviceAccount: 'x', pod: undefined } };
};
const deps = { review, systemNamespace: 'istio-system' };

test('debug pages: everybody inside the pod, accounts of the system namespace from outside, nobody else', async () => {
  const status = async (from: string | undefined, header?: string) =>
    (await debugRefusal(deps, from, header))?.status;
  for (const inside of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
    assert.equal(await status(inside), undefined);
  for (const outside of ['10.244.1.2', 'fd00::1', '::ffff:10.0.0.1', undefined]) {
    assert.equal(await status(outside), 401);
    assert.equal(await status(outside, 'Bearer app'), 403);
    assert.equal(await status(outside, 'Bearer mesh'), undefined);
  }
});
