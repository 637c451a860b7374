// `kubectl logs` with each of its options, against the log store of the kubelets: one container and many, init containers,
// runs that ended and runs before, selectors, following. What a container says is written as a kubelet writes it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { TestContext } from 'node:test';
import type { Pod } from '#k8s/objects.ts';
import { type ContainerLog, LogStore } from '#local/kubelet/logs.ts';
import { type Kubectl, testEachKubectl } from '../lib/kubectls.ts';
import { type ApiRig, withApiServer } from './apiserver-rig.ts';
import { kubectlFor, ok } from './kubectl-rig.ts';

const OLD = '2026-01-01T00:00:00.000Z';
const line = (said: string, time = new Date().toISOString()): string => `${time} stdout F ${said}\n`;

interface LogRig {
  readonly rig: ApiRig;
  readonly store: LogStore;
  readonly kubectl: ReturnType<typeof kubectlFor>;
  /** Makes a pod with an init container `prepare` and the containers `web` and `aide`. */
  pod(name: string, status?: Pod['status']): Promise<Pod>;
}

const CONTAINERS = [
  { name: 'web', image: 'local/web' },
  { name: 'aide', image: 'local/aide' },
];

async function withLogs(
  t: TestContext,
  program: Kubectl,
  run: (logs: LogRig) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-logs-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = new LogStore(folder);
  await withApiServer(
    async (rig) => {
      const pod = async (name: string, status?: Pod['status']): Promise<Pod> => {
        const pods = '/api/v1/namespaces/default/pods';
        const made = await rig.call('POST', pods, {
          body: {
            metadata: { name, labels: { app: 'shop' } },
            spec: {
              nodeName: 'n1',
              initContainers: [{ name: 'prepare', image: 'local/prepare' }],
              containers: CONTAINERS,
            },
          },
        });
        assert.equal(made.code, 201, made.text);
        if (status === undefined) return made.body;
        const changed = await rig.call('PATCH', `${pods}/${name}/status`, {
          body: { status },
          type: 'application/merge-patch+json',
        });
        assert.equal(changed.code, 200, changed.text);
        return changed.body;
      };
      await run({ rig, store, kubectl: kubectlFor(rig, program), pod });
    },
    { podLogs: store },
  );
}

/** A run that has ended. */
function said(store: LogStore, pod: Pod, container: string, attempt: number, ...lines: string[]): void {
  const log = store.writer(pod, container, attempt);
  log.write(lines.join(''));
  log.end();
}

testEachKubectl('logs: which container, all of them, --prefix, limits and times', async (program, t) => {
  await withLogs(t, program, async ({ store, kubectl, pod }) => {
    const one = await pod('one');
    said(store, one, 'prepare', 0, line('made ready', OLD));
    said(store, one, 'web', 0, line('first', OLD), line('second', OLD), line('third'));
    said(store, one, 'aide', 0, line('helping'));

    assert.equal(ok(await kubectl('logs one -c web')), 'first\nsecond\nthird\n');
    assert.equal(ok(await kubectl('logs one -c prepare')), 'made ready\n', 'an init container that ended');
    // In which order the containers come is left open by kubectl.
    const sorted = (out: string): string[] => out.trim().split('\n').sort();
    assert.deepEqual(sorted(ok(await kubectl('logs one --all-containers'))), [
      'first',
      'helping',
      'made ready',
      'second',
      'third',
    ]);
    assert.deepEqual(sorted(ok(await kubectl('logs one --all-containers --prefix --tail=1'))), [
      '[pod/one/aide] helping',
      '[pod/one/prepare] made ready',
      '[pod/one/web] third',
    ]);
    assert.equal(ok(await kubectl('logs one -c web --tail=2')), 'second\nthird\n');
    assert.equal(ok(await kubectl('logs one -c web --tail=0')), '');
    assert.equal(ok(await kubectl('logs one -c web --since=1h')), 'third\n');
    assert.equal(ok(await kubectl('logs one -c web --since-time=2026-01-01T00:00:01Z')), 'third\n');
    assert.equal(
      ok(await kubectl('logs one -c web --since-time=2025-12-31T23:00:00-01:00')),
      'first\nsecond\nthird\n',
      'a time is a time in every zone',
    );
    assert.equal(ok(await kubectl('logs one -c web --limit-bytes=8')), 'first\nse');
    assert.equal(ok(await kubectl('logs one -c web --timestamps --tail=2')).split('\n')[0], `${OLD} second`);
    const unknown = await kubectl('logs one -c nobody');
    assert.equal(unknown.code, 1);
    assert.match(unknown.err, /container nobody is not valid for pod one/);
  });
});

testEachKubectl('logs: the run before, between two runs, and what never ran', async (program, t) => {
  await withLogs(t, program, async ({ store, kubectl, pod }) => {
    const ended = { exitCode: 1, reason: 'Error', finishedAt: OLD };
    const status = (name: string, restartCount: number, isWaiting: boolean) => ({
      name,
      image: `local/${name}`,
      ready: false,
      restartCount,
      state: isWaiting ? { waiting: { reason: 'CrashLoopBackOff' } } : { running: { startedAt: OLD } },
      lastState: { terminated: ended },
    });
    const restarted = await pod('restarted', {
      phase: 'Running',
      initContainerStatuses: [status('prepare', 1, true)],
      containerStatuses: [
        status('web', 1, false),
        {
          name: 'aide',
          image: 'local/aide',
          ready: false,
          restartCount: 0,
          state: { waiting: { reason: 'ImagePullBackOff' } },
          lastState: {},
        },
      ],
    });
    said(store, restarted, 'prepare', 0, line('failed once'));
    said(store, restarted, 'prepare', 1, line('failed twice'));
    said(store, restarted, 'web', 0, line('crashed'));
    const running = store.writer(restarted, 'web', 1);
    running.write(line('lives'));

    assert.equal(ok(await kubectl('logs restarted -c web')), 'lives\n');
    assert.equal(ok(await kubectl('logs restarted -c web --previous')), 'crashed\n');
    assert.equal(
      ok(await kubectl('logs restarted -c prepare -p')),
      'failed twice\n',
      'between two runs the last one is the one before',
    );
    const waiting = await kubectl('logs restarted -c aide');
    assert.match(
      waiting.err,
      /container "aide" in pod "restarted" is waiting to start: trying and failing to pull/,
    );
    const never = await kubectl('logs restarted -c aide --previous');
    assert.equal(never.code, 1);
    assert.match(never.err, /previous terminated container "aide" in pod "restarted" not found/);
    running.end();

    const over = await pod('over', { phase: 'Succeeded' });
    said(store, over, 'web', 0, line('all done'));
    assert.equal(
      ok(await kubectl('logs over -c web -f')),
      'all done\n',
      'nobody waits for a pod that is over',
    );
  });
});

testEachKubectl('logs: every pod of a selector, and following them until they end', async (program, t) => {
  await withLogs(t, program, async ({ rig, store, kubectl, pod }) => {
    const status: Pod['status'] = { phase: 'Running' };
    const logs: ContainerLog[] = [];
    for (const name of ['left', 'right']) {
      const log = store.writer(await pod(name, status), 'web', 0);
      log.write(line(`${name} begins`));
      logs.push(log);
    }
    assert.deepEqual(
      ok(await kubectl('logs -l app=shop -c web --prefix'))
        .trim()
        .split('\n')
        .sort(),
      ['[pod/left/web] left begins', '[pod/right/web] right begins'],
    );
    const follower = spawn(program.path, ['logs', '-f', '-l', 'app=shop', '-c', 'web'], {
      env: { PATH: process.env.PATH, HOME: rig.folder, KUBECONFIG: join(rig.folder, 'kubeconfig') },
      stdio: 'pipe',
      timeout: 60_000,
    });
    t.after(() => follower.kill());
    let heard = '';
    const both = new Promise<void>((resolve) => {
      follower.stdout.on('data', (chunk: Buffer) => {
        heard += chunk.toString();
        if (/left begins/.test(heard) && /right begins/.test(heard)) resolve();
      });
    });
    const ended = new Promise<void>((resolve) => follower.once('close', () => resolve()));
    const complaints = text(follower.stderr);
    await Promise.race([both, ended]);
    for (const [index, log] of logs.entries()) log.write(line(`goes on ${index}`));
    for (const log of logs) log.end();
    await ended;
    assert.deepEqual(
      heard.trim().split('\n').sort(),
      ['goes on 0', 'goes on 1', 'left begins', 'right begins'],
      await complaints,
    );
  });
});
