// A real ztunnel in a network namespace of its own, fed from a static file, with a test agent that hands it pods.

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

export interface PeerZtunnel {
  /** Resolves with the peer's error, empty when it did what was asked. */
  send(request: ZdsRequest, fd?: number): Promise<string>;
  /** An answer of its HTTP ports, from inside its namespace. */
  http(port: number, path: string): string;
  readonly output: string[];
  close(): Promise<void>;
}

export interface PeerOptions {
  readonly binary: string;
  readonly workloads: readonly Workload[];
  readonly services: readonly Service[];
  readonly resolvConf: string;
}

export async function startPeer(options: PeerOptions): Promise<PeerZtunnel> {
  const dir = mkdtempSync(join(tmpdir(), 'culvert-peer-'));
  const netns = `cvpeer${process.pid}`;
  run(`ip netns add ${netns}; ip -n ${netns} link set lo up`);
  writeFileSync(join(dir, 'mesh.yaml'), stringify(localConfig(options)));
  writeFileSync(join(dir, 'resolv.conf'), options.resolvConf);
  const connected = Promise.withResolvers<SeqpacketConnection>();
  const listener = listenSeqpacket(join(dir, 'zds.sock'), (connection) => connected.resolve(connection));
  const script = `mount --make-rprivate / && mount --bind ${dir}/resolv.conf /etc/resolv.conf && exec ${options.binary}`;
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
      INPOD_UDS: join(dir, 'zds.sock'),
      RUST_LOG: 'info,dns=debug',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => output.push(...String(chunk).split('\n')));
  child.on('exit', (code) =>
    connected.reject(new Error(`the peer ended with ${code}:\n${output.join('\n')}`)),
  );
  const close = async (): Promise<void> => {
    listener.close();
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    run(`ip netns del ${netns} 2>/dev/null || true`);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const connection = await connected.promise;
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
      http: (port, path) =>
        run(
          `ip netns exec ${netns} ${process.execPath} -e 'fetch("http://127.0.0.1:${port}${path}").then(async (r) => process.stdout.write(await r.text()))'`,
        ),
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
function localConfig({ workloads, services }: PeerOptions): unknown {
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
