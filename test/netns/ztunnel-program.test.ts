// ztunnel as a process: where its ports are bound, what readiness says, and with which status each way to end it ends.

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { closeFd, openNetns } from '#linux/netns.ts';
import { listenSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import { tcpSocket } from '#linux/socket.ts';
import { encodeWorkloadRequest } from '#proto/zds.ts';
import { until } from '../lib/until.ts';
import { readAll } from '../loopback/ztunnel-rig.ts';

const NETNS = `cvzp${process.pid}`;
const OWN_IP = '10.9.0.1';
const dir = mkdtempSync(join(tmpdir(), 'culvert-program-'));
const shell = (command: string): Buffer => execFileSync('sh', ['-ec', command], { stdio: 'pipe' });
const running = new Set<ChildProcess>();

before(() => {
  shell(`ip netns add ${NETNS}; ip -n ${NETNS} link set lo up; ip -n ${NETNS} addr add ${OWN_IP}/32 dev lo`);
});
afterEach(async () => {
  for (const child of running) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
});
after(() => {
  shell(`ip netns del ${NETNS}`);
  rmSync(dir, { recursive: true, force: true });
});

interface Program {
  readonly child: ChildProcess;
  readonly agent: SeqpacketConnection;
  output(): string;
  /** Status, or the signal that ended it. */
  readonly ended: Promise<number | string>;
}

let count = 0;

async function start(environment: Record<string, string> = {}): Promise<Program> {
  const path = join(dir, `${count++}.sock`);
  const connected = Promise.withResolvers<SeqpacketConnection>();
  const listener = listenSeqpacket(path, connected.resolve);
  const child = spawn(
    'ip',
    ['netns', 'exec', NETNS, process.execPath, join(import.meta.dirname, '../../bin/ztunnel.ts')],
    {
      env: {
        PATH: process.env.PATH,
        NODE_NAME: 'n1',
        XDS_ADDRESS: '',
        CA_ADDRESS: 'https://localhost:1',
        INPOD_UDS: path,
        ...environment,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => (output += text.toString()));
  const ended = once(child, 'close').then(([status, signal]) => {
    running.delete(child);
    return status ?? signal;
  });
  const early = ended.then((status) => assert.fail(`ended at once with ${status}:\n${output}`));
  let agent: SeqpacketConnection;
  try {
    agent = await Promise.race([connected.promise, early]);
  } finally {
    listener.close();
  }
  early.catch(() => {});
  agent.onMessage(() => {});
  await until('every port to be bound', () => output.includes('ztunnel is up'));
  return { child, agent, output: () => output, ended };
}

/** Status and body of one request, or the reason why there is none. */
async function ask(ip: string, port: number, line: string): Promise<string> {
  const netnsFd = openNetns(`/var/run/netns/${NETNS}`);
  const fd = tcpSocket({ family: 4, netnsFd });
  closeFd(netnsFd);
  const socket = new net.Socket({ fd } as net.SocketConstructorOpts).connect({ host: ip, port });
  const failed = once(socket, 'error').then(([error]) => String((error as NodeJS.ErrnoException).code));
  socket.write(`${line} HTTP/1.1\r\nhost: ztunnel\r\nconnection: close\r\n\r\n`);
  const answered = readAll(socket).then((bytes) => {
    const [head = '', body = ''] = String(bytes).split('\r\n\r\n');
    return `${head.split(' ')[1]} ${body}`;
  });
  return Promise.race([failed, answered]);
}

const READY = 'GET /healthz/ready';

test('ready after the snapshot; admin on loopback only; SIGTERM ends it with status 0', async () => {
  const { child, agent, output, ended } = await start();
  assert.equal(await ask(OWN_IP, 15_021, READY), '500 not ready, pending: workload proxy manager\n');
  await agent.send(encodeWorkloadRequest({ kind: 'snapshot-sent' }));
  await until('readiness', () => output().includes('received the snapshot'));
  assert.equal(await ask(OWN_IP, 15_021, READY), '200 ready\n');
  assert.match(await ask(OWN_IP, 15_020, 'GET /metrics'), /^200 .*process_open_fds \d+\n.*# EOF\n$/s);
  assert.match(await ask('127.0.0.1', 15_000, 'POST /logging'), /^200 current log level is info\n$/);
  assert.equal(await ask(OWN_IP, 15_000, 'POST /logging'), 'ECONNREFUSED');
  child.kill('SIGTERM');
  assert.equal(await ended, 0, output());
  assert.match(output(), /shutting down\treason="SIGTERM" deadline="5000ms"/);
});

test('the grace period of its pod sets the deadline; quitquitquit ends it like SIGTERM', async () => {
  const { ended, output } = await start({ TERMINATION_GRACE_PERIOD_SECONDS: '30' });
  assert.equal(await ask('127.0.0.1', 15_000, 'POST /quitquitquit'), '200 shutdown now\n');
  assert.equal(await ended, 0, output());
  assert.match(output(), /shutting down\treason="the admin port" deadline="25000ms"/);
});

test('with two threads likewise; one that fails ends it with status 1, and says so', async () => {
  const preload = join(import.meta.dirname, 'lib/failing-thread.ts');
  const environment = { ZTUNNEL_WORKER_THREADS: '2', NODE_OPTIONS: `--import=${preload}` };
  const first = await start(environment);
  await first.agent.send(encodeWorkloadRequest({ kind: 'snapshot-sent' }));
  await until('readiness', () => first.output().includes('received the snapshot'));
  assert.equal(await ask(OWN_IP, 15_021, READY), '200 ready\n');
  assert.match(first.output(), /ztunnel is up\t.* threads=2\n/);
  first.child.kill('SIGTERM');
  assert.equal(await first.ended, 0, first.output());

  const second = await start(environment);
  // The answer may not come any more.
  ask('127.0.0.1', 15_000, 'POST /logging?level=fail=off').catch(() => {});
  assert.equal(await second.ended, 1, second.output());
  assert.match(
    second.output(),
    /\terror\tapp\tending: a thread that serves has failed\terror="thread ztunnel-1 has ended: a fault of ours"\n/,
  );
});

test('an agent that breaks the protocol ends it with status 1', async () => {
  const { agent, ended, output } = await start();
  await agent.send(encodeWorkloadRequest({ kind: 'snapshot-sent' }));
  await agent.send(encodeWorkloadRequest({ kind: 'keep', uid: 'late' }));
  assert.equal(await ended, 1, output());
  assert.match(output(), /\terror\t.*KeepWorkload after SnapshotSent/);
});

test('a setting that cannot be used ends it with status 1 and a sentence', async () => {
  await assert.rejects(
    start({ CONNECTION_TERMINATION_DEADLINE: 'soon' }),
    /ended at once with 1:\nztunnel: CONNECTION_TERMINATION_DEADLINE="soon" is not valid/,
  );
});
