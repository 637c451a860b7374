// Somebody else's program in place of one of ours: every feature's evidence and recovery in each pairing. The peers are not
// part of this repository: PEER_ZTUNNEL, PEER_CONTROL and PEER_CNI name their commands, as `culvert up --ztunnel` takes them.

import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { ALL_EVIDENCE } from './evidence/all.ts';
import { now, startsWith, waitForRecord } from './evidence/evidence.ts';
import { isAlive, type Mesh, projectDir, startMesh, until } from './harness.ts';

interface Pairing {
  readonly title: string;
  readonly variable: 'PEER_ZTUNNEL' | 'PEER_CONTROL' | 'PEER_CNI';
  readonly flags: (command: string) => readonly string[];
}

const PAIRINGS: readonly Pairing[] = [
  {
    title: "the peer's ztunnel on both nodes",
    variable: 'PEER_ZTUNNEL',
    flags: (command) => ['--ztunnel', command],
  },
  {
    title: "the peer's ztunnel on n1, ours on n2",
    variable: 'PEER_ZTUNNEL',
    flags: (command) => ['--ztunnel', `n1=${command}`],
  },
  {
    title: "ours on n1, the peer's ztunnel on n2",
    variable: 'PEER_ZTUNNEL',
    flags: (command) => ['--ztunnel', `n2=${command}`],
  },
  {
    title: "the peer's control plane",
    variable: 'PEER_CONTROL',
    flags: (command) => ['--control', command],
  },
  { title: "the peer's CNI agent", variable: 'PEER_CNI', flags: (command) => ['--cni', command] },
];

/** Beside the peer's ztunnel listeners overlap instead of being handed over, and a roll-out may lose a connection. */
const OWN_ZTUNNEL_ONLY: ReadonlySet<string> = new Set(['M11']);

for (const { title, variable, flags } of PAIRINGS) {
  const command = process.env[variable];
  if (command === undefined) {
    test(title, { skip: `not run: ${variable} does not name the command of one` }, () => {});
    continue;
  }
  suite(title, () => {
    let started: Mesh | undefined;
    before(async () => {
      started = await startMesh({ flags: flags(command) });
    });
    after(() => started?.stop());
    const theMesh = (): Mesh => started ?? assert.fail('no mesh');

    for (const { id, title: feature, show } of ALL_EVIDENCE) {
      if (variable === 'PEER_ZTUNNEL' && OWN_ZTUNNEL_ONLY.has(id)) continue;
      test(`${id}: ${feature}`, async (context) => {
        await show(theMesh(), (text) => context.diagnostic(text));
      });
    }
    for (const node of ['n1', 'n2'] as const) {
      test(`the ztunnel of ${node} killed: back by itself, traffic flows again both ways`, async () => {
        const mesh = theMesh();
        const pid = mesh.pidOf('ztunnel', node);
        process.kill(pid, 'SIGKILL');
        await until(() => !isAlive(pid), 'it to die');
        const since = now();
        await crossesNodes(mesh, 'n2', 'catalog', since);
        await crossesNodes(mesh, 'n1', 'ledger', since);
      });
    }
  });
}

/** A connection from the other node, over mTLS, that began after `since`. */
async function crossesNodes(mesh: Mesh, node: string, workload: string, since: string): Promise<void> {
  await waitForRecord(
    mesh,
    node,
    since,
    `a connection to the ${workload}`,
    (fields) =>
      startsWith(fields.get('dst.workload'), workload) && fields.has('src.identity') && !fields.has('error'),
  );
}

test('a command replaces ztunnel on one node: arguments, environment and files as a ztunnel expects them', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-peer-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const script = join(dir, 'somebody elses ztunnel');
  // Says what it was given, then does the work of the program it stands in for.
  const tell =
    'echo "told: $* | $INPOD_ENABLED $POD_NAMESPACE/$SERVICE_ACCOUNT on $NODE_NAME, $XDS_ADDRESS $CA_ADDRESS"';
  const see = 'ls /var/run/secrets/tokens/istio-token /var/run/secrets/istio/root-cert.pem >&2';
  writeFileSync(script, `#!/bin/sh\n${tell}\n${see}\nshift; exec "$@"\n`);
  chmodSync(script, 0o755);
  const ours = `${process.execPath} ${join(projectDir, 'dist/ztunnel.mjs')}`;
  const mesh = await startMesh({ flags: ['--ztunnel', `n2='${script}' first ${ours}`] });
  try {
    const logs = await Promise.all(
      ['n1', 'n2'].map(async (node) => {
        const name = await mesh.kubectl(
          ...['get', 'pods', '-n', 'istio-system', '-l', 'app=ztunnel', '-o', 'name'],
          ...['--field-selector', `spec.nodeName=${node}`],
        );
        return mesh.kubectl('logs', '-n', 'istio-system', name.trim());
      }),
    );
    assert.doesNotMatch(logs[0] ?? '', /told:/, 'ours runs on n1');
    const istiod = 'https://istiod.istio-system.svc:15012';
    assert.match(
      logs[1] ?? '',
      new RegExp(
        `told: first .*ztunnel\\.mjs proxy ztunnel \\| true istio-system/ztunnel on n2, ${istiod} ${istiod}`,
      ),
    );
    assert.match(logs[1] ?? '', /root-cert\.pem\n.*istio-token\n/);
    await crossesNodes(mesh, 'n2', 'catalog', now());
  } finally {
    await mesh.stop();
  }
});

test('what names no program, or a node that is not there, is refused in one sentence', async () => {
  await assert.rejects(
    startMesh({ flags: ['--ztunnel', '/no/such/ztunnel'] }),
    /--ztunnel names no program: \/no\/such\/ztunnel does not exist/,
  );
  await assert.rejects(
    startMesh({ flags: ['--cni', 'm7=/bin/sh'] }),
    /there is no node "m7" .*the nodes are n1, n2/,
  );
});
