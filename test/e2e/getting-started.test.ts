// docs/GETTING-STARTED.md and README.md, block by block. The first holds the commands by which ambient mode is known, word
// for word (`culvert` in place of `istioctl`); between the blocks this test looks whether they did what the page says.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { freePort } from '../lib/free-port.ts';
import { projectDir, until } from './harness.ts';
import { shellBlocks } from './lib/doc-blocks.ts';
import { DocShell, type Running } from './lib/doc-run.ts';

const THE_COMMANDS = [
  'culvert install --set profile=ambient',
  'kubectl label namespace my-app istio.io/dataplane-mode=ambient',
  'kubectl logs -n istio-system daemonset/ztunnel -f',
  'kubectl label namespace my-app istio.io/dataplane-mode- --overwrite',
];

interface Page {
  readonly shell: DocShell;
  readonly stateDir: string;
  /** Starts the command that runs the cluster, on a free port, and waits for its last line. */
  startCluster(commands: string): Promise<void>;
  /** Ctrl-C. The exit code of the command that ran the cluster. */
  stopCluster(): Promise<number | null>;
}

/** Closed after the test. */
async function openPage(t: TestContext): Promise<Page> {
  const home = mkdtempSync(join(tmpdir(), 'culvert-page-'));
  const { XDG_STATE_HOME: _, KUBECONFIG: __, ...env } = process.env;
  const shell = new DocShell({ ...env, HOME: home });
  const port = await freePort();
  let cluster: Running | undefined;
  t.after(async () => {
    try {
      await cluster?.stop();
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
  return {
    shell,
    stateDir: join(home, '.local/state/culvert'),
    async startCluster(commands) {
      const flags = commands.startsWith('npm ') ? `-- --api-port ${port}` : `--api-port ${port}`;
      const running = shell.start(`${commands} ${flags}`);
      cluster = running;
      await until(
        () => {
          if (running.child.exitCode !== null) throw new Error(`it ended:\n${running.printed()}`);
          return /Ctrl-C ends the mesh/.test(running.printed());
        },
        commands,
        90_000,
      );
    },
    async stopCluster() {
      await cluster?.stop();
      return cluster?.child.exitCode ?? null;
    },
  };
}

/** Every pod of a namespace with its uid and restarts: equal before and after means that none restarted. */
const podsOf = (shell: DocShell, namespace: string): Promise<string> =>
  shell.run({
    line: 0,
    commands: `kubectl get pods -n ${namespace} --sort-by=.metadata.name -o jsonpath='{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{"\\n"}{end}'`,
  });
const redirected = (shell: DocShell, namespace: string): Promise<string> =>
  shell.run({
    line: 0,
    commands: `kubectl get pods -n ${namespace} -o jsonpath='{.items[*].metadata.annotations.ambient\\.istio\\.io/redirection}'`,
  });

test('getting started: into an empty cluster, into the mesh, out of it, and gone', async (t) => {
  const blocks = shellBlocks(join(projectDir, 'docs/GETTING-STARTED.md'));
  const lines = new Set(blocks.flatMap(({ commands }) => commands.split('\n')));
  for (const command of THE_COMMANDS) assert.ok(lines.has(command), `the page lacks: ${command}`);

  const page = await openPage(t);
  const { shell } = page;
  let before = '';
  for (const block of blocks) {
    const has = (command: string): boolean => block.commands.split('\n').includes(command);
    if (block.longRunning && block.commands.includes('culvert up')) {
      await page.startCluster(block.commands);
      continue;
    }
    if (block.longRunning) {
      const running = shell.start(block.commands);
      try {
        await until(
          () =>
            /src\.identity="spiffe:\/\/cluster\.local\/ns\/my-app\/sa\/client".*dst\.identity="spiffe:\/\/cluster\.local\/ns\/my-app\/sa\/catalog"/.test(
              running.printed(),
            ),
          `both identities in the output of ${block.commands}`,
        );
      } finally {
        await running.stop();
      }
      continue;
    }
    const printed = await shell.run(block);
    if (has('kubectl apply -f examples/my-app/my-app.yaml')) {
      before = await podsOf(shell, 'my-app');
      assert.equal(before.trim().split('\n').length, 2);
    }
    if (has(THE_COMMANDS[0] as string)) assert.match(printed, /The mesh is installed/);
    if (has(THE_COMMANDS[1] as string)) {
      await until(
        async () => (await redirected(shell, 'my-app')) === 'enabled enabled',
        'both pods in the mesh',
      );
      assert.equal(await podsOf(shell, 'my-app'), before, 'no pod restarted');
      // Uninstalling under running traffic would cut it.
      await assert.rejects(
        shell.run({ line: 0, commands: 'culvert uninstall --yes' }),
        /namespace my-app is still/,
      );
    }
    if (has(THE_COMMANDS[3] as string)) {
      await until(async () => (await redirected(shell, 'my-app')).trim() === '', 'both pods out of the mesh');
      assert.equal(await podsOf(shell, 'my-app'), before, 'no pod restarted');
      const log = { line: 0, commands: 'kubectl logs -n my-app deployment/client --tail=3' };
      await until(async () => !/failed/.test(await shell.run(log)), 'plain requests that succeed');
    }
    if (has('culvert uninstall --yes')) {
      const left = await shell.run({
        line: 0,
        commands:
          'kubectl get ns,crd,clusterroles,clusterrolebindings -l app.kubernetes.io/managed-by=culvert -o name; kubectl get cm -A -o name | grep istio-ca || true',
      });
      assert.equal(left.replace(/No resources found\n?/, '').trim(), '');
    }
  }
});

test('a pod starts after the mesh is gone: the plugin has left the CNI chain', async (t) => {
  const page = await openPage(t);
  const { shell } = page;
  const commands = (text: string): Promise<string> => shell.run({ line: 0, commands: text });
  await page.startCluster('bin/culvert up --bare');
  await commands(`export KUBECONFIG=${page.stateDir}/kubeconfig\nexport PATH=$PWD/bin:$PATH`);
  await commands('culvert install');
  // A second time changes nothing; another profile takes the proxies away again.
  const uids =
    'kubectl get deployment,daemonset -n istio-system -o jsonpath=\'{range .items[*]}{.metadata.uid} {.metadata.generation}{"\\n"}{end}\'';
  const first = await commands(uids);
  await commands('culvert install --set profile=ambient');
  assert.equal(await commands(uids), first);
  const minimal = await commands('culvert install --set profile=minimal');
  assert.match(minimal, /DaemonSet istio-system\/ztunnel/);
  assert.equal(
    (await commands('kubectl get daemonset -n istio-system -o name')).trim().replace(/No resources.*/, ''),
    '',
  );
  await commands('culvert uninstall --yes');
  await commands('kubectl apply -f examples/my-app/my-app.yaml');
  await commands('kubectl wait --for=condition=available --timeout=60s deployment --all -n my-app');
  await assert.rejects(commands('culvert uninstall --yes'), /nothing to remove/);
});

test('every block of README.md does what it says', async (t) => {
  const page = await openPage(t);
  for (const block of shellBlocks(join(projectDir, 'README.md'))) {
    if (block.longRunning) {
      await page.startCluster(block.commands);
      continue;
    }
    const printed = await page.shell.run(block);
    assert.match(printed, /istio-system +ztunnel-\S+ +1\/1 +Running/);
    assert.match(printed, /src\.identity="spiffe:.*dst\.identity="spiffe:/);
    assert.match(printed, /\.15008/, 'tcpdump saw the tunnel');
  }
  assert.equal(await page.stopCluster(), 0, 'one Ctrl-C, which npm passes on a second time, ends in order');
});
