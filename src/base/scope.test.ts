import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Scope } from './scope.ts';

test('closes what it owns once, last registered first, children included', () => {
  const order: string[] = [];
  const root = new Scope('root');
  root.onClose(() => order.push('first'));
  const child = root.child('child');
  child.onClose(() => order.push('child'));
  root.onClose(() => order.push('last'));
  root.close();
  root.close();
  assert.deepEqual(order, ['last', 'child', 'first']);
  assert.equal(child.closed, true);
});

test('a closer registered after the end runs at once; a child cannot start', () => {
  const scope = new Scope('over');
  scope.close();
  let ran = false;
  scope.onClose(() => {
    ran = true;
  });
  assert.equal(ran, true);
  assert.throws(() => scope.child('late'), /over is closed; late cannot start/);
});

test('one failing closer does not stop the others', () => {
  const scope = new Scope('failing');
  let ran = false;
  scope.onClose(() => {
    ran = true;
  });
  scope.onClose(() => {
    throw new Error('boom');
  });
  assert.throws(() => scope.close(), /boom/);
  assert.equal(ran, true);
});

test('a child that closed by itself is forgotten by its parent', () => {
  const parent = new Scope('parent');
  let closes = 0;
  const child = parent.child('child');
  child.onClose(() => {
    closes += 1;
  });
  child.close();
  parent.close();
  assert.equal(closes, 1);
});

test('a timer of months does not fire at once, and ends with its scope', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const day = 86_400_000;
  const scope = new Scope('patient');
  let ran = 0;
  scope.timeout(60 * day, () => {
    ran++;
  });
  const never = scope.timeout(90 * day, () => {
    ran += 10;
  });
  for (let days = 0; days < 59; days++) t.mock.timers.tick(day);
  assert.equal(ran, 0);
  never();
  // The clock of the mock goes in days, so each part of the wait may end one late.
  for (let days = 59; days < 64; days++) t.mock.timers.tick(day);
  assert.equal(ran, 1);
  scope.timeout(60 * day, () => {
    ran++;
  });
  t.mock.timers.tick(30 * day);
  scope.close();
  t.mock.timers.tick(90 * day);
  assert.equal(ran, 1);
});
