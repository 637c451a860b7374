import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalTarget, parseExitFile } from './container-script.ts';
import { portOf } from './probe.ts';
import { ProbeCount } from './prober.ts';

test('mount targets below /var/run are those below /run', () => {
  assert.equal(canonicalTarget('/var/run/secrets/x/'), '/run/secrets/x');
  assert.equal(canonicalTarget('/var/run'), '/run');
  assert.equal(canonicalTarget('/var/running'), '/var/running');
  assert.equal(canonicalTarget('//etc//a'), '/etc/a');
  assert.equal(canonicalTarget('/'), '/');
});

test('what the exit file tells', () => {
  assert.deepEqual(parseExitFile(''), { kind: 'not-started' });
  assert.deepEqual(parseExitFile('started\n'), { kind: 'no-code' });
  assert.deepEqual(parseExitFile('started\n137\n'), { kind: 'exited', code: 137 });
});

test('probe verdicts need their thresholds in a row', () => {
  const count = new ProbeCount({ successThreshold: 2, failureThreshold: 3 });
  const verdicts = (
    ['success', 'failure', 'success', 'success', 'failure', 'failure', 'failure', 'success'] as const
  ).map((outcome) => count.add(outcome));
  assert.deepEqual(verdicts, [
    'unknown',
    'unknown',
    'unknown',
    'passing',
    'passing',
    'passing',
    'failing',
    'failing',
  ]);
});

test('probe ports by number and by name', () => {
  const container = { name: 'c', image: 'i', ports: [{ name: 'http', containerPort: 8080 }] };
  assert.equal(portOf(1, container), 1);
  assert.equal(portOf('http', container), 8080);
  assert.equal(portOf('9000', container), 9000);
  assert.throws(() => portOf('nope', container), /no port named "nope"/);
});
