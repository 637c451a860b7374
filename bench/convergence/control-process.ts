// The control plane that is measured, as a process: ours, the one of PEER_CONTROL, or one that somebody else runs.

import { type ChildProcess, fork, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { NODE_FLAGS } from '#local/machine/plan.ts';
import { CONTROL_OPTIONS } from '../../tools/bundle-options.ts';
import { cpuSeconds, memoryOf } from '../lib/process.ts';

export interface ControlProcess {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** Undefined: nothing of it can be measured but its answers. */
  usage(): { readonly cpuSeconds: number; readonly rssMiB: number } | undefined;
  /** Killed without a warning and started again, until its port is open. Undefined: not ours to restart. */
  readonly restart: (() => Promise<void>) | undefined;
  stop(): void;
}

export async function startControl(kubeconfig: string, peer: string | undefined): Promise<ControlProcess> {
  const port = await freePort();
  const dir = mkdtempSync(join(tmpdir(), 'culvert-bench-'));
  const bundle = peer === undefined ? await bundleOurs() : '';
  const start = (): Promise<ChildProcess> =>
    peer === undefined ? startOurs(bundle, kubeconfig, port) : startPeer(peer, kubeconfig, port, dir);
  let child = await start();
  const kill = async (): Promise<void> => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  };
  return {
    name: peer === undefined ? 'culvert' : 'peer',
    host: '127.0.0.1',
    port,
    usage: () => {
      const pid = child.pid!;
      return { cpuSeconds: cpuSeconds({ pid }), rssMiB: memoryOf(pid).rssKiB / 1024 };
    },
    restart: async () => {
      await kill();
      child = await start();
    },
    stop: () => {
      child.kill('SIGKILL');
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Somebody else's, which runs already. */
export function runningControl(address: string, pid: number | undefined): ControlProcess {
  const [, host = '', port = ''] = /^(.+):(\d+)$/.exec(address) ?? [];
  return {
    name: address,
    host,
    port: Number(port),
    usage: () =>
      pid === undefined
        ? undefined
        : { cpuSeconds: cpuSeconds({ pid }), rssMiB: memoryOf(pid).rssKiB / 1024 },
    restart: undefined,
    stop: () => {},
  };
}

/** Bundled and started as an installed one is. */
async function bundleOurs(): Promise<string> {
  const outfile = join(import.meta.dirname, '../../dist/bench-control.mjs');
  await build({ ...CONTROL_OPTIONS, entryPoints: [join(import.meta.dirname, 'control.ts')], outfile });
  return outfile;
}

async function startOurs(program: string, kubeconfig: string, port: number): Promise<ChildProcess> {
  const child = fork(program, [kubeconfig, String(port)], { execArgv: [...NODE_FLAGS] });
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('exit', (code) => reject(new Error(`the control plane ended with ${code}`)));
  });
  return child;
}

/** Arguments and environment as control-plane.md §0 and §9.2 have them; ports that are not asked are free ones. */
async function startPeer(
  program: string,
  kubeconfig: string,
  port: number,
  dir: string,
): Promise<ChildProcess> {
  const mesh = join(dir, 'mesh');
  writeFileSync(mesh, 'trustDomain: cluster.local\nrootNamespace: istio-system\n');
  const ports = await Promise.all(['grpc', 'http', 'https', 'monitoring'].map(() => freePort()));
  const [grpc, http, https, monitoring] = ports.map((free) => `127.0.0.1:${free}`);
  const child = spawn(
    program,
    [
      ...['discovery', '--kubeconfig', kubeconfig, '--meshConfig', mesh, '--domain', 'cluster.local'],
      ...['--secureGRPCAddr', `127.0.0.1:${port}`, '--grpcAddr', grpc!, '--httpAddr', http!],
      ...['--httpsAddr', https!, '--monitoringAddr', monitoring!, '--ctrlz_port', '0'],
    ],
    {
      cwd: dir,
      env: {
        PATH: process.env.PATH,
        PILOT_CERT_PROVIDER: 'istiod',
        PILOT_ENABLE_AMBIENT: 'true',
        PILOT_ENABLE_ANALYSIS: 'false',
        REVISION: 'default',
        SERVICE_ACCOUNT: 'istiod',
        POD_NAME: 'istiod-bench',
        POD_NAMESPACE: 'istio-system',
        ...(process.env.BENCH_PEER_ENV === undefined
          ? {}
          : Object.fromEntries(process.env.BENCH_PEER_ENV.split(' ').map((pair) => pair.split('=')))),
      },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4000);
  });
  const ready = async (): Promise<boolean> => {
    try {
      return (await fetch(`http://${http}/ready`)).ok;
    } catch {
      return false;
    }
  };
  while (!((await ready()) && (await isOpen(port)))) {
    if (child.exitCode !== null) throw new Error(`the peer ended with ${child.exitCode}:\n${said}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return child;
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const done = (open: boolean): void => {
      socket.destroy();
      resolve(open);
    };
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}
