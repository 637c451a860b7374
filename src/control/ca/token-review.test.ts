import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bearerToken, cachedReviewer, type Review } from './token-review.ts';

const caller = { namespace: 'shop', serviceAccount: 'web', pod: undefined };
const OPTIONS = { maxAgeMs: 60_000, maxEntries: 2 };
const tokenUntil = (expMs: number | undefined): string =>
  `h.${Buffer.from(JSON.stringify(expMs === undefined ? {} : { exp: expMs / 1000 })).toString('base64url')}.s`;

function setUp(answer: Review) {
  let nowMs = 1_000_000;
  const asked: (string | undefined)[] = [];
  const review = cachedReviewer(
    async (token) => {
      asked.push(token);
      return answer;
    },
    { now: () => nowMs, monotonicMs: () => nowMs },
    OPTIONS,
  );
  return { review, asked, at: (ms: number) => (nowMs = ms) };
}
const GOOD: Review = { kind: 'authenticated', caller };

test('a positive answer is believed for a minute', async () => {
  const { review, asked, at } = setUp(GOOD);
  const token = tokenUntil(9_000_000);
  await review(token);
  at(1_059_999);
  assert.deepEqual(await review(token), GOOD);
  assert.equal(asked.length, 1);
  at(1_060_000);
  await review(token);
  assert.equal(asked.length, 2);
});

test('never beyond the end of the token', async () => {
  const { review, asked, at } = setUp(GOOD);
  const token = tokenUntil(1_010_000);
  await review(token);
  at(1_010_000);
  await review(token);
  assert.equal(asked.length, 2);
});

test('refusals, and tokens without a readable end, are asked every time', async () => {
  const refused = setUp({ kind: 'refused', reason: 'invalid-token', explain: 'no' });
  const token = tokenUntil(9_000_000);
  await refused.review(token);
  await refused.review(token);
  assert.equal(refused.asked.length, 2);
  for (const text of ['opaque', 'a.b.c', tokenUntil(undefined)]) {
    const { review, asked } = setUp(GOOD);
    await review(text);
    await review(text);
    assert.equal(asked.length, 2, text);
  }
});

test('the oldest answer makes room', async () => {
  const { review, asked } = setUp(GOOD);
  const [a, b, c] = [1, 2, 3].map((n) => tokenUntil(9_000_000 + n * 1000));
  for (const token of [a, b, c, c, b]) await review(token);
  assert.deepEqual(asked, [a, b, c]);
  await review(a);
  assert.equal(asked.length, 4);
});

test('the bearer token of a header', () => {
  assert.equal(bearerToken('Bearer abc'), 'abc');
  assert.equal(bearerToken('bearer abc'), 'abc');
  for (const text of [undefined, null, '', 'Bearer', 'Bearer ', 'Basic abc', 'Bearer a b'])
    assert.equal(bearerToken(text), undefined);
});
