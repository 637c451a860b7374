// When changes are pushed: control-plane.md §4.7, and the first change after quiet.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Scope } from '#base/scope.ts';
import { type DebounceOptions, debounce } from './debounce.ts';

interface Rig {
  change(...names: string[]): void;
  pass(ms: number): void;
  /** When each push was made, with its names and when the first of them came. */
  readonly pushes: { readonly at: number; readonly names: string; readonly since: number }[];
  readonly scope: Scope;
}

function withRig(options: DebounceOptions, run: (rig: Rig) => void): void {
  mock.timers.enable({ apis: ['setTimeout'] });
  const scope = new Scope('test');
  try {
    let now = 1000;
    const pushes: Rig['pushes'] = [];
    const take = debounce(
      scope,
      options,
      (changed, since) => pushes.push({ at: now, names: [...(changed.get('T') ?? [])].join(), since }),
      () => now,
    );
    run({
      scope,
      pushes,
      change: (...names) => take('T', new Set(names)),
      pass: (ms) => {
        for (let step = 0; step < ms; step++) {
          now++;
          mock.timers.tick(1);
        }
      },
    });
  } finally {
    scope.close();
    mock.timers.reset();
  }
}

test('100 ms of quiet, counted from the last change; at most 10 s from the first', () => {
  withRig({ quietMs: 100, maxMs: 1000 }, ({ change, pass, pushes }) => {
    change('a');
    pass(99);
    assert.deepEqual(pushes, []);
    change('b');
    pass(99);
    assert.deepEqual(pushes, []);
    pass(1);
    assert.deepEqual(pushes, [{ at: 1199, names: 'a,b', since: 1000 }]);
    for (let turn = 0; turn < 30; turn++) {
      change(`n${turn % 2}`);
      pass(50);
    }
    assert.deepEqual(pushes[1], { at: 2199, names: 'n0,n1', since: 1199 });
  });
});

test('the first change after quiet goes out early, with what comes meanwhile; the next ones wait', () => {
  withRig({ quietMs: 100, maxMs: 1000, firstMs: 5 }, ({ change, pass, pushes }) => {
    change('a');
    pass(4);
    change('b');
    pass(1);
    assert.deepEqual(pushes, [{ at: 1005, names: 'a,b', since: 1000 }]);
    pass(10);
    change('c');
    pass(60);
    change('d');
    pass(99);
    assert.equal(pushes.length, 1);
    pass(1);
    assert.deepEqual(pushes[1], { at: 1175, names: 'c,d', since: 1015 });
    pass(100);
    change('e');
    pass(5);
    assert.deepEqual(pushes[2], { at: 1280, names: 'e', since: 1275 });
  });
});

test('nothing is pushed without names, nor after the end', () => {
  withRig({ quietMs: 10, maxMs: 100 }, ({ change, pass, pushes, scope }) => {
    change();
    pass(200);
    change('a');
    scope.close();
    pass(200);
    change('b');
    pass(200);
    assert.deepEqual(pushes, []);
  });
});
