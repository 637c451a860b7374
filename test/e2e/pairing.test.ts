// Somebody else's program in place of one of ours: every feature's evidence and recovery in each pairing. The peers are not
// part of this repository: PEER_ZTUNNEL, PEER_CONTROL and PEER_CNI name their commands, as `culvert up --ztunnel` takes them.

import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { AUTHORIZATION_POLICIES, CONFIG_MAPS } from '#k8s/objects.ts';
import { newSigningCertificate } from '../lib/authorities.ts';
import { ALL_EVIDENCE } from './evidence/all.ts';
import { accessRecords, fetchInZtunnel, now, startsWith, waitForRecord } from './evidence/evidence.ts';
import { isAlive, type Mesh, projectDir, startMesh, until } from './harness.ts';
import { askAuthority } from './lib/ask-authority.ts';
import { filesOf, newCompanyAuthority, plugIn, revocationLists } from './lib/plugged-in.ts';
import { LONG_LIVED, rotateRoot, SHORT_LIVED, setProxyEnv, takeOver } from './lib/rotate-root.ts';
import { sharedMesh } from './lib/shared-mesh.ts';
import { crossesNodes, showOnDemand, showResume } from './lib/xds-seams.ts';

type Variable = 'PEER_ZTUNNEL' | 'PEER_CONTROL' | 'PEER_CNI';

interface Pairing {
  readonly title: string;
  readonly variables: readonly Variable[];
  /** Told the commands in the order of the variables. */
  readonly flags: (...commands: readonly string[]) => readonly string[];
}

const PAIRINGS: readonly Pairing[] = [
  {
    title: "the peer's ztunnel on both nodes",
    variables: ['PEER_ZTUNNEL'],
    flags: (ztunnel = '') => ['--ztunnel', ztunnel],
  },
  {
    title: "the peer's ztunnel on n1, ours on n2",
    variables: ['PEER_ZTUNNEL'],
    flags: (ztunnel) => ['--ztunnel', `n1=${ztunnel}`],
  },
  {
    title: "ours on n1, the peer's ztunnel on n2",
    variables: ['PEER_ZTUNNEL'],
    flags: (ztunnel) => ['--ztunnel', `n2=${ztunnel}`],
  },
  {
    title: "the peer's control plane",
    variables: ['PEER_CONTROL'],
    flags: (control = '') => ['--control', control],
  },
  {
    title: "the peer's CNI agent",
    variables: ['PEER_CNI'],
    flags: (cni = '') => ['--cni', cni],
  },
  {
    title: "the peer's CNI agent on n1, ours on n2",
    variables: ['PEER_CNI'],
    flags: (cni) => ['--cni', `n1=${cni}`],
  },
  {
    title: "our CNI agent on n1, the peer's on n2",
    variables: ['PEER_CNI'],
    flags: (cni) => ['--cni', `n2=${cni}`],
  },
  {
    title: "the peer's CNI agent and ztunnel",
    variables: ['PEER_CNI', 'PEER_ZTUNNEL'],
    flags: (cni = '', ztunnel = '') => ['--cni', cni, '--ztunnel', ztunnel],
  },
  {
    title: "the peer's control plane and ztunnel",
    variables: ['PEER_CONTROL', 'PEER_ZTUNNEL'],
    flags: (control = '', ztunnel = '') => ['--control', control, '--ztunnel', ztunnel],
  },
  {
    title: "everything the peer's, on our cluster",
    variables: ['PEER_CONTROL', 'PEER_CNI', 'PEER_ZTUNNEL'],
    flags: (control = '', cni = '', ztunnel = '') => [
      ...['--control', control],
      ...['--cni', cni],
      ...['--ztunnel', ztunnel],
    ],
  },
];

/** Beside the peer's ztunnel listeners overlap instead of being handed over, and a roll-out may lose a connection. */
const OWN_ZTUNNEL_ONLY: ReadonlySet<string> = new Set(['M11']);

for (const { title, variables, flags } of PAIRINGS) {
  const missing = variables.filter((variable) => process.env[variable] === undefined);
  if (missing.length > 0) {
    test(title, { skip: `not run: ${missing.join(', ')} does not name the command of one` }, () => {});
    continue;
  }
  suite(title, () => {
    const commands = variables.map((variable) => process.env[variable] as string);
    const theMesh = sharedMesh(() => startMesh({ flags: flags(...commands) }));
    const keepsConnections = !variables.includes('PEER_CNI');

    for (const { id, title: feature, show } of ALL_EVIDENCE) {
      if (variables.includes('PEER_ZTUNNEL') && OWN_ZTUNNEL_ONLY.has(id)) continue;
      test(`${id}: ${feature}`, async (context) => {
        await show(theMesh(), (text) => context.diagnostic(text), { keepsConnections });
      });
    }
    if (!keepsConnections)
      test('R1: connections that are open when the label comes or goes live on', {
        skip: "the peer's agent resets them (docs/DIFFERENCES.md)",
      }, () => {});
    if (!variables.includes('PEER_CONTROL'))
      test('the root is rotated, then an intermediate is plugged in: no connection fails; what it revokes is refused', async (context) => {
        await showAuthority(theMesh(), (text) => context.diagnostic(text));
      });
    if (variables.join() === 'PEER_CONTROL')
      test('an authority is plugged in: the chain, roots and lists that ours gives, too', async (context) => {
        await comparePluggedIn(theMesh(), (text) => context.diagnostic(text));
      });
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
    test('the control plane killed: traffic goes on, and configuration is obeyed after it is back', async () => {
      const mesh = theMesh();
      const pid = mesh.pidOf('control');
      process.kill(pid, 'SIGKILL');
      await crossesNodes(mesh, 'n2', 'catalog', now());
      const since = now();
      await mesh.apply(DENY_CATALOG);
      await waitForRecord(mesh, 'n2', since, 'a refused page', (fields) =>
        /shop\/after-restart/.test(fields.get('error') ?? ''),
      );
      assert.notEqual(mesh.pidOf('control'), pid);
      await mesh.client.delete(AUTHORIZATION_POLICIES, 'after-restart', { namespace: 'shop' });
      await crossesNodes(mesh, 'n2', 'catalog', now());
    });
    test('the control plane killed once more: it does not send again what the proxies have', async (context) => {
      await showResume(theMesh(), (text) => context.diagnostic(text));
    });
    // How an agent of somebody else's is told to leave DNS alone is its own matter.
    if (!variables.includes('PEER_CNI'))
      test('proxies that ask for addresses one by one', async (context) => {
        await showOnDemand(theMesh(), (text) => context.diagnostic(text));
      });
  });
}

const DENY_CATALOG = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: after-restart, namespace: shop }
spec:
  selector: { matchLabels: { app: catalog } }
  action: DENY
  rules: [{}]
`;

/** Every connection with a handshake of its own, so that each meets the certificates of its moment. */
async function showAuthority(mesh: Mesh, say: (text: string) => void): Promise<void> {
  await setProxyEnv(mesh, ...SHORT_LIVED, 'POOL_MAX_STREAMS_PER_CONNECTION=1');
  const both = async (since: string): Promise<void> => {
    await crossesNodes(mesh, 'n2', 'catalog', since);
    await crossesNodes(mesh, 'n1', 'ledger', since);
  };
  await both(now());
  const since = now();
  await rotateRoot(mesh, say);
  await both(now());
  const company = await newCompanyAuthority();
  await takeOver(mesh, company);
  await both(now());
  for (const node of ['n1', 'n2']) {
    const records = (await accessRecords(mesh, node)).filter(({ time }) => time >= since);
    say(`${records.length} connections on ${node}`);
    assert.deepEqual(
      records.filter(({ fields }) => fields.has('error')),
      [],
    );
  }

  await setProxyEnv(mesh, ...LONG_LIVED);
  const dump = JSON.parse(await fetchInZtunnel(mesh, 'n2', 'http://127.0.0.1:15000/config_dump')) as {
    certificates: { identity: string; certChain: { serialNumber: string }[] }[];
  };
  const catalog = dump.certificates.find(({ identity }) => identity.endsWith('/ns/shop/sa/catalog'));
  assert.equal(catalog?.certChain.length, 3, 'leaf and two intermediates');
  const serial = BigInt(catalog?.certChain[0]?.serialNumber ?? '0').toString(16);
  const revokedAt = now();
  await plugIn(mesh, { 'ca-crl.pem': await revocationLists(company, [serial]) });
  const refused = await waitForRecord(
    mesh,
    'n1',
    revokedAt,
    'a refused page',
    (fields) => startsWith(fields.get('dst.service'), 'catalog') && fields.has('error'),
  );
  say(`n1: ${refused.fields.get('error')}`);
  // Others are not concerned; and a list can be taken back.
  await crossesNodes(mesh, 'n1', 'ledger', now());
  await plugIn(mesh, { 'ca-crl.pem': await revocationLists(company, []) });
  await both(now());
}

/** What test/loopback/control-authority.test.ts holds of ours, asked of the peer's control plane. */
async function comparePluggedIn(mesh: Mesh, say: (text: string) => void): Promise<void> {
  const company = await newCompanyAuthority();
  const next = await newSigningCertificate({ name: 'next root' });
  const rootsPem = company.root.certPem + next.certPem;
  const lists = await revocationLists(company, ['01']);
  await plugIn(mesh, { ...filesOf(company, rootsPem), 'ca-crl.pem': lists });
  // It looks for plugged-in files at its start only.
  await mesh.kubectl('rollout', 'restart', '-n', 'istio-system', 'deployment/istiod');
  const content = async (name: string, key: string): Promise<string | undefined> =>
    (await mesh.client.list(CONFIG_MAPS, { namespace: 'shop' })).items.find(
      ({ metadata }) => metadata.name === name,
    )?.data?.[key];
  await until(
    async () => (await content('istio-ca-root-cert', 'root-cert.pem')) === rootsPem,
    'its roots, byte for byte, in the ConfigMap',
    90_000,
  );
  await until(
    async () => (await content('istio-ca-crl', 'ca-crl.pem')) === lists,
    'its revocation lists, byte for byte, in the ConfigMap',
  );
  let answer = '';
  await until(async () => {
    answer = await askAuthority(mesh, 'web', { print: 'chain' });
    return answer.startsWith('[');
  }, 'its authority to sign');
  const [leaf = '', ...others] = JSON.parse(answer) as string[];
  assert.ok(new X509Certificate(leaf).verify(new X509Certificate(company.signing.certPem).publicKey));
  // The file's chain, root included; ours leaves that out.
  const { signing, upper, root } = company;
  assert.deepEqual(others, [signing.certPem, upper.certPem, root.certPem, rootsPem]);
  // Proxies with certificates of the root that nobody trusts any more ask for others only when they are half through.
  await setProxyEnv(mesh, 'SECRET_TTL=24h');
  say(`leaf, then ${others.slice(0, -1).map((pem) => new X509Certificate(pem).subject)}, then both roots`);
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
