// A node's proxy as a process in a network namespace of its own, fed from a static file; and a real ztunnel so, with a test
// agent that hands it pods.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { listenSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import type { Service } from '#model/service.ts';
import type { Workload } from '#model/workload.ts';
import { decodeAck, encodeWorkloadRequest, type ZdsRequest } from '#proto/zds.ts';
import { run } from './dns-world.ts';

export interface NodeProxyOptions {
  /** A command line of the shell. */
  readonly program: string;
  /** Where an agent listens, or will. */
  readonly zdsPath: string;
  readonly workloads?: readonly Workload[];
  readonly services?: readonly Service[];
  /** The machine's own unless given. */
  readonly resolvConf?: string;
}

export interface NodeProxy {
  readonly netns: string;
  readonly output: string[];
  /** An answer of its HTTP ports, from inside its namespace. */
  http(port: number, path: string): string;
  signal(name: NodeJS.Signals): void;
  /** Resolves with its status, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  close(): Promise<void>;
}

export interface PeerZtunnel extends Pick<NodeProxy, 'output' | 'http' | 'close'> {
  /** Resolves with the peer's error, empty when it did what was asked. */
  send(request: ZdsRequest, fd?: number): Promise<string>;
}

export type PeerOptions = Omit<NodeProxyOptions, 'program' | 'zdsPath'> & { readonly binary: string };

export function startNodeProxy(options: NodeProxyOptions): NodeProxy {
  const { program, zdsPath, resolvConf } = options;
  const dir = mkdtempSync(join(tmpdir(), 'culvert-peer-'));
  const netns = `cvpeer${process.pid}`;
  run(`ip netns add ${netns}; ip -n ${netns} link set lo up`);
  writeFileSync(join(dir, 'mesh.yaml'), stringify(localConfig(options)));
  let script = `exec ${program}`;
  if (resolvConf !== undefined) {
    writeFileSync(join(dir, 'resolv.conf'), resolvConf);
    script = `mount --make-rprivate / && mount --bind ${dir}/resolv.conf /etc/resolv.conf && ${script}`;
  }
  const child: ChildProcess = spawn('ip', ['netns', 'exec', netns, 'unshare', '-m', 'sh', '-ec', script], {
    env: {
      PATH: process.env.PATH,
      PROXY_MODE: 'shared',
      NODE_NAME: 'n1',
      LOCAL_XDS_PATH: join(dir, 'mesh.yaml'),
      // Never reached: nothing here needs a certificate.
      CA_ADDRESS: 'https://127.0.0.1:1',
      CA_ROOT_CA: 'SYSTEM',
      XDS_ADDRESS: '',
      INPOD_UDS: zdsPath,
      // Long: whoever ends it looks at what it does until then.
      TERMINATION_GRACE_PERIOD_SECONDS: '60',
      RUST_LOG: 'info,dns=debug',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => output.push(...String(chunk).split('\n')));
  const ended = once(child, 'exit').then(([status, signal]) => status ?? signal);
  return {
    netns,
    output,
    http: (port, path) =>
      run(
        `ip netns exec ${netns} ${process.execPath} -e 'fetch("http://127.0.0.1:${port}${path}").then(async (r) => process.stdout.write(await r.text()))'`,
      ),
    signal: (name) => child.kill(name),
    ended,
    close: async () => {
      child.kill('SIGKILL');
      await ended;
      run(`ip netns del ${netns} 2>/dev/null || true`);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export async function startPeer({ binary, ...options }: PeerOptions): Promise<PeerZtunnel> {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-agent-'));
  const zdsPath = join(dir, 'zds.sock');
  const connected = Promise.withResolvers<SeqpacketConnection>();
  const listener = listenSeqpacket(zdsPath, connected.resolve);
  const proxy = startNodeProxy({ ...options, program: binary, zdsPath });
  const { output, http } = proxy;
  const close = async (): Promise<void> => {
    listener.close();
    await proxy.close();
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const early = proxy.ended.then((status) => {
      throw new Error(`the peer ended with ${status}:\n${output.join('\n')}`);
    });
    const connection = await Promise.race([connected.promise, early]);
    early.catch(() => {});
    const waiting: ((text: string) => void)[] = [];
    let hasGreeted = false;
    connection.onMessage((message) => {
      if (hasGreeted) waiting.shift()?.(decodeAck(message).error ?? '');
      hasGreeted = true;
    });
    return {
      output,
      send: (request, fd) => {
        const answer = Promise.withResolvers<string>();
        waiting.push(answer.resolve);
        connection.send(encodeWorkloadRequest(request), fd).catch(answer.reject);
        return answer.promise;
      },
      http,
      close: async () => {
        connection.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The static state file (ztunnel.md §1.6). */
function localConfig({ workloads = [], services = [] }: NodeProxyOptions): unknown {
  return {
    workloads: workloads.map((one) => ({
      uid: one.uid,
      name: one.name,
      namespace: one.namespace,
      serviceAccount: one.serviceAccount,
      trustDomain: one.trustDomain,
      node: one.node,
      network: one.network,
      protocol: one.protocol,
      canonicalName: one.canonicalName,
      canonicalRevision: one.canonicalRevision,
      workloadIps: one.ips,
      services: one.services,
    })),
    services: services.map((one) => ({
      name: one.name,
      namespace: one.namespace,
      hostname: one.hostname,
      vips: one.vips.map(({ network, ip }) => `${network}/${ip}`),
      ports: one.ports,
      canonical: one.canonical,
      visibility: one.visibility,
      ...(one.ipFamilies === undefined ? {} : { ipFamilies: one.ipFamilies }),
    })),
  };
}
