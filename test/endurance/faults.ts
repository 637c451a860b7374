// `npm run faults [-- NAME…]`: the mesh under steady traffic while something breaks, and what that cost: requests a second
// before, during and after, failed requests, the time until everything flowed again, descriptors and memory of both proxies.
// The table in docs/RELIABILITY.md is what it prints. Exit status 0: every fault passed and left nothing behind.

import { execFileSync } from 'node:child_process';
import { isAlive, until } from '../e2e/harness.ts';
import { apiServerAway } from './api-away.ts';
import type { Tick } from './load.ts';
import { descriptorsOf, sampleProcess } from './process-sample.ts';
import { type Client, pause, type Rig, startRig } from './rig.ts';

/** What the clients ask for when nothing is broken. */
const REQUESTS_PER_S = 500;
const BEFORE_MS = 6000;
const AFTER_MS = 8000;
/** Of `REQUESTS_PER_S`, for it to count as flowing again. */
const FLOWING = 0.8;
const RECOVERY_LIMIT_MS = 60_000;

interface Fault {
  readonly name: string;
  /** Breaks something, and mends it if it does not mend itself. Resolves when it is mended or mends itself. */
  run(rig: Rig, client: Client): Promise<string | undefined>;
  /** Failures of established connections are part of it. */
  readonly mayFail: boolean;
}

const nodes = ['n1', 'n2'] as const;

function kill(node: 'n1' | 'n2', whose: string): Fault {
  return {
    name: `kill -9 of the ${whose}' ztunnel`,
    mayFail: true,
    async run({ mesh }) {
      const pid = mesh.pidOf('ztunnel', node);
      process.kill(pid, 'SIGKILL');
      await until(() => !isAlive(pid), 'it to die');
      return undefined;
    },
  };
}

/** Tunnels whose PINGs go unanswered for 20 s are given up, with the connections in them. */
function linkDown(seconds: number): Fault {
  return {
    name: `cable of the servers' node pulled for ${seconds} s`,
    mayFail: seconds > 15,
    async run(rig) {
      rig.onMachine('ip', 'link', 'set', 'node2', 'down');
      try {
        await pause(seconds * 1000);
      } finally {
        rig.onMachine('ip', 'link', 'set', 'node2', 'up');
      }
      return undefined;
    },
  };
}

const LOSS_RULES = `table inet faults {
  chain in { type filter hook prerouting priority -400; iifname "eth0" numgen random mod 100 < 5 drop; }
  chain out { type filter hook postrouting priority 400; oifname "eth0" numgen random mod 100 < 5 drop; }
}`;

const loss: Fault = {
  name: '5 % of packets lost each way, 10 s',
  mayFail: false,
  async run({ mesh }) {
    await mesh.inNode('n2', 'sh', '-c', `nft '${LOSS_RULES}'`);
    try {
      await pause(10_000);
    } finally {
      await mesh.inNode('n2', 'nft', 'delete', 'table', 'inet', 'faults');
    }
    return undefined;
  },
};

const slowReader: Fault = {
  name: 'a reader of 1 KB/s beside 200 streams, 10 s',
  mayFail: false,
  async run(rig) {
    const healthy = await rig.client('echo', '200');
    await pause(3000);
    const slow = await rig.client('slow');
    await pause(2000);
    const from = healthy.last;
    await pause(10_000);
    const to = healthy.last;
    const rate = perSecond(from, to);
    const read = slow.last.bytes;
    await Promise.all([slow.end(), healthy.end()]);
    if (Object.keys(to.failed).length > 0) throw new Error(`streams failed: ${JSON.stringify(to.failed)}`);
    if (rate < 0.8 * 1000) throw new Error(`the 200 made ${Math.round(rate)} requests/s of 1,000`);
    return `the 200 make ${Math.round(rate)} of 1,000 requests/s; the slow one read ${Math.round(read / 1024)} KB`;
  },
};

const SPARE_DESCRIPTORS = 60;
const fullTable: Fault = {
  name: 'descriptors used up at the clients’ ztunnel, 10 s',
  mayFail: true,
  async run(rig) {
    const { mesh } = rig;
    const pid = mesh.pidOf('ztunnel', 'n1');
    const limit = descriptorsOf(pid).length + SPARE_DESCRIPTORS;
    const hard = /^Max open files\s+\d+\s+(\d+)/m.exec(
      execFileSync('cat', [`/proc/${pid}/limits`], { encoding: 'utf8' }),
    )?.[1];
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:${hard}`]);
    try {
      const cpuBefore = cpuTicks(pid);
      const hungry = await rig.client('hold', '300');
      await pause(10_000);
      const cpu = (cpuTicks(pid) - cpuBefore) / 10 / 100;
      const held = hungry.last.open;
      const most = descriptorsOf(pid).length;
      await hungry.end();
      return `${held} of 300 more connections opened, ${most} of ${limit} descriptors in use, ${Math.round(100 * cpu)} % of a core`;
    } finally {
      execFileSync('prlimit', ['--pid', String(pid), `--nofile=${hard}:${hard}`]);
    }
  },
};

const apiAway = (seconds: number): Fault => ({
  name: `the API server out of reach of the mesh for ${seconds} s`,
  mayFail: false,
  run: ({ mesh }) => apiServerAway(mesh, seconds),
});

function cpuTicks(pid: number): number {
  const stat = execFileSync('cat', [`/proc/${pid}/stat`], { encoding: 'utf8' });
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'kill-client-side': kill('n1', 'clients'),
  'kill-server-side': kill('n2', 'servers'),
  'link-down': linkDown(5),
  'link-down-long': linkDown(40),
  loss,
  'slow-reader': slowReader,
  descriptors: fullTable,
  'api-away': apiAway(20),
  'api-away-long': apiAway(180),
};

interface Result {
  readonly name: string;
  readonly beforePerS: number;
  readonly duringPerS: number;
  readonly afterPerS: number;
  readonly failed: number;
  readonly recoveryMs: number;
  readonly descriptors: readonly [before: string, after: string];
  readonly memory: readonly [before: string, after: string];
  readonly remark: string;
}

const perSecond = (from: Tick, to: Tick): number =>
  ((to.requests - from.requests) * 1000) / Math.max(1, to.atMs - from.atMs);
const failures = ({ failed }: Tick): number => Object.values(failed).reduce((sum, count) => sum + count, 0);

function proxies({ mesh }: Rig): readonly [descriptors: string, memory: string] {
  const samples = nodes.map((node) => sampleProcess(mesh.pidOf('ztunnel', node)));
  return [
    samples.map(({ descriptors }) => descriptors).join(' + '),
    samples.map(({ privateKiB }) => `${Math.round((privateKiB ?? 0) / 1024)}`).join(' + '),
  ];
}

async function observe(rig: Rig, client: Client, fault: Fault): Promise<Result> {
  const first = client.last;
  await pause(BEFORE_MS);
  const begun = client.last;
  const held = proxies(rig);
  const remark = await fault.run(rig, client);
  const mended = client.last;
  const mendedMs = Date.now();
  // The first tick after which a second went by at full pace and without a failure.
  let flowing: Tick | undefined;
  await until(
    () => {
      const { ticks } = client;
      flowing = ticks.find((tick, at) => {
        const later = ticks[at + 2];
        return (
          tick.atMs >= mendedMs - 500 &&
          later !== undefined &&
          failures(later) === failures(tick) &&
          perSecond(tick, later) >= FLOWING * REQUESTS_PER_S
        );
      });
      return flowing !== undefined;
    },
    'traffic to flow again',
    RECOVERY_LIMIT_MS,
  );
  const again = client.last;
  await pause(AFTER_MS);
  const after = proxies(rig);
  return {
    name: fault.name,
    beforePerS: perSecond(first, begun),
    duringPerS: perSecond(begun, mended === begun ? again : mended),
    afterPerS: perSecond(again, client.last),
    failed: failures(client.last) - failures(begun),
    recoveryMs: Math.max(0, (flowing?.atMs ?? 0) - mendedMs),
    descriptors: [held[0], after[0]],
    memory: [held[1], after[1]],
    remark: remark ?? '',
  };
}

function row({
  name,
  beforePerS,
  duringPerS,
  afterPerS,
  failed,
  recoveryMs,
  descriptors,
  memory,
  remark,
}: Result): string {
  const cells = [
    remark === '' ? name : `${name}: ${remark}`,
    [beforePerS, duringPerS, afterPerS].map((rate) => Math.round(rate)).join(' / '),
    String(failed),
    `${(recoveryMs / 1000).toFixed(1)} s`,
    descriptors.join(' → '),
    memory.join(' → '),
  ];
  return `| ${cells.join(' | ')} |`;
}

const wanted = process.argv.slice(2);
for (const name of wanted)
  if (FAULTS[name] === undefined) {
    console.error(`faults: no fault ${JSON.stringify(name)}; one of ${Object.keys(FAULTS).join(', ')}`);
    process.exit(2);
  }
if (process.getuid?.() !== 0) {
  console.error('faults: run it as root: it breaks things in the network namespaces of the machine');
  process.exit(2);
}

const rig = await startRig();
let problems = 0;
try {
  const client = await rig.client('mixed');
  await pause(5000);
  console.log(
    '| Fault | requests/s before / during / after | failed | flows again after | descriptors | private MB |',
  );
  console.log('|---|---|---|---|---|---|');
  for (const [key, fault] of Object.entries(FAULTS)) {
    if (wanted.length > 0 && !wanted.includes(key)) continue;
    try {
      const result = await observe(rig, client, fault);
      console.log(row(result));
      if (!fault.mayFail && result.failed > 0) {
        problems++;
        console.log(`faults: ${fault.name}: ${result.failed} failed, none should`);
      }
    } catch (error) {
      problems++;
      console.log(`faults: ${fault.name}: ${(error as Error).message}`);
    }
  }
  const { failed } = client.last;
  console.log(`faults: what failed: ${JSON.stringify(failed)}`);
  await client.end();
} finally {
  await rig.stop();
}
console.log(problems === 0 ? 'faults: everything flowed again' : `faults: ${problems} problems`);
process.exit(problems === 0 ? 0 : 1);
