// Writes per second of the embedded API server, over its HTTPS interface: `npm run bench -- apiserver`. The server runs
// in a process of its own, as in a cluster; what it costs in CPU and memory is read from there.

import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApiServer } from '#local/apiserver/server.ts';
import { silentLogger } from '#telemetry/log.ts';

const CONNECTIONS = Number(process.env.BENCH_CONNECTIONS ?? '8');
const SECONDS = Number(process.env.BENCH_SECONDS ?? '4');
const PODS = 200;

interface Ready {
  readonly port: number;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

interface Usage {
  readonly cpuSeconds: number;
  readonly rssMiB: number;
}

async function serve(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'culvert-bench-'));
  const server = await createApiServer({ log: silentLogger }, { stateDir: folder });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send!({ cpuSeconds: (user + system) / 1e6, rssMiB: process.memoryUsage.rss() / 1048576 });
  });
  process.on('disconnect', () => {
    rmSync(folder, { recursive: true, force: true });
    process.exit();
  });
  process.send!({ port, ca: server.caPem, cert: server.adminCertPem, key: server.adminKeyPem });
}

async function measure(): Promise<void> {
  const child = fork(import.meta.filename);
  const told = <T>(): Promise<T> =>
    new Promise((resolve) => child.once('message', (message) => resolve(message as T)));
  const usage = (): Promise<Usage> => {
    const answer = told<Usage>();
    child.send('usage');
    return answer;
  };
  try {
    const ready = await told<Ready>();
    const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS, ...ready });
    const call = (method: string, path: string, type: string, body: unknown): Promise<string> =>
      callServer(agent, ready.port, method, path, type, body);
    const pods = '/api/v1/namespaces/default/pods';
    for (let index = 0; index < PODS; index++) await call('POST', pods, 'application/json', pod(`p${index}`));
    const rows: [name: string, work: (index: number) => Promise<unknown>][] = [
      ['create a pod', (index) => call('POST', pods, 'application/json', pod(`new${index}`))],
      [
        'patch status (strategic), as a kubelet does',
        (index) =>
          call('PATCH', `${pods}/p${index % PODS}/status`, 'application/strategic-merge-patch+json', {
            status: {
              conditions: [
                { type: 'Ready', status: index % 2 === 0 ? 'True' : 'False', message: `m${index}` },
              ],
            },
          }),
      ],
      [
        'patch a label (merge)',
        (index) =>
          call('PATCH', `${pods}/p${index % PODS}`, 'application/merge-patch+json', {
            metadata: { labels: { turn: `t${index}` } },
          }),
      ],
      [
        'apply a config map (server-side)',
        (index) =>
          call(
            'PATCH',
            `/api/v1/namespaces/default/configmaps/c${index % PODS}?fieldManager=bench&force=true`,
            'application/apply-patch+yaml',
            {
              apiVersion: 'v1',
              kind: 'ConfigMap',
              metadata: { name: `c${index % PODS}` },
              data: { turn: `${index}`, same: 'x' },
            },
          ),
      ],
    ];
    for (const [name, work] of rows) {
      const before = await usage();
      const figures = await load(work);
      const after = await usage();
      const cpuUs = ((after.cpuSeconds - before.cpuSeconds) * 1e6) / figures.count;
      console.log(
        `${name.padEnd(44)} ${Math.round(figures.count / figures.seconds)
          .toString()
          .padStart(
            6,
          )}/s  p50 ${figures.p50Ms.toFixed(2)} ms  p99 ${figures.p99Ms.toFixed(2)} ms  ${Math.round(cpuUs)} µs CPU each  ${Math.round(after.rssMiB)} MiB`,
      );
    }
    agent.destroy();
  } finally {
    child.disconnect();
  }
}

async function load(
  work: (index: number) => Promise<unknown>,
): Promise<{ count: number; seconds: number; p50Ms: number; p99Ms: number }> {
  const times: number[] = [];
  const begin = performance.now();
  const end = begin + SECONDS * 1000;
  let index = 0;
  const worker = async (): Promise<void> => {
    while (performance.now() < end) {
      const started = performance.now();
      await work(index++);
      times.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, worker));
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0;
  return {
    count: times.length,
    seconds: (performance.now() - begin) / 1000,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
  };
}

function callServer(
  agent: Agent,
  port: number,
  method: string,
  path: string,
  type: string,
  body: unknown,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        agent,
        host: '127.0.0.1',
        port,
        method,
        path,
        headers: { 'content-type': type, 'user-agent': 'bench/1' },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          if ((response.statusCode ?? 500) < 300) resolve(text);
          else reject(new Error(`${method} ${path}: ${text}`));
        });
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(JSON.stringify(body));
  });
}

const pod = (name: string): unknown => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, labels: { app: 'shop', tier: 'front' }, annotations: { note: 'bench' } },
  spec: {
    serviceAccountName: 'default',
    containers: ['web', 'log'].map((container) => ({
      name: container,
      image: 'local/shell',
      env: [
        { name: 'A', value: '1' },
        { name: 'B', value: '2' },
      ],
      ports: [{ containerPort: container === 'web' ? 80 : 81, name: container }],
      readinessProbe: { httpGet: { path: '/', port: 80 } },
      resources: { limits: { cpu: '1' } },
    })),
  },
});

if (process.send === undefined) await measure();
else await serve();
