// The machine of local mode for real: namespaces, pods on both nodes, services and DNS between them, LOCAL killed and healed,
// everything gone at the end.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { errnoOf, MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import {
  CONFIG_MAPS,
  type Container,
  EVENTS,
  type KubeObject,
  NODES,
  PODS,
  type Pod,
  SERVICES,
  type Service,
} from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES } from '#k8s/storage.ts';
import { type Machine, type MachineOptions, startMachine } from '#local/machine/front.ts';
import { freePort } from '../lib/free-port.ts';
import { until } from '../lib/until.ts';
import { childrenOf, localPid } from './lib/machine-processes.ts';
import { machineOptions, startTestMachine, type TestMachine } from './lib/test-machine.ts';

const LIMIT_MS = 30_000;

/** Processes of the machine as the host sees them: those in the pid namespace of its first process. */
function processesIn(pidNamespace: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => linkOf(`/proc/${pid}/ns/pid`) === pidNamespace);
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function pidNamespaceOf(unshare: number): string {
  const [init] = childrenOf(unshare);
  assert.ok(init !== undefined);
  return linkOf(`/proc/${init}/ns/pid`);
}

const mountsOf = (dir: string): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(dir));

function pod(name: string, nodeName: string, container: Omit<Container, 'name'>): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels: { app: name.split('-')[0] as string } },
    spec: {
      nodeName,
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 2,
      containers: [{ name: 'main', ...container }],
    },
  };
}

// Probes hang up without reading: that is no reason to end.
const ECHO = `require('net').createServer((s) => { s.on('error', () => {}); s.end(process.env.NAME + ' ' + s.remoteAddress + '\\n'); }).listen(7000, '0.0.0.0')`;
const echo = (name: string, nodeName: string): Pod =>
  pod(name, nodeName, {
    image: 'local/shell',
    command: [process.execPath, '-e', ECHO],
    env: [{ name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
    ports: [{ containerPort: 7000 }],
    readinessProbe: { tcpSocket: { port: 7000 }, periodSeconds: 1 },
  });

/** Prints what each target says, one line per target. */
const ask = (name: string, nodeName: string, targets: readonly string[]): Pod => {
  const script = `(async () => { for (const t of process.argv.slice(1)) { const [h, p] = t.split(':'); await new Promise((done) => {
    const s = require('net').connect(Number(p), h); let text = ''; s.setTimeout(30000, () => s.destroy(new Error('timeout')));
    s.on('data', (c) => { text += c; }); s.on('error', (e) => { text = e.code ?? e.message; });
    s.on('close', () => { console.log(t + ' -> ' + text.trim()); done(); }); }); } })()`;
  return pod(name, nodeName, { image: 'local/shell', command: [process.execPath, '-e', script, ...targets] });
};

let cluster: TestMachine;
let options: MachineOptions;
let machine: Machine;
let client: KubeClient;

const getPod = (name: string): Promise<Pod> => client.get(PODS, name, 'default');
const podWith = (name: string, condition: (found: Pod) => boolean): Promise<Pod> =>
  until(`pod ${name}`, async () => {
    const found = await getPod(name);
    return condition(found) ? found : undefined;
  });
const isReady = ({ status }: Pod): boolean =>
  status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True') === true;

async function logOf(name: string): Promise<string> {
  let text = '';
  for await (const part of client.stream(`/api/v1/namespaces/default/pods/${name}/log`)) text += part;
  return text;
}

before(async () => {
  cluster = await startTestMachine();
  ({ options, machine } = cluster);
  client = createRestClient(
    kubeconfigEndpoint(cluster.kubeconfig, undefined, {
      path: 'kubeconfig',
      readFile: (path) => readFileSync(path, 'utf8'),
    }),
  );
});

after(async () => {
  client?.close();
  // Perhaps not the one it began with.
  await machine?.stop();
  await cluster?.close();
});

test('both nodes are Ready, each with its address', async () => {
  const { items } = await client.list(NODES);
  const seen = items.map(({ metadata, status }) => [
    metadata.name,
    status?.addresses?.[0]?.address,
    status?.conditions?.find(({ type }) => type === 'Ready')?.status,
  ]);
  assert.deepEqual(seen.sort(), [
    ['n1', '172.31.0.11', 'True'],
    ['n2', '172.31.0.12', 'True'],
  ]);
});

test('pods of both nodes reach each other, a service, and its name; they see the true source address', async () => {
  const service: Service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'echo', namespace: 'default' },
    spec: { selector: { app: 'echo' }, ports: [{ port: 70, targetPort: 7000 }] },
  };
  await client.create(SERVICES, service);
  await Promise.all([echo('echo-1', 'n1'), echo('echo-2', 'n2')].map((one) => client.create(PODS, one)));
  const servers = await Promise.all(['echo-1', 'echo-2'].map((name) => podWith(name, isReady)));
  const [first, second] = servers.map(({ status }) => status?.podIP as string) as [string, string];
  assert.match(first, /^10\.244\.1\.\d+$/);
  assert.match(second, /^10\.244\.2\.\d+$/);

  // The service answers as soon as its endpoints reached the nodes' rules: asked until it does.
  for (const [node, name] of [
    ['n1', 'ask-1'],
    ['n2', 'ask-2'],
  ] as const) {
    await until(`both servers and the service answer on ${node}`, async () => {
      const attempt = `${name}-${Date.now()}`;
      await client.create(
        PODS,
        ask(attempt, node, [
          `${first}:7000`,
          `${second}:7000`,
          'echo:70',
          'echo.default.svc.cluster.local:70',
          'echo:71',
        ]),
      );
      const ended = await podWith(attempt, ({ status }) => status?.phase === 'Succeeded');
      const own = ended.status?.podIP as string;
      const lines = (await logOf(attempt)).trim().split('\n');
      assert.deepEqual(lines.slice(0, 2), [
        `${first}:7000 -> echo-1 ${own}`,
        `${second}:7000 -> echo-2 ${own}`,
      ]);
      assert.equal(lines[4], 'echo:71 -> ECONNREFUSED', 'a port that the service lacks is refused at once');
      const answers = new RegExp(`-> echo-[12] ${own.replaceAll('.', '\\.')}$`);
      return lines.slice(2, 4).every((line) => answers.test(line)) ? true : undefined;
    });
  }
});

test('names as resolvers in a pod find them: search path, SRV, reverse, aliases, headless pods, names that are not', async () => {
  const service = (name: string, spec: Service['spec']): Service => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec,
  });
  const { spec } = await client.create(
    SERVICES,
    service('named', { selector: { app: 'echo' }, ports: [{ name: 'say', port: 70, targetPort: 7000 }] }),
  );
  const address = spec.clusterIP as string;
  await client.create(
    SERVICES,
    service('peers', { clusterIP: 'None', selector: { app: 'echo' }, ports: [{ name: 'say', port: 7000 }] }),
  );
  await client.create(
    SERVICES,
    service('alias', { type: 'ExternalName', externalName: 'named.default.svc.cluster.local' }),
  );
  const podIp = (await getPod('echo-2')).status?.podIP as string;
  // getaddrinfo goes through the search path; the rest asks the server itself.
  const script = `const dns = require('dns').promises; (async () => {
    const one = async (work) => { try { console.log(JSON.stringify(await work())); } catch (e) { console.log(e.code); } };
    await one(async () => (await dns.lookup('named')).address);
    await one(async () => (await dns.lookup('alias.default')).address);
    await one(() => dns.resolveSrv('_say._tcp.named.default.svc.cluster.local'));
    await one(() => dns.reverse('${address}'));
    await one(() => dns.reverse('${podIp}'));
    await one(async () => (await dns.resolve4('peers.default.svc.cluster.local')).includes('${podIp}'));
    await one(() => dns.resolve4('${podIp.replaceAll('.', '-')}.peers.default.svc.cluster.local'));
    await one(() => dns.resolveCname('alias.default.svc.cluster.local'));
    await one(() => dns.resolve6('named.default.svc.cluster.local'));
    await one(async () => (await dns.lookup('nobody')).address);
    await one(async () => (await dns.lookup('example.com')).address);
  })()`;
  const expected = [
    `"${address}"`,
    `"${address}"`,
    '[{"name":"named.default.svc.cluster.local","port":70,"priority":0,"weight":100}]',
    '["named.default.svc.cluster.local"]',
    `["${podIp.replaceAll('.', '-')}.peers.default.svc.cluster.local"]`,
    'true',
    `["${podIp}"]`,
    '["named.default.svc.cluster.local"]',
    'ENODATA',
    'ENOTFOUND',
    'ENOTFOUND',
  ];
  await until('the names of new services', async () => {
    const attempt = `names-${Date.now()}`;
    await client.create(
      PODS,
      pod(attempt, 'n2', { image: 'local/shell', command: [process.execPath, '-e', script] }),
    );
    await podWith(attempt, ({ status }) => status?.phase === 'Succeeded');
    const lines = (await logOf(attempt)).trim().split('\n');
    // SRV carries a field more in some versions of the resolver.
    const seen = lines.map((line) => line.replace(/,"type":"SRV"/, ''));
    return JSON.stringify(seen) === JSON.stringify(expected) ? true : undefined;
  });
});

/** What the host hears on its own 127.0.0.1. */
function askFromHost(port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(LIMIT_MS, () => socket.destroy());
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', (error) => resolve(errnoOf(error) ?? error.message));
    socket.on('close', () => resolve(text.trim()));
  });
}
const answersOnHost = (port: number): Promise<string> =>
  until(`an answer on port ${port} of the host`, async () => {
    const text = await askFromHost(port);
    return /^echo-[12] /.test(text) ? text : undefined;
  });
const outside = (name: string, type: 'NodePort' | 'LoadBalancer', port: number): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'default' },
  spec: { type, selector: { app: 'echo' }, ports: [{ port, targetPort: 7000 }] },
});
const ingressOf = async (name: string): Promise<unknown> =>
  (await client.get(SERVICES, name, 'default')).status?.loadBalancer?.ingress?.[0]?.ip;
let balancedPort = 0;

test('node ports and load balancers answer on the host', async () => {
  const { spec } = await client.create(SERVICES, outside('ported', 'NodePort', 70));
  const nodePort = spec.ports?.[0]?.nodePort ?? 0;
  // The pods see the node through which they are reached.
  assert.match(await answersOnHost(nodePort), /^echo-[12] 172\.31\.0\.11$/);
  balancedPort = await freePort();
  await client.create(SERVICES, outside('balanced', 'LoadBalancer', balancedPort));
  await until('the address of the load balancer', async () =>
    (await ingressOf('balanced')) === '127.0.0.1' ? true : undefined,
  );
  await answersOnHost(balancedPort);
  await client.delete(SERVICES, 'ported', { namespace: 'default' });
  await until('the end of the node port', async () =>
    (await askFromHost(nodePort)) === 'ECONNREFUSED' ? true : undefined,
  );
});

test('a port of the host that another program has is said, and served when it is free', async () => {
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
  const { port } = holder.address() as { port: number };
  try {
    await client.create(SERVICES, outside('taken', 'LoadBalancer', port));
    const message = await until('the event', async () => {
      const { items } = await client.list<KubeObject & { reason?: string; message?: string }>(EVENTS, {
        fieldSelector: 'involvedObject.kind=Service,involvedObject.name=taken',
      });
      return items.find(({ reason }) => reason === 'HostPortUnavailable')?.message;
    });
    assert.ok(message.includes(`ss -ltnp 'sport = :${port}'`), message);
    assert.equal(await ingressOf('taken'), undefined);
  } finally {
    await new Promise<void>((resolve) => holder.close(() => resolve()));
  }
  // Any change of a service is a reason to try again, before the time for that.
  await client.patch(
    SERVICES,
    'taken',
    'merge',
    { metadata: { labels: { a: 'b' } } },
    { namespace: 'default' },
  );
  await answersOnHost(port);
  await client.delete(SERVICES, 'taken', { namespace: 'default' });
});

test('a container that ends is restarted, its logs and exit code are kept', async () => {
  const failing = pod('failing', 'n1', {
    image: 'local/shell',
    args: ['-c', 'echo said; echo more >&2; exit 3'],
  });
  failing.spec.restartPolicy = 'Always';
  await client.create(PODS, failing);
  const seen = await podWith('failing', ({ status }) => status?.containerStatuses?.[0]?.restartCount === 1);
  assert.equal(seen.status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode, 3);
  // The second run may just have begun when its status is seen.
  await until('the output of the second run', async () => {
    const lines = (await logOf('failing')).trim().split('\n').sort();
    return lines.join(' ') === 'more said' ? true : undefined;
  });
});

test('the last words of a container: its file, or the end of its log where that is asked for', async () => {
  const words = async (name: string, script: string, more: Partial<Container> = {}): Promise<unknown> => {
    await client.create(PODS, pod(name, 'n1', { image: 'local/shell', args: ['-c', script], ...more }));
    const { status } = await podWith(name, (each) => /Succeeded|Failed/.test(each.status?.phase ?? ''));
    return status?.containerStatuses?.[0]?.state?.terminated?.message;
  };
  const fallback = { terminationMessagePolicy: 'FallbackToLogsOnError' } as const;
  assert.equal(
    await words('worded', 'printf "no more beans" > /dev/termination-log; exit 1'),
    'no more beans',
  );
  assert.equal(
    await words('elsewhere', 'echo done > /tmp/out/words', { terminationMessagePath: '/tmp/out/words' }),
    'done\n',
  );
  assert.equal(await words('logged', 'echo one; echo two >&2; exit 1', fallback), 'one\ntwo\n');
  assert.equal(await words('content', 'echo fine', fallback), undefined);
  assert.equal(existsSync('/dev/termination-log'), false, 'nothing of it on the host');
});

test('an unknown image is explained', async () => {
  await client.create(PODS, pod('unknown', 'n2', { image: 'nginx:1' }));
  const seen = await podWith(
    'unknown',
    ({ status }) => status?.containerStatuses?.[0]?.state?.waiting?.reason === 'ErrImagePull',
  );
  assert.match(seen.status?.containerStatuses?.[0]?.state?.waiting?.message ?? '', /nginx:1.*local\/shell/);
});

test('a sidecar starts before the others and ends after them; time limits end a pod', async () => {
  const shared = [{ name: 'shared', mountPath: '/run/shared' }];
  const sided = pod('sided', 'n1', {
    image: 'local/shell',
    args: ['-c', 'test -f /run/shared/up && exit 0 || exit 7'],
    volumeMounts: shared,
  });
  sided.spec.volumes = [{ name: 'shared', emptyDir: {} }];
  sided.spec.initContainers = [
    {
      name: 'helper',
      image: 'local/shell',
      restartPolicy: 'Always',
      args: ['-c', 'sleep 0.5; touch /run/shared/up; exec sleep 100000'],
      startupProbe: { exec: { command: ['test', '-f', '/run/shared/up'] }, periodSeconds: 1 },
      volumeMounts: shared,
    },
    { name: 'once', image: 'local/shell', args: ['-c', 'test -f /run/shared/up'], volumeMounts: shared },
  ];
  const late = pod('late', 'n2', { image: 'local/shell', args: ['-c', 'exec sleep 100000'] });
  late.spec.activeDeadlineSeconds = 1;
  await Promise.all([sided, late].map((one) => client.create(PODS, one)));
  const done = await podWith('sided', ({ status }) => status?.phase === 'Succeeded');
  const [helper, once] = done.status?.initContainerStatuses ?? [];
  assert.equal(once?.state?.terminated?.exitCode, 0, 'it ran after the sidecar had started');
  assert.ok(helper?.state?.terminated !== undefined, 'nobody is left to serve');
  const ended = await podWith('late', ({ status }) => status?.phase === 'Failed');
  assert.equal(ended.status?.reason, 'DeadlineExceeded');
});

test('files of a configMap change while the pod runs; a program of the table is an image', async () => {
  const settings = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'settings', namespace: 'default' },
  };
  await client.create(CONFIG_MAPS, { ...settings, data: { colour: 'red' } });
  writeFileSync(
    join(options.stateDir, 'images.yaml'),
    `watcher: sh -c 'while :; do cat /run/settings/colour; echo; sleep 0.2; done'\n`,
  );
  const watching = pod('watching', 'n1', {
    image: 'local/watcher',
    volumeMounts: [{ name: 'settings', mountPath: '/run/settings' }],
  });
  watching.spec.volumes = [{ name: 'settings', configMap: { name: 'settings' } }];
  await client.create(PODS, watching);
  const says = (word: string) =>
    until(`the word ${word}`, async () =>
      (await podWith('watching', ({ status }) => status?.phase === 'Running')) &&
      (await logOf('watching')).includes(word)
        ? true
        : undefined,
    );
  await says('red');
  await client.patch(
    CONFIG_MAPS,
    'settings',
    'merge',
    { data: { colour: 'blue' } },
    { namespace: 'default' },
  );
  await says('blue');
});

/** Appends its name to a file of the claim `diary` and prints the file. */
async function writeDiary(name: string): Promise<string> {
  const { nodeName: _nodeName, ...spec } = pod(name, '', {
    image: 'local/shell',
    args: ['-c', 'echo $HOSTNAME >> /diary/pages; cat /diary/pages'],
    volumeMounts: [{ name: 'diary', mountPath: '/diary' }],
  }).spec;
  const volumes = [{ name: 'diary', persistentVolumeClaim: { claimName: 'diary' } }];
  await client.create(PODS, { ...pod(name, '', { image: '' }), spec: { ...spec, volumes } });
  await podWith(name, ({ status }) => status?.phase === 'Succeeded');
  const text = (await logOf(name)).trim();
  await client.delete(PODS, name, { namespace: 'default' });
  return text.replaceAll('\n', ' ');
}
/** Where the claim's volume is on the host. */
async function diaryOnHost(): Promise<string> {
  const claim = await client.get(PERSISTENT_VOLUME_CLAIMS, 'diary', 'default');
  const { spec } = await client.get(PERSISTENT_VOLUMES, claim.spec.volumeName ?? '');
  const node = spec.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values?.[0] ?? '';
  return join(options.stateDir, 'nodes', node, 'volumes', claim.spec.volumeName ?? '');
}

test('what a pod writes into its claim is there for the next one, on the host below the state', async () => {
  await client.create(PERSISTENT_VOLUME_CLAIMS, {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'diary', namespace: 'default' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Mi' } } },
  });
  assert.equal(await writeDiary('monday'), 'monday');
  assert.equal(await writeDiary('tuesday'), 'monday tuesday');
  assert.equal(readFileSync(join(await diaryOnHost(), 'pages'), 'utf8'), 'monday\ntuesday\n');
});

test('LOCAL is killed: pods keep running, a new LOCAL adopts them', async () => {
  const ticking = pod('ticking', 'n1', {
    image: 'local/shell',
    tty: true,
    args: ['-c', 'i=0; while :; do i=$((i+1)); echo "tick $i on $(tty)"; sleep 0.1; done'],
  });
  await client.create(PODS, ticking);
  const ticks = async (): Promise<number> =>
    Number(/tick (\d+) on \/dev\/pts\/\d+\r?\n[^\n]*$/.exec(await logOf('ticking'))?.[1] ?? 0);
  await podWith('ticking', ({ status }) => status?.phase === 'Running');
  const ticksBefore = await until('ticks on a terminal', async () => (await ticks()) || undefined);
  const before = await getPod('echo-1');
  const { containerID } = before.status?.containerStatuses?.[0] ?? {};
  assert.ok(containerID !== undefined);
  const killed = await until('LOCAL', () => localPid(machine.pid));
  process.kill(killed, 'SIGKILL');
  await until('a new LOCAL', () => {
    const found = localPid(machine.pid);
    return found !== undefined && found !== killed ? found : undefined;
  });
  // The API is back with all it held, and what is deleted now is ended by the new LOCAL: it knows the process.
  const found = await until('the API after the restart', async () => {
    try {
      return await getPod('echo-1');
    } catch (error) {
      if (error instanceof MeshError && error.code === 'API_UNREACHABLE') return undefined;
      throw error;
    }
  });
  await until('the terminal to go on', async () => ((await ticks()) > ticksBefore + 10 ? true : undefined));
  assert.equal((await getPod('ticking')).status?.containerStatuses?.[0]?.restartCount, 0);
  await answersOnHost(balancedPort); // the new LOCAL has the listeners, too
  const status = found.status?.containerStatuses?.[0];
  assert.equal(status?.containerID, containerID);
  assert.equal(status?.restartCount, 0);
  await client.delete(PODS, 'echo-1', { namespace: 'default' });
  await until('the deletion of an adopted pod', async () => {
    try {
      await getPod('echo-1');
      return undefined;
    } catch (error) {
      return error instanceof MeshError && error.details.status === 404 ? true : undefined;
    }
  });
  assert.equal((await getPod('echo-2')).status?.phase, 'Running');
});

test('a second machine on the same port or directory is refused with the way out', async (t) => {
  await assert.rejects(startMachine(options), (error) => {
    assert.ok(error instanceof MeshError);
    return error.code === 'LOCAL_MACHINE_FAILED' && error.message.includes(`process ${process.pid}`);
  });
  const folder = mkdtempSync(join(tmpdir(), 'culvert-machine-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const other = { ...(await machineOptions(folder)), apiPort: options.apiPort as number };
  await assert.rejects(
    startMachine(other),
    (error) =>
      error instanceof MeshError && error.code === 'PORT_IN_USE' && error.message.includes('--api-port'),
  );
});

test('stopping leaves no process and no mount', async () => {
  const namespace = pidNamespaceOf(machine.pid);
  assert.ok(processesIn(namespace).length > 3);
  await machine.stop();
  assert.deepEqual(await machine.exited, { kind: 'stopped' });
  await until('the end of every process', () => (processesIn(namespace).length === 0 ? true : undefined));
  assert.deepEqual(mountsOf(options.runDir), []);
});

test('a killed FRONT leaves nothing, and the state is there at the next start', async () => {
  const front = spawn(
    process.execPath,
    [join(import.meta.dirname, 'lib/machine-front.ts'), JSON.stringify({ ...options, log: undefined })],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  front.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  try {
    await until('readiness', () => (text.includes('ready') ? true : undefined));
  } finally {
    front.kill('SIGKILL');
  }
  const unshare = Number(/^pid (\d+)/.exec(text)?.[1]);
  await until('the end of the machine', () => (linkOf(`/proc/${unshare}/ns/pid`) === '' ? true : undefined));
  assert.deepEqual(mountsOf(options.runDir), []);

  machine = await startMachine(options);
  await machine.ready;
  // One new run per machine; the second machine may have been killed before it noted its own.
  await podWith(
    'echo-2',
    (kept) => isReady(kept) && (kept.status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1,
  );
  assert.equal(await writeDiary('wednesday'), 'monday tuesday wednesday');
  const diary = await diaryOnHost();
  await client.delete(PERSISTENT_VOLUME_CLAIMS, 'diary', { namespace: 'default' });
  await until('the end of the data with its claim', () => (existsSync(diary) ? undefined : true));
});
