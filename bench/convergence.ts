// `npm run bench -- convergence`: from a write that the API server has acknowledged to the last node proxy's ACK.
// Methods and environment stand in bench/README.md.

import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import type { KubeClient } from '#k8s/client.ts';
import { kubeconfigEndpoint } from '#k8s/kubeconfig.ts';
import { CONFIG_MAPS } from '#k8s/objects.ts';
import { createRestClient } from '#k8s/rest-client.ts';
import { Cluster, inParallel, policyName, workloadName } from './convergence/cluster.ts';
import { type ControlProcess, runningControl, startControl } from './convergence/control-process.ts';
import { type FromClients, nowMs, type ToClients, type Totals } from './convergence/messages.ts';
import { type Outcome, render } from './convergence/report.ts';

const { env } = process;
const EVENTS = Number(env.BENCH_EVENTS ?? '40');
const ROLL_OUT = 100;
/** Between two events: they shall not be taken for one. */
const REST_MS = 150;
const LIMIT_MS = 120_000;
const SIZES = (env.BENCH_SIZES ?? '1000x10 1000x100 10000x10').split(' ').map((size) => {
  const [workloads = 0, clients = 0] = size.split('x').map(Number);
  return { workloads, clients };
});
const say = (text: string): void => console.error(`bench: ${text}`);
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The process of the clients, asked and listened to. */
class Proxies {
  readonly #child: ChildProcess = fork(join(import.meta.dirname, 'convergence/clients.ts'));
  readonly #seen = new Map<string, number>();
  #next: {
    readonly wanted: (message: FromClients) => boolean;
    readonly resolve: (message: FromClients) => void;
  }[] = [];
  #watches = 0;

  constructor() {
    this.#child.on('message', (message: FromClients) => {
      if (message.kind === 'seen' && message.id === this.#watches) this.#seen.set(message.name, message.atMs);
      const waiting = this.#next;
      this.#next = [];
      for (const entry of waiting) {
        if (entry.wanted(message)) entry.resolve(message);
        else this.#next.push(entry);
      }
    });
  }

  send(message: ToClients): void {
    this.#child.send(message);
  }

  wait<K extends FromClients['kind']>(kind: K): Promise<Extract<FromClients, { kind: K }>> {
    return this.#when((message) => message.kind === kind) as Promise<Extract<FromClients, { kind: K }>>;
  }

  async totals(): Promise<Totals> {
    const answer = this.wait('totals');
    this.send({ kind: 'totals' });
    return answer;
  }

  async watch(sets: readonly string[], removals: readonly string[] = []): Promise<void> {
    this.#seen.clear();
    const watching = this.wait('watching');
    this.send({ kind: 'watch', id: ++this.#watches, sets, removals });
    await watching;
  }

  /** When the last client acknowledged it. */
  async seen(key: string): Promise<number> {
    for (;;) {
      const at = this.#seen.get(key);
      if (at !== undefined) return at;
      await this.#when((message) => message.kind === 'seen');
    }
  }

  stop(): void {
    this.#child.disconnect();
  }

  #when(wanted: (message: FromClients) => boolean): Promise<FromClients> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error('the clients have not been told within two minutes')),
        LIMIT_MS,
      );
      this.#next.push({
        wanted,
        resolve: (message) => {
          clearTimeout(timer);
          resolve(message);
        },
      });
    });
  }
}

interface Rig {
  readonly cluster: Cluster;
  readonly proxies: Proxies;
  readonly control: ControlProcess;
}

async function measureSize(rig: Rig, client: KubeClient, size: (typeof SIZES)[number]): Promise<Outcome> {
  const { cluster, proxies, control } = rig;
  const tokens = await cluster.tokens(size.clients);
  const rootPem = await rootOf(client);
  const connected = proxies.wait('settled');
  const { host, port } = control;
  const begin = nowMs();
  proxies.send({ kind: 'connect', host, port, serverName: 'istiod.istio-system.svc', rootPem, tokens });
  const firstSettledMs = (await connected).atMs - begin;
  const { held } = await proxies.totals();
  if (held < size.workloads) throw new Error(`a client holds ${held} resources only`);
  const before = { totals: await proxies.totals(), usage: control.usage() };
  const rows = new Map<string, readonly number[]>();

  rows.set('pod up', await repeated(EVENTS, (_turn) => podUp(rig)));
  rows.set('pod down', await repeated(EVENTS, (turn) => podDown(rig, `pod-${turn}`)));
  rows.set('policy change', await repeated(EVENTS, (turn) => policyChange(rig, `account-${turn}`)));
  const rollOut = await rollOutOf(rig, ROLL_OUT, EVENTS);
  rows.set('roll-out of 100, each pod', rollOut.each);
  rows.set('roll-out of 100, the last', [rollOut.last]);

  const after = { totals: await proxies.totals(), usage: control.usage() };
  await rest(1000);
  const memoryMiB = control.usage()?.rssMiB;
  const restarted = control.restart === undefined ? undefined : await restart(rig, control.restart);
  return {
    ...size,
    firstSettledMs,
    rows,
    bytes: after.totals.bytes - before.totals.bytes,
    responses: after.totals.responses - before.totals.responses,
    cpuSeconds:
      after.usage === undefined || before.usage === undefined
        ? undefined
        : after.usage.cpuSeconds - before.usage.cpuSeconds,
    memoryMiB,
    restarted,
  };
}

async function repeated(count: number, event: (turn: number) => Promise<number>): Promise<number[]> {
  const took: number[] = [];
  for (let turn = 0; turn < count; turn++) {
    took.push(await event(turn));
    await rest(REST_MS);
  }
  return took;
}

async function podUp({ cluster, proxies }: Rig): Promise<number> {
  const pod = await cluster.createPod();
  const name = workloadName(pod);
  await proxies.watch([name]);
  await cluster.bringUp(pod);
  const acknowledged = nowMs();
  return (await proxies.seen(`+${name}`)) - acknowledged;
}

async function podDown({ cluster, proxies }: Rig, pod: string): Promise<number> {
  const name = workloadName(pod);
  await proxies.watch([], [name]);
  await cluster.takeDown(pod);
  const acknowledged = nowMs();
  return (await proxies.seen(`-${name}`)) - acknowledged;
}

async function policyChange({ cluster, proxies }: Rig, account: string): Promise<number> {
  await proxies.watch([policyName]);
  await cluster.setPolicy(account);
  const acknowledged = nowMs();
  return (await proxies.seen(`+${policyName}`)) - acknowledged;
}

/** As many new pods come up, and for each an old one goes, as fast as the API server takes it. */
async function rollOutOf(
  { cluster, proxies }: Rig,
  count: number,
  firstOld: number,
): Promise<{ each: number[]; last: number }> {
  const fresh = await Promise.all(Array.from({ length: count }, () => cluster.createPod()));
  const old = Array.from({ length: count }, (_, index) => `pod-${firstOld + index}`);
  await proxies.watch(fresh.map(workloadName), old.map(workloadName));
  const acknowledged = new Map<string, number>();
  await inParallel(count, async (index) => {
    const [up, down] = [fresh[index]!, old[index]!];
    await cluster.bringUp(up);
    acknowledged.set(`+${workloadName(up)}`, nowMs());
    await cluster.takeDown(down);
    acknowledged.set(`-${workloadName(down)}`, nowMs());
  });
  const each: number[] = [];
  let lastSeen = 0;
  for (const [key, at] of acknowledged) {
    const seen = await proxies.seen(key);
    each.push(seen - at);
    lastSeen = Math.max(lastSeen, seen);
  }
  return { each, last: lastSeen - Math.max(...acknowledged.values()) };
}

async function restart(
  { proxies, control }: Rig,
  again: () => Promise<void>,
): Promise<NonNullable<Outcome['restarted']>> {
  const before = await proxies.totals();
  const settled = proxies.wait('settled');
  proxies.send({ kind: 'reconnects' });
  await rest(50);
  const begin = nowMs();
  await again();
  const readyMs = nowMs() - begin;
  const settledMs = (await settled).atMs - begin;
  const after = await proxies.totals();
  return {
    readyMs,
    settledMs,
    bytes: after.bytes - before.bytes,
    resources: after.resources - before.resources,
    cpuSeconds: control.usage()?.cpuSeconds,
  };
}

async function rootOf(client: KubeClient): Promise<string> {
  for (let turn = 0; turn < 300; turn++) {
    const { items } = await client.list(CONFIG_MAPS, {
      namespace: 'istio-system',
      fieldSelector: 'metadata.name=istio-ca-root-cert',
    });
    const pem = items[0]?.data?.['root-cert.pem'];
    if (pem !== undefined) return pem;
    await rest(100);
  }
  throw new Error('there is no ConfigMap istio-ca-root-cert in istio-system');
}

async function withCluster<T>(run: (kubeconfig: string) => Promise<T>): Promise<T> {
  if (env.BENCH_KUBECONFIG !== undefined) return run(env.BENCH_KUBECONFIG);
  const child = fork(join(import.meta.dirname, 'convergence/apiserver.ts'));
  try {
    const { kubeconfig } = await new Promise<{ kubeconfig: string }>((resolve, reject) => {
      child.once('message', (message) => resolve(message as { kubeconfig: string }));
      child.once('exit', (code) => reject(new Error(`the API server ended with ${code}`)));
    });
    return await run(kubeconfig);
  } finally {
    child.disconnect();
  }
}

async function measure(size: (typeof SIZES)[number], peer: string | undefined): Promise<Outcome> {
  return withCluster(async (kubeconfig) => {
    const client = createRestClient({
      ...kubeconfigEndpoint(readFileSync(kubeconfig, 'utf8')),
      userAgent: 'bench',
    });
    const cluster = new Cluster(client);
    await cluster.prepare();
    await cluster.fill(size.workloads);
    say(`${size.workloads} workloads stand`);
    const pid = env.BENCH_XDS_PID === undefined ? undefined : Number(env.BENCH_XDS_PID);
    const control =
      env.BENCH_XDS === undefined ? await startControl(kubeconfig, peer) : runningControl(env.BENCH_XDS, pid);
    const proxies = new Proxies();
    try {
      return await measureSize({ cluster, proxies, control }, client, size);
    } finally {
      proxies.stop();
      control.stop();
      client.close();
    }
  });
}

const pages: string[] = [];
for (const peer of env.PEER_CONTROL === undefined ? [undefined] : [undefined, env.PEER_CONTROL]) {
  const outcomes: Outcome[] = [];
  for (const size of SIZES) {
    say(`${peer === undefined ? 'ours' : 'the peer'}: ${size.workloads} workloads, ${size.clients} clients`);
    outcomes.push(await measure(size, peer));
  }
  pages.push(render(peer === undefined ? (env.BENCH_XDS ?? 'Ours') : 'The peer of PEER_CONTROL', outcomes));
}
const machine = `Linux ${release()}, ${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${EVENTS} events of a kind`;
console.log(`${machine}.\n\n${pages.join('\n')}`);
process.exit(0);
