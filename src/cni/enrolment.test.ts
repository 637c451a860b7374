import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PODS, type Pod } from '#k8s/objects.ts';
import { openNetns } from '#linux/netns.ts';
import { ip } from '#net/ip.ts';
import type { Logger } from '#telemetry/log.ts';
import { silentLogger } from '#telemetry/log.ts';
import { createEnrolment } from './enrolment.ts';
import { PodTable } from './pod-table.ts';

const POD: Pod = {
  apiVersion: 'v1',
  kind: PODS.kind,
  metadata: { name: 'web', namespace: 'shop', uid: 'u1' },
  spec: { containers: [] },
};

/** What is warned of when a pod with these addresses is enrolled. */
async function warnings(ipv6: boolean, ...addresses: string[]): Promise<unknown[]> {
  const warned: unknown[] = [];
  const log: Logger = { ...silentLogger, warn: (text, fields) => warned.push([text, fields]) };
  const table = new PodTable();
  const done = (): Promise<void> => Promise.resolve();
  const enrolment = createEnrolment(
    {
      table,
      rules: {
        track: done,
        steer: done,
        apply: done,
        release: done,
        remove: done,
        state: () => Promise.resolve('steering'),
      },
      probes: { install: done, set: done, remove: done, uninstall: done },
      zds: { add: done, del: done } as never,
      client: { patch: () => Promise.resolve(POD) as never },
      findNetns: () => undefined,
      hostNetns: { dev: 0n, ino: 0n } as never,
      older: { forgetFormer: () => 0, forgetEnded: () => 0, keep: () => 0, served: () => 0, cut: () => 0 },
      clock: { monotonicMs: () => 0 },
      log,
    },
    { ipv6, dnsCapture: false, drainMs: 0 },
  );
  await enrolment.add(POD, addresses.map(ip), { netnsPath: '/proc/self/ns/net' });
  table.close();
  return warned;
}

test('a pod whose IPv6 traffic is not captured is named in a warning, no other', async () => {
  assert.deepEqual(await warnings(true, '10.244.1.2', 'fd00:10:244:1::2'), []);
  assert.deepEqual(await warnings(false, '10.244.1.2'), []);
  const [[text, fields] = [], ...more] = (await warnings(false, '10.244.1.2', 'fd00:10:244:1::2')) as [
    string,
    Record<string, unknown>,
  ][];
  assert.deepEqual(more, []);
  assert.match(String(text), /not captured.*AMBIENT_IPV6=true/);
  assert.equal(fields?.ip, 'fd00:10:244:1::2');
  assert.equal(fields?.name, 'web');
});

test('a pod that leaves the mesh is let go step by step: peers, new connections, open ones, the rest', async () => {
  const steps: string[] = [];
  const step = (what: string) => (): Promise<void> => {
    steps.push(what);
    return Promise.resolve();
  };
  let open = 2;
  let nowMs = 0;
  const table = new PodTable();
  const enrolment = createEnrolment(
    {
      table,
      rules: {
        track: step('track'),
        steer: step('steer'),
        apply: step('apply'),
        release: step('release'),
        remove: step('remove rules'),
        state: () => Promise.resolve('none'),
      },
      probes: {
        install: step('-'),
        set: step('let probes pass'),
        remove: step('forget probes'),
        uninstall: step('-'),
      },
      zds: { add: step('ztunnel add'), del: step('ztunnel del') },
      client: {
        patch: (...[, , , body]: unknown[]) => {
          steps.push(
            `annotate ${Object.values((body as Pod).metadata.annotations as Record<string, string>)[0]}`,
          );
          return Promise.resolve(POD) as never;
        },
      },
      findNetns: () => openNetns('/proc/self/ns/net'),
      hostNetns: { dev: 0n, ino: 0n } as never,
      older: {
        forgetFormer: () => {
          steps.push('forget former');
          return 0;
        },
        forgetEnded: () => {
          steps.push('forget ended');
          return 0;
        },
        keep: () => {
          steps.push('keep older');
          return 0;
        },
        served: () => open,
        cut: () => {
          steps.push('cut carried');
          return 0;
        },
      },
      clock: { monotonicMs: () => nowMs },
      log: silentLogger,
    },
    { ipv6: true, dnsCapture: false, drainMs: 1000 },
  );
  const enrol = async (): Promise<string[]> => {
    await enrolment.add(POD, [ip('10.0.0.1')]);
    return steps.splice(0);
  };
  const leave = async (): Promise<string[]> => {
    const outcome = await enrolment.remove('u1', POD, false);
    return [...steps.splice(0), outcome];
  };
  // A running pod meets no closed door: whoever serves it stands before anything is redirected.
  const enrolled = [
    'ztunnel add',
    'let probes pass',
    'forget former',
    'track',
    'keep older',
    'steer',
    'annotate enabled',
  ];
  const rest = ['forget probes', 'ztunnel del', 'cut carried', 'remove rules', 'removed'];
  assert.deepEqual(await enrol(), enrolled);
  assert.deepEqual(await leave(), ['annotate null', 'release', 'draining']);
  assert.deepEqual(table.uids(), ['u1'], 'ztunnel keeps serving it');
  assert.deepEqual(await leave(), ['draining']);
  open = 0;
  assert.deepEqual(await leave(), ['forget ended', ...rest]);

  // Not for ever.
  open = 1;
  assert.deepEqual(await enrol(), enrolled);
  assert.equal((await leave()).at(-1), 'draining');
  nowMs = 1000;
  assert.deepEqual(await leave(), rest);

  // A pod that ended takes its connections with it.
  assert.deepEqual(await enrol(), enrolled);
  await enrolment.remove('u1', undefined, true);
  assert.deepEqual(steps, ['forget probes', 'ztunnel del']);
});
