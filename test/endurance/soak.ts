// `npm run soak [-- --minutes N]`: the mesh under steady mixed traffic (requests, streams, new connections) while pods come and
// go, policies change and certificates are rotated; an hour unless told otherwise. Memory, descriptors, listeners and timers of
// every program must be flat, and no request may fail. Exit status 0 says that they were.

import { parseArgs } from 'node:util';
import { PODS } from '#k8s/objects.ts';
import { until } from '../e2e/harness.ts';
import { fit, isFlat, type Limit, type Point } from './fit.ts';
import { type Sample, sampleProcess, sampleResources } from './process-sample.ts';
import { NAMESPACE, pause, podManifest, type Rig, startRig } from './rig.ts';

const SAMPLE_EVERY_MS = 2000;
/** Half of it is when a certificate is replaced. */
const CERTIFICATE_LIFE = '60s';

/** Over the measured time. Memory is given back by collections only now and then; the rest is counted. */
const LIMITS: Readonly<Record<string, Limit>> = {
  privateKiB: { amount: 4096, share: 0.1 },
  pssKiB: { amount: 4096, share: 0.1 },
  // A pod that comes and goes has eight; one that stayed each time would be hundreds.
  descriptors: { amount: 10, share: 0.02 },
  sockets: { amount: 10, share: 0.02 },
  threads: { amount: 1, share: 0 },
  listeners: { amount: 6, share: 0.02 },
  timers: { amount: 8, share: 0.05 },
};

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error(`soak: --minutes is ${JSON.stringify(values.minutes)}, expected a number above 0`);
  process.exit(2);
}
if (process.getuid?.() !== 0) {
  console.error('soak: run it as root: it looks into the network namespaces of the proxies');
  process.exit(2);
}

const say = (text: string): void => console.log(`soak: ${text}`);

interface Program {
  readonly name: string;
  readonly pid: number;
  readonly hasAdmin: boolean;
  readonly samples: Map<string, Point[]>;
}

function programsOf({ mesh }: Rig): Program[] {
  const program = (name: string, node?: string): Program => ({
    name: node === undefined ? name : `${name} ${node}`,
    pid: mesh.pidOf(name, node),
    hasAdmin: name === 'ztunnel',
    samples: new Map(),
  });
  return [
    program('ztunnel', 'n1'),
    program('ztunnel', 'n2'),
    program('control'),
    program('cni', 'n1'),
    program('cni', 'n2'),
  ];
}

async function take({ name, pid, hasAdmin, samples }: Program): Promise<void> {
  let sample: Sample;
  try {
    sample = { ...sampleProcess(pid), ...(hasAdmin ? await sampleResources(pid) : {}) };
  } catch (cause) {
    throw new Error(`${name} (process ${pid}) cannot be measured any more`, { cause });
  }
  const atMs = performance.now();
  for (const [name, value] of Object.entries(sample)) {
    const points = samples.get(name) ?? [];
    points.push({ atMs, value });
    samples.set(name, points);
  }
}

/** Does `work` over and over until `isOver`; returns how often. */
async function repeat(
  isOver: () => boolean,
  everyMs: number,
  work: (round: number) => Promise<void>,
): Promise<number> {
  let rounds = 0;
  while (!isOver()) {
    await work(++rounds);
    await pause(everyMs);
  }
  return rounds;
}

async function podComesAndGoes({ mesh }: Rig, round: number): Promise<void> {
  const name = `guest-${round}`;
  await mesh.apply(podManifest(name, round % 2 === 0 ? 'n1' : 'n2', ['sleep', '86400']));
  await until(
    async () => (await mesh.client.get(PODS, name, NAMESPACE)).status?.phase === 'Running',
    `${name} to run`,
  );
  await mesh.client.delete(PODS, name, { namespace: NAMESPACE, gracePeriodSeconds: 0 });
}

/** One that is asked about every connection and denies none. */
async function policyChanges({ mesh }: Rig, round: number): Promise<void> {
  const rule = `[{from: [{source: {principals: ["cluster.local/ns/nowhere/sa/round-${round}"]}}]}]`;
  await mesh.apply(`
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: changing, namespace: ${NAMESPACE} }
spec: { action: DENY, rules: ${rule} }
`);
}

const CERTIFICATES = /certificate/;

async function soak(rig: Rig): Promise<boolean> {
  const { mesh } = rig;
  say(`certificates for ${CERTIFICATE_LIFE}`);
  await mesh.kubectl(
    'set',
    'env',
    '-n',
    'istio-system',
    'daemonset/ztunnel',
    `SECRET_TTL=${CERTIFICATE_LIFE}`,
  );
  await mesh.kubectl('rollout', 'status', '-n', 'istio-system', 'daemonset/ztunnel', '--timeout=60s');
  let programs: Program[] = [];
  // The ones before are still draining.
  await until(
    () => {
      try {
        programs = programsOf(rig);
        const environments = new Map(mesh.processes().map(({ pid, environment }) => [pid, environment]));
        return programs.every(
          ({ pid, hasAdmin }) => !hasAdmin || environments.get(pid)?.SECRET_TTL === CERTIFICATE_LIFE,
        );
      } catch {
        return false;
      }
    },
    'one ztunnel on each node',
    60_000,
  );
  const client = await rig.client('mixed');
  const endMs = performance.now() + minutes * 60_000;
  const isOver = (): boolean => performance.now() >= endMs;
  say(
    `traffic for ${minutes} minutes; measured every ${SAMPLE_EVERY_MS / 1000} s, judged after the first third`,
  );
  const [samples, pods, policies] = await Promise.all([
    repeat(isOver, SAMPLE_EVERY_MS, async () => {
      for (const program of programs) await take(program);
    }),
    repeat(isOver, 1000, (round) => podComesAndGoes(rig, round)),
    repeat(isOver, 3000, (round) => policyChanges(rig, round)),
  ]);
  const { requests, connects, bytes, failed } = client.last;
  const signed = (await mesh.kubectl('logs', '-n', 'istio-system', 'deployment/istiod', '--tail=100000'))
    .split('\n')
    .filter((line) => CERTIFICATES.test(line)).length;
  say(`${requests} requests, ${connects} new connections, ${bytes >> 20} MiB of streams`);
  say(
    `${pods} pods came and went, ${policies} policy changes, ${signed} certificates signed, ${samples} measurements`,
  );
  const failures = Object.entries(failed);
  if (failures.length > 0) say(`FAILED: ${failures.map(([why, count]) => `${count} × ${why}`).join(', ')}`);
  await client.end();
  return programs.map(verdictOf).every(Boolean) && failures.length === 0;
}

function verdictOf({ name, samples }: Program): boolean {
  let isAllFlat = true;
  for (const [what, points] of samples) {
    const line = fit(points);
    const isWithin = isFlat(line, LIMITS[what]!);
    if (!isWithin) isAllFlat = false;
    const change = `${line.growth >= 0 ? '+' : ''}${line.growth.toFixed(1)}`;
    say(
      `${isWithin ? 'flat ' : 'GROWS'} ${name.padEnd(10)} ${what.padEnd(12)} ${line.mean.toFixed(1)} on average, ${change}`,
    );
  }
  return isAllFlat;
}

/** What the programs and the cluster say of what just went wrong. */
async function tellOfPrograms({ mesh }: Rig): Promise<void> {
  console.error(await mesh.kubectl('get', 'pods', '-A', '-o', 'wide'));
  console.error(await mesh.kubectl('get', 'events', '-n', 'istio-system'));
  for (const program of ['daemonset/ztunnel', 'daemonset/istio-cni-node', 'deployment/istiod'])
    for (const previous of ['--previous=false', '--previous'])
      console.error(
        await mesh
          .kubectl('logs', '-n', 'istio-system', program, previous, '--tail=100', '--prefix')
          .catch((error: Error) => error.message),
      );
}

say('starting the mesh');
const rig = await startRig();
let isFlatAll = false;
try {
  isFlatAll = await soak(rig);
} catch (error) {
  console.error(error);
  await tellOfPrograms(rig);
} finally {
  await rig.stop();
}
say(isFlatAll ? 'everything is flat, and nothing failed' : 'NOT flat, or something failed: see above');
process.exit(isFlatAll ? 0 : 1);
