import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fit, isFlat, type Point } from './fit.ts';

const points = (value: (index: number) => number): Point[] =>
  Array.from({ length: 90 }, (_, index) => ({ atMs: index * 1000, value: value(index) }));
const LIMIT = { amount: 4, share: 0.1 };

test('a leak is growth: one a second over the sixty seconds after the warm-up', () => {
  const line = fit(points((index) => 100 + index));
  assert.equal(Math.round(line.growth), 59);
  assert.equal(isFlat(line, LIMIT), false);
});

test('what goes up and down is flat, and so is what shrinks', () => {
  assert.ok(isFlat(fit(points((index) => 100 + (index % 10))), LIMIT));
  assert.ok(isFlat(fit(points((index) => 200 - index)), LIMIT));
});

test('what is taken while warming up does not count', () => {
  assert.equal(Math.round(fit(points((index) => Math.min(index, 30))).growth), 0);
});

test('a small leak below noise is still seen over its whole time', () => {
  const noisy = fit(points((index) => 20 + index / 2 + (index % 7) * 3));
  assert.ok(Math.abs(noisy.growth - 29.5) < 3, `${noisy.growth}`);
  assert.equal(isFlat(noisy, LIMIT), false);
});

test('too little is no verdict', () => {
  assert.throws(() => fit([{ atMs: 0, value: 1 }]), /too few/);
});
