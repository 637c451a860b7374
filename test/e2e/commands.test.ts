// The commands that look at a running mesh and change who is in it, as a person types them.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { DAEMON_SETS, PODS, SECRETS } from '#k8s/objects.ts';
import { type Mesh, projectDir, startMesh, until } from './harness.ts';

const run = promisify(execFile);
let mesh: Mesh;

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function culvert(...args: string[]): Promise<Ended> {
  const options = {
    env: { ...process.env, KUBECONFIG: mesh.kubeconfigPath },
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
  };
  try {
    const { stdout, stderr } = await run(`${projectDir}/bin/culvert`, args, options);
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout: string; stderr: string };
    if (typeof code !== 'number') throw error;
    return { code, out: stdout, err: stderr };
  }
}

/** For commands that must succeed. */
async function printed(...args: string[]): Promise<string> {
  const { code, out, err } = await culvert(...args);
  assert.equal(code, 0, `culvert ${args.join(' ')}: ${err}`);
  return out;
}

before(async () => {
  mesh = await startMesh();
});
after(async () => {
  await mesh?.stop();
});

const ISTIOCTL = process.env.PEER_ISTIOCTL;

test('a real istioctl asks our control plane', {
  skip: ISTIOCTL === undefined && 'not run: PEER_ISTIOCTL does not name one',
}, async () => {
  const istioctl = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await run(ISTIOCTL!, args, {
      env: { ...process.env, KUBECONFIG: mesh.kubeconfigPath },
      timeout: 60_000,
    });
    assert.equal(stderr, '');
    return stdout;
  };
  const rows = (await istioctl('proxy-status')).trim().split('\n').slice(1);
  assert.equal(rows.length, 2);
  for (const row of rows)
    assert.match(
      row,
      /^ztunnel~\S+~ztunnel-\S+\.istio-system~\S+\s+Kubernetes\s+istiod-\S+\s+\S+\s+2 \(WADS,WDS\)/,
    );
  const verbose = await istioctl('proxy-status', '-v', '1');
  assert.match(verbose, /WADS\s+WDS/);
  assert.equal(verbose.match(/SYNCED \(\d+\w+\)\s+SYNCED \(\d+\w+\)/g)?.length, 2);
  const version = await istioctl('version');
  assert.match(version, /control plane version: 0\.1\.0/);
  assert.match(version, /data plane version: .*\(2 proxies\)/);

  const debug = (page: string): Promise<string> => istioctl('x', 'internal-debug', page);
  const [proxy = ''] = /ztunnel-\S+?\.istio-system/.exec(rows[0]!) ?? [];
  const dump = JSON.parse(await debug(`config_dump?proxyID=${proxy}`)) as {
    configs: { workload?: { name: string } }[];
  };
  assert.ok(dump.configs.some(({ workload }) => workload?.name === proxy.split('.')[0]));
  assert.match(await debug('config_dump?proxyID=nobody'), /^Proxy not connected to this Pilot instance/);
  const list = JSON.parse(await debug('list')) as string[];
  assert.ok(list.includes('krtz') && !list.includes('edsz'), String(list));
  await assert.rejects(debug('edsz'), /there is no debug page edsz: it is about what Envoy proxies/);
});

test('version: command, control plane and node proxies', async () => {
  const text = await printed('version');
  assert.match(
    text,
    /^client version: (\S+)\ncontrol plane version: \1 \(1 pod\)\ndata plane version: \1 \(2 proxies\)\n$/,
  );
  const json = JSON.parse(await printed('version', '-o', 'json')) as { dataPlaneVersion: { node: string }[] };
  assert.deepEqual(json.dataPlaneVersion.map(({ node }) => node).sort(), ['n1', 'n2']);
});

test('proxy-status: both proxies have what the control plane sent', async () => {
  await until(async () => {
    const rows = (await printed('proxy-status')).trim().split('\n').slice(1);
    return (
      rows.length === 2 &&
      rows.every((row) => /^ztunnel-\S+\.istio-system .*istiod-.* 2 \(WADS,WDS\)$/.test(row))
    );
  }, 'both proxies to be in step');
  const { code, err } = await culvert('proxy-status', 'ztunnel-nobody');
  assert.equal(code, 1);
  assert.match(err, /ztunnel-nobody is no ztunnel/);
});

test('ztunnel-config: every view as table and as JSON, of one proxy and of all', async () => {
  assert.match(
    await printed('ztunnel-config', 'workloads'),
    /\nshop +web-\S+ +10\.244\.1\.\d+(?:,fd00:\S+)? +n1 +None +HBONE\n/,
  );
  assert.match(
    await printed('zc', 'services', '--service-namespace', 'shop'),
    /\nshop +ledger +10\.96\.\S+ +None +1\/1\n/,
  );
  const certificates = await printed('zc', 'certificates');
  for (const account of ['web', 'cart'])
    assert.match(certificates, new RegExp(`/ns/shop/sa/${account} +Leaf +Available +true +[0-9a-f]+ `));
  // n1 has no workload of the cart's account.
  assert.doesNotMatch(await printed('zc', 'certificates', '--node', 'n1'), /sa\/cart /);
  const workloads = JSON.parse(await printed('zc', 'w', '-o', 'json', '--workload-node', 'n2')) as {
    node: string;
  }[];
  assert.deepEqual([...new Set(workloads.map(({ node }) => node))], ['n2']);
  assert.match(await printed('zc', 'all', '--node', 'n2'), /\nNAMESPACE +POLICY NAME +ACTION +SCOPE\n/);
  assert.match(await printed('zc', 'connections', '--raw'), /^WORKLOAD +DIRECTION/);
});

test('ztunnel-config log: one proxy is changed, the other is not, and all go back', async () => {
  const levels = async (): Promise<string[]> =>
    [...(await printed('zc', 'log')).matchAll(/current log level is (\w+)/g)].map(
      (match) => match[1] as string,
    );
  assert.deepEqual(await levels(), ['info', 'info']);
  await printed('zc', 'log', '--level', 'debug', '--node', 'n1');
  assert.deepEqual((await levels()).sort(), ['debug', 'info']);
  await printed('zc', 'log', '--reset');
  assert.deepEqual(await levels(), ['info', 'info']);
});

test('logs: all nodes in one, filtered, as lines and as JSON; followed until Ctrl-C', async () => {
  await until(
    async () => /allowed web → catalog:8080 mTLS/.test(await printed('logs', '--from', 'shop/web')),
    'a line',
  );
  await until(async () => /web → cart:8080/.test(await printed('logs', '--to', 'cart')), 'an order');
  const records = (await printed('logs', '--to', 'cart', '-o', 'json'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, string>);
  assert.ok(records.length > 0);
  for (const record of records) assert.match(record['dst.workload'] ?? '', /^cart-/);
  assert.deepEqual(
    records.map(({ time }) => time),
    records.map(({ time }) => time).sort(),
  );
  assert.equal(await printed('logs', '--denied', '--pod', 'catalog'), '');

  const follow = spawn(`${projectDir}/bin/culvert`, ['logs', '-f', '--to', 'catalog'], {
    env: { ...process.env, KUBECONFIG: mesh.kubeconfigPath },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  follow.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await until(() => text.split('\n').length > 3, 'lines as they come');
  follow.kill('SIGINT');
  await until(() => follow.exitCode !== null, 'the end after Ctrl-C');
  assert.equal(follow.exitCode, 0);
  const shown = text.trim().split('\n');
  assert.equal(new Set(shown).size, shown.length, 'nothing twice');
  // Not a terminal: no colour.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: exactly this must not appear
  assert.doesNotMatch(text, /\u001b/);
});

test('unenrol and enrol: a pod of its namespace, then the namespace, no pod restarted', async () => {
  const restarts = async (): Promise<string> =>
    (await mesh.client.list(PODS, { namespace: 'shop' })).items
      .map(({ metadata, status }) => `${metadata.uid} ${status?.containerStatuses?.[0]?.restartCount}`)
      .sort()
      .join('\n');
  const before = await restarts();
  const { items } = await mesh.client.list(PODS, { namespace: 'shop', labelSelector: 'app=catalog' });
  const catalog = items[0]?.metadata.name as string;
  assert.match(
    await printed('unenrol', '--dry-run', 'shop'),
    new RegExp(`${catalog}: would be not in the mesh`),
  );
  assert.match(
    await printed('unenrol', `pod/${catalog}`, '-n', 'shop'),
    /is not in the mesh: its own label says none/,
  );
  await until(
    async () => /web → catalog:8080 plain/.test(await printed('logs', '--to', 'catalog', '--since', '5s')),
    'plain TCP to the pod that left',
  );
  assert.match(
    await printed('enrol', `pod/${catalog}`, '-n', 'shop'),
    new RegExp(`${catalog}: is in the mesh`),
  );
  const out = await printed('unenrol', 'shop');
  assert.match(out, /cart-\S+: is not in the mesh: neither it nor its namespace has the label/);
  assert.match(out, new RegExp(`${catalog}: is in the mesh`), 'its own label still says so');
  assert.match(await printed('enrol', 'shop'), /cart-\S+: is in the mesh/);
  assert.equal(await restarts(), before);
});

test('install --dry-run prints what a cluster takes; installing again changes nothing', async () => {
  const manifests = await printed('install', '--dry-run');
  const applied = await feedKubectl(
    ['apply', '--server-side', '--dry-run=server', '--field-manager=culvert-install', '-f', '-'],
    manifests,
  );
  assert.match(applied, /daemonset\.apps\/ztunnel/);
  const image = await printed(
    'install',
    '--dry-run',
    '--set',
    'hub=registry.example',
    '--set',
    'tag=1.2',
    '-o',
    'json',
  );
  const images = [...image.matchAll(/"image": "([^"]*)"/g)].map((match) => match[1]);
  assert.deepEqual(new Set(images), new Set(['registry.example/culvert:1.2']));
  const versions = async (): Promise<string> =>
    (await mesh.client.list(DAEMON_SETS, { namespace: 'istio-system' })).items
      .map(({ metadata }) => `${metadata.name} ${metadata.generation}`)
      .join();
  const first = await versions();
  await printed('install');
  assert.equal(await versions(), first);
});

function feedKubectl(args: string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      'kubectl',
      args,
      { env: { ...process.env, KUBECONFIG: mesh.kubeconfigPath }, timeout: 60_000 },
      (error, stdout, stderr) => (error === null ? resolve(stdout) : reject(new Error(stderr))),
    );
    child.stdin?.end(input);
  });
}

test('capture: the pod speaks plain, the wire carries TLS', async () => {
  const stateDir = dirname(mesh.kubeconfigPath);
  const out = await printed(
    'capture',
    'web',
    '-n',
    'shop',
    '-c',
    '60',
    '--duration',
    '20s',
    '--state-dir',
    stateDir,
  );
  const [pod, wire] = ['pod ', 'wire'].map((place) =>
    out.split('\n').filter((line) => line.slice(13, 17) === place),
  );
  assert.ok(
    pod?.some((line) => /:8080 .*GET \/ HTTP\/1\.1/.test(line)),
    out,
  );
  assert.ok(
    wire?.some((line) => /:15008 .*TLS application data/.test(line)),
    out,
  );
  assert.deepEqual(
    wire?.filter((line) => /HTTP\/1\.1/.test(line)),
    [],
    'nothing readable between the nodes',
  );
  const { code, err } = await culvert('capture', 'wep', '-n', 'shop', '--state-dir', stateDir);
  assert.equal(code, 1);
  assert.match(err, /no pod wep in namespace shop; did you mean web\?/);
});

test('support-bundle: objects, logs, configuration and rules, and no key, token or Secret', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-bundle-'));
  try {
    // Somebody wrote a token where it does not belong.
    await mesh.kubectl(
      'annotate',
      'namespace',
      'shop',
      'example.org/note=eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl',
    );
    const file = join(folder, 'bundle.tar.gz');
    const told = await culvert('support-bundle', '--file', file, '--state-dir', dirname(mesh.kubeconfigPath));
    assert.equal(told.code, 0, told.err);
    assert.doesNotMatch(told.err, /missing/);
    await run('tar', ['-xzf', file, '-C', folder]);
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
    for (const expected of [
      /objects\/pods\.json$/,
      /logs\/ztunnel-\w+\/istio-proxy\.log$/,
      /ztunnel\/ztunnel-\w+\/config_dump\.json$/,
      /istiod\/istiod-\S+\/syncz\.json$/,
      /rules\/n1\.nft$/,
      /rules\/shop\/web-\S+\.nft$/,
    ])
      assert.ok(
        files.some((name) => expected.test(name)),
        `${expected}: ${files.join(' ')}`,
      );
    const text = files
      .filter((name) => /\.(json|log|nft|txt)$/.test(name))
      .map((name) => readFileSync(join(folder, name), 'utf8'))
      .join('\n');
    assert.match(text, /istio-ambient-nat/, "the pods' rules are there");
    const secret = await mesh.client.get(SECRETS, 'istio-ca-secret', 'istio-system');
    let keys = 0;
    for (const value of Object.values(secret.data ?? {})) {
      const plain = Buffer.from(value, 'base64').toString('utf8');
      if (!plain.includes('PRIVATE KEY')) continue;
      keys += 1;
      // Some line of the key that is no header.
      const line = plain.split('\n').find((part) => part.length > 40 && !part.startsWith('-----')) as string;
      assert.ok(!text.includes(line) && !text.includes(value.slice(60, 120)));
    }
    assert.ok(keys > 0, 'there was a key to look for');
    assert.doesNotMatch(text, /PRIVATE KEY|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\./);
    assert.doesNotMatch(text, /"kind": "Secret"/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('what is wrong is one sentence, with what was meant, and the exit code says whose fault it is', async () => {
  const cases: readonly [string[], number, RegExp][] = [
    [['enrol', 'kube-system'], 1, /never enrolled/],
    [['enrol', 'nowhere'], 1, /"nowhere" not found/],
    [['ztunnel-config', 'workload', '--node', 'n9'], 1, /no ztunnel runs on node n9/],
    [['ztunnel-config', 'worklods'], 2, /Did you mean workloads\?/],
    [['install', '--image', 'x/y:1'], 1, /embedded cluster runs the programs of this machine/],
    [['version', '--context', 'nowhere'], 1, /no context nowhere/],
    [['logs', '--since', 'yesterday'], 2, /no duration/],
    [['zc', 'log', '--level', 'loud'], 1, /no level/],
  ];
  for (const [args, code, pattern] of cases) {
    const ended = await culvert(...args);
    assert.equal(ended.code, code, args.join(' '));
    assert.match(ended.err, pattern);
    assert.doesNotMatch(ended.err, /\n\s+at /, 'a sentence, not a stack trace');
  }
});
