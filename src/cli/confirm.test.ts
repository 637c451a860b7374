import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describingContext } from './command-reference.ts';
import { confirm, confirmIfAsked } from './confirm.ts';

const answering = (answer: string | undefined) => ({
  ...describingContext,
  ask: () => Promise.resolve(answer),
});

test('a yes goes on, anything else does not', async () => {
  for (const yes of ['y', 'Y', 'yes', ' yes ']) await confirm(answering(yes), 'This.');
  for (const no of ['', 'n', 'no', 'yess'])
    await assert.rejects(confirm(answering(no), 'This.'), /nothing was changed/);
});

test('without a person: what can be undone goes on, what cannot needs --yes', async () => {
  await confirmIfAsked(answering(undefined), 'This.');
  await assert.rejects(
    confirm(answering(undefined), 'This removes it.'),
    /This removes it\. Nobody .* --yes/,
  );
});
