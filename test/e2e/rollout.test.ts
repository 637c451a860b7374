// Under load, and no request fails: a Deployment is rolled over, the mesh's root is replaced by another, and that one by a
// company's authority.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Mesh, projectDir, startMesh, until } from './harness.ts';
import { newCompanyAuthority, plugIn, revocationLists } from './lib/plugged-in.ts';
import type { LoadResult } from './lib/request-load.ts';
import {
  authorityReport,
  LONG_LIVED,
  onCluster,
  rotateRoot,
  SHORT_LIVED,
  setProxyEnv,
  takeOver,
} from './lib/rotate-root.ts';
import { sharedMesh } from './lib/shared-mesh.ts';

const REQUESTS_PER_SECOND = 200;
const CLIENT_SLEEP = '86397';

let load: ChildProcess | undefined;
after(() => void load?.kill('SIGKILL'));
const theMesh = sharedMesh(() => startMesh({ sample: false }));

/**
 * Answers with its pod's name. At SIGTERM it goes on until nobody asks any more, as everything must that is rolled over: the
 * kernel resets what waits in the queue of a listener that closes, and nobody can know then whether a request had been read.
 * How long a busy machine takes to tell everybody is not for it to guess.
 */
const SERVER = `
let lastAskedMs = 0;
const server = require('node:http').createServer((request, response) => {
  if (request.url === '/') lastAskedMs = performance.now();
  response.end(process.env.HOSTNAME);
});
server.listen(8080);
process.on('SIGTERM', () => {
  lastAskedMs = performance.now();
  const timer = setInterval(() => {
    if (performance.now() - lastAskedMs < 2000) return;
    clearInterval(timer);
    server.close(() => process.exit(0));
  }, 50);
});
`;

const manifest = `
apiVersion: v1
kind: Namespace
metadata: { name: roll, labels: { istio.io/dataplane-mode: ambient } }
---
apiVersion: v1
kind: Service
metadata: { name: server, namespace: roll }
spec:
  selector: { app: server }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: server, namespace: roll }
spec:
  replicas: 3
  selector: { matchLabels: { app: server } }
  template:
    metadata: { labels: { app: server } }
    spec:
      nodeSelector: { kubernetes.io/hostname: n2 }
      terminationGracePeriodSeconds: 60
      containers:
        - name: server
          image: local/shell
          command: [${JSON.stringify(process.execPath)}, -e, ${JSON.stringify(SERVER)}]
          ports: [{ containerPort: 8080 }]
          readinessProbe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1 }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: client, namespace: roll }
spec:
  selector: { matchLabels: { app: client } }
  template:
    metadata: { labels: { app: client } }
    spec:
      nodeSelector: { kubernetes.io/hostname: n1 }
      terminationGracePeriodSeconds: 1
      containers:
        - { name: client, image: local/shell, command: [sleep, "${CLIENT_SLEEP}"] }
`;

/** Load out of the client's namespace; `end` says what became of it. */
async function startLoad(
  mesh: Mesh,
  url: string,
  perSecond = REQUESTS_PER_SECOND,
): Promise<{ end(): Promise<LoadResult> }> {
  const client = mesh.processes().find(({ commandLine }) => commandLine.startsWith(`sleep ${CLIENT_SLEEP}`));
  assert.ok(client, 'the client pod runs');
  const program = join(projectDir, 'test/e2e/lib/request-load.ts');
  const running = spawn(
    'nsenter',
    ['-t', String(client.pid), '-n', process.execPath, program, url, String(perSecond)],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  load = running;
  let printed = '';
  running.stdout.setEncoding('utf8');
  running.stdout.on('data', (text: string) => {
    printed += text;
  });
  await until(() => printed.includes('started'), 'the load to start');
  return {
    end: async () => {
      running.stdin.end();
      await until(() => running.exitCode !== null, 'the last answers');
      return JSON.parse(printed.split('\n')[1] ?? '') as LoadResult;
    },
  };
}

const serverUrl = async (mesh: Mesh): Promise<string> =>
  `http://${await mesh.kubectl(
    ...['get', 'service', 'server', '-n', 'roll', '-o', 'jsonpath={.spec.clusterIP}'],
  )}/`;

const proxyLogs = (mesh: Mesh): Promise<string> =>
  mesh.kubectl('logs', '-n', 'istio-system', '-l', 'app=ztunnel', '--tail=-1');

/** Or what the node proxies said. */
async function noneFailed(mesh: Mesh, { failed }: LoadResult): Promise<void> {
  const said = (await proxyLogs(mesh)).split('\n');
  const complaints = said.filter((line) => line.includes('error=') && line.includes('roll'));
  assert.deepEqual(failed, {}, complaints.slice(0, 20).join('\n'));
}

test('a roll-out under 200 requests a second: every pod is another one, no request failed', async () => {
  const mesh = theMesh();
  await mesh.apply(manifest);
  for (const name of ['server', 'client'])
    await mesh.kubectl('rollout', 'status', `deployment/${name}`, '-n', 'roll', '--timeout=60s');
  const podNames = async (): Promise<string[]> =>
    (
      await mesh.kubectl(
        'get',
        'pods',
        '-n',
        'roll',
        '-l',
        'app=server',
        '-o',
        'jsonpath={.items[*].metadata.name}',
      )
    ).split(' ');
  const before = await podNames();

  const traffic = await startLoad(mesh, await serverUrl(mesh));
  await mesh.kubectl('rollout', 'restart', 'deployment/server', '-n', 'roll');
  await mesh.kubectl('rollout', 'status', 'deployment/server', '-n', 'roll', '--timeout=120s');
  let now: string[] = [];
  await until(async () => {
    now = await podNames();
    return now.length === 3 && !now.some((name) => before.includes(name));
  }, 'the last of the old pods to go').catch(async (error: Error) => {
    throw new Error(
      `${error.message}\n${await mesh.kubectl('get', 'pods', '-n', 'roll', '-o', 'wide')}${await mesh.kubectl('get', 'events', '-n', 'roll')}`,
    );
  });
  const result = await traffic.end();
  await noneFailed(mesh, result);
  const { answered, servers } = result;
  assert.ok(answered >= 2 * REQUESTS_PER_SECOND, `only ${answered} requests`);
  // Everyone served: the old ones until they went, the new ones as soon as they came.
  assert.deepEqual([...servers].sort(), [...before, ...now].sort());
});

test('a rotation of the root under load, every request with a handshake of its own: none failed', async (context) => {
  const mesh = theMesh();
  await setProxyEnv(mesh, ...SHORT_LIVED, 'POOL_MAX_STREAMS_PER_CONNECTION=1');
  const traffic = await startLoad(mesh, await serverUrl(mesh), 20);
  await rotateRoot(mesh, (text) => context.diagnostic(text));
  // The old root is gone; proxies that still trusted it learn so with their next certificate.
  const isHealthy = async (): Promise<boolean> => (await authorityReport(mesh)).findings.length === 0;
  await until(isHealthy, 'nothing to be said of the authority');
  const result = await traffic.end();
  await noneFailed(mesh, result);
  assert.ok(result.answered >= 100, `only ${result.answered} requests`);
});

test("a company's intermediate takes over from the self-signed root under load; what it revokes is refused, with the reason", async () => {
  const mesh = theMesh();
  const url = await serverUrl(mesh);
  const company = await newCompanyAuthority();
  const traffic = await startLoad(mesh, url, 20);
  await takeOver(mesh, company);
  const result = await traffic.end();
  await noneFailed(mesh, result);
  assert.ok(result.answered >= 100, `only ${result.answered} requests`);

  await setProxyEnv(mesh, ...LONG_LIVED);
  const certificates = JSON.parse(
    await onCluster(mesh, 'ztunnel-config', 'certificates', '-o', 'json', '--node', 'n1'),
  ) as { identity: string; certChain: { serialNumber: string }[] }[];
  const client = certificates.find(({ identity }) => identity.endsWith('/ns/roll/sa/default'));
  assert.equal(client?.certChain.length, 3, 'leaf and two intermediates');
  const serial = BigInt(client?.certChain[0]?.serialNumber ?? '0').toString(16);
  await plugIn(mesh, { 'ca-crl.pem': await revocationLists(company, [serial]) });
  await until(async () => {
    const refusals = await startLoad(mesh, url, 5);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const { answered: got, failed: lost } = await refusals.end();
    return got === 0 && Object.keys(lost).length > 0;
  }, 'every request of the revoked client to be refused');
  assert.match(
    await proxyLogs(mesh),
    new RegExp(
      `connection failed.*serial ${serial}, URI:spiffe://cluster\\.local/ns/roll/sa/default.*CERTIFICATE_REVOKED`,
    ),
  );
});
