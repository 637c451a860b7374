import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tools } from '#local/machine/tools.ts';
import { type BindMount, canonicalTarget, parseExitFile, renderContainerScript } from './container-script.ts';
import { portOf } from './probe.ts';
import { ProbeCount } from './prober.ts';

test('mount targets below /var/run are those below /run', () => {
  assert.equal(canonicalTarget('/var/run/secrets/x/'), '/run/secrets/x');
  assert.equal(canonicalTarget('/var/run'), '/run');
  assert.equal(canonicalTarget('/var/running'), '/var/running');
  assert.equal(canonicalTarget('//etc//a'), '/etc/a');
  assert.equal(canonicalTarget('/'), '/');
});

/** The paths of one line's mount, in order. */
const mountsOf = (mounts: readonly BindMount[]): string[] =>
  renderContainerScript({ mount: 'mount', umount: 'umount' } as Tools, {
    mounts,
    stageDirs: { run: '/pod/run', tmp: '/pod/tmp' },
    keepPaths: [],
    maskDirs: [],
    workingDir: '/',
  })
    .split('\n')
    .flatMap((line) => /--rbind(?: -o ro)? (.*)$/.exec(line)?.[1] ?? /^umount.*/.exec(line)?.[0] ?? [])
    .map((text) => text.replaceAll("'", ''));

test('a host directory whose place another volume takes is still itself where it is mounted elsewhere', () => {
  const mount = (source: string, target: string): BindMount => ({
    source,
    target,
    kind: 'dir',
    readOnly: false,
  });
  assert.deepEqual(mountsOf([mount('/opt/cni/bin', '/host/opt/cni/bin'), mount('/peer', '/opt/cni/bin')]), [
    '/opt/cni/bin /pod/run/.source-0',
    '/peer /opt/cni/bin',
    '/pod/run/.source-0 /host/opt/cni/bin',
    'umount -n -l /pod/run/.source-0',
  ]);
  // Below /run nothing is covered before the end, and a volume may stand in its own place.
  assert.deepEqual(mountsOf([mount('/run/netns', '/run/netns'), mount('/opt/x', '/opt/x')]), [
    '/opt/x /opt/x',
    '/run/netns /pod/run/netns',
  ]);
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
