import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { createLogger } from '#telemetry/log.ts';
import { bearerToken, cachedReviewer, type Review } from './token-review.ts';

const caller = { namespace: 'shop', serviceAccount: 'web', pod: undefined };
const OPTIONS = { maxAgeMs: 60_000, maxAgeAwayMs: 600_000, maxEntries: 2 };
const tokenUntil = (expMs: number | undefined): string =>
  `h.${Buffer.from(JSON.stringify(expMs === undefined ? {} : { exp: expMs / 1000 })).toString('base64url')}.s`;

function setUp(first: Review) {
  let nowMs = 1_000_000;
  let answer: Review | MeshError = first;
  const asked: (string | undefined)[] = [];
  const lines: string[] = [];
  const review = cachedReviewer(
    {
      review: async (token) => {
        asked.push(token);
        if (answer instanceof MeshError) throw answer;
        return answer;
      },
      clock: { now: () => nowMs, monotonicMs: () => nowMs },
      log: createLogger('t', { format: 'plain', level: 'warn', write: (line) => lines.push(line) }),
    },
    OPTIONS,
  );
  return {
    review,
    asked,
    lines,
    at: (ms: number) => {
      nowMs = ms;
    },
    answers: (next: Review | MeshError) => {
      answer = next;
    },
  };
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

const AWAY = new MeshError('API_UNREACHABLE', 'no answer');

test('the API server away: who was let in is let in, with a word in the log, and nobody else', async () => {
  const { review, lines, at, answers } = setUp(GOOD);
  const token = tokenUntil(9_000_000);
  await review(token);
  answers(AWAY);
  at(1_599_999);
  assert.deepEqual(await review(token), GOOD);
  assert.match(lines.join(''), /cannot be reviewed.*caller="shop\/web"/);
  await assert.rejects(review(tokenUntil(8_000_000)), AWAY);
  at(1_600_000);
  await assert.rejects(review(token), AWAY);
});

test('an answer from a server that is back counts: a refusal ends what was remembered', async () => {
  const { review, at, answers } = setUp(GOOD);
  const token = tokenUntil(9_000_000);
  await review(token);
  const refused: Review = { kind: 'refused', reason: 'invalid-token', explain: 'the pod is gone' };
  answers(refused);
  at(1_060_000);
  assert.deepEqual(await review(token), refused);
  answers(AWAY);
  await assert.rejects(review(token), AWAY);
});

test('the API server away: not beyond the end of the token, and not for want of a permission', async () => {
  const ends = setUp(GOOD);
  const token = tokenUntil(1_100_000);
  await ends.review(token);
  ends.answers(AWAY);
  ends.at(1_099_999);
  assert.deepEqual(await ends.review(token), GOOD);
  ends.at(1_100_000);
  await assert.rejects(ends.review(token), AWAY);

  const forbidden = new MeshError('API_STATUS', 'no', { details: { status: 403, reason: 'Forbidden' } });
  const barred = setUp(GOOD);
  await barred.review(token);
  barred.answers(forbidden);
  barred.at(1_061_000);
  await assert.rejects(barred.review(token), forbidden);
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
