// One try of a probe. Connections start in the node's namespace, as a kubelet's do: capture has to let them pass by the
// node's address, not by a special case.

import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { isIP, isIPv6, Socket } from 'node:net';
import { sleep } from '#base/clock.ts';
import { reasonOf } from '#base/errors.ts';
import type { Container, LifecycleHandler, Probe } from '#k8s/objects.ts';
import { tcpSocket } from '#linux/socket.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { runCommand } from '#local/machine/tools.ts';
import { formatHostPort } from '#net/host-port.ts';
import { probeGrpc } from './probe-grpc.ts';

export type ProbeOutcome =
  | { readonly kind: 'success' }
  | { readonly kind: 'failure'; readonly message: string };

export interface ProbeTarget {
  readonly node: EmulatedNode;
  /** Descriptor of the node's network namespace. */
  readonly netnsFd: number;
  readonly podIp: string;
  readonly container: Container;
  readonly env: Readonly<Record<string, string>>;
  /** Of the container's first process: exec probes join its namespaces. */
  readonly pid: number;
}

const SUCCESS: ProbeOutcome = { kind: 'success' };

export async function runProbe(probe: Probe, target: ProbeTarget): Promise<ProbeOutcome> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.httpGet !== undefined) return await probeHttp(probe.httpGet, target, timeoutMs);
    if (probe.tcpSocket !== undefined) {
      const port = portOf(probe.tcpSocket.port, target.container);
      const host = probe.tcpSocket.host ?? target.podIp;
      const socket = await connect(target, host, port, timeoutMs);
      socket.destroy();
      return SUCCESS;
    }
    if (probe.exec !== undefined) return await probeExec(probe.exec.command, target, timeoutMs);
    if (probe.grpc !== undefined) {
      const { port, service = '' } = probe.grpc;
      const startedAt = Date.now();
      const socket = await connect(target, target.podIp, port, timeoutMs);
      return await probeGrpc(socket, service, Math.max(1, timeoutMs - (Date.now() - startedAt)));
    }
    return { kind: 'failure', message: 'it has no httpGet, tcpSocket, exec or grpc' };
  } catch (error) {
    return { kind: 'failure', message: reasonOf(error) };
  }
}

/** A lifecycle hook: as a probe, once; or a pause. */
export async function runHook(
  { sleep: pause, ...handler }: LifecycleHandler,
  target: ProbeTarget,
  limitMs: number,
): Promise<ProbeOutcome> {
  if (pause === undefined) return await runProbe({ ...handler, timeoutSeconds: limitMs / 1000 }, target);
  await sleep(Math.min(pause.seconds * 1000, limitMs));
  return SUCCESS;
}

export function portOf(port: number | string, container: Container): number {
  if (typeof port === 'number') return port;
  const named = container.ports?.find(({ name }) => name === port)?.containerPort;
  const value = named ?? Number(port);
  if (!Number.isInteger(value))
    throw new TypeError(`container ${container.name} has no port named "${port}"`);
  return value;
}

function connect(target: ProbeTarget, host: string, port: number, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // A name is looked up for the family of the pod.
    const family = isIPv6(isIP(host) === 0 ? target.podIp : host) ? 6 : 4;
    const socket = new Socket({ fd: tcpSocket({ family, netnsFd: target.netnsFd }) });
    const timer = setTimeout(
      () => socket.destroy(new Error(`dial tcp ${formatHostPort(host, port)}: i/o timeout`)),
      timeoutMs,
    );
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.connect({ host, port, family }, () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

async function probeHttp(
  { path = '/', port, host, scheme = 'HTTP', httpHeaders = [] }: NonNullable<Probe['httpGet']>,
  target: ProbeTarget,
  timeoutMs: number,
): Promise<ProbeOutcome> {
  const startedAt = Date.now();
  const address = host ?? target.podIp;
  const portNumber = portOf(port, target.container);
  const socket = await connect(target, address, portNumber, timeoutMs);
  return new Promise((resolve) => {
    const fail = (message: string): void => {
      resolve({ kind: 'failure', message });
      socket.destroy();
    };
    const request = (scheme === 'HTTPS' ? httpsGet : httpGet)({
      // TLS probes prove nothing about identity: kubelets do not verify either.
      ...(scheme === 'HTTPS' ? { socket, rejectUnauthorized: false } : { createConnection: () => socket }),
      host: address,
      port: portNumber,
      path: path.startsWith('/') ? path : `/${path}`,
      headers: probeHeaders(httpHeaders),
    });
    const timer = setTimeout(
      () =>
        fail(
          `Get "${scheme.toLowerCase()}://${formatHostPort(address, portNumber)}${path}": context deadline exceeded`,
        ),
      Math.max(1, timeoutMs - (Date.now() - startedAt)),
    );
    request.on('error', (error) => {
      clearTimeout(timer);
      fail(reasonOf(error));
    });
    request.on('response', (response) => {
      clearTimeout(timer);
      const status = response.statusCode ?? 0;
      if (status >= 200 && status < 400) {
        resolve(SUCCESS);
        socket.destroy();
      } else {
        fail(`HTTP probe failed with statuscode: ${status}`);
      }
    });
  });
}

/** What the probe asks for replaces what kubelets send by themselves; a name may come more than once. */
function probeHeaders(asked: readonly { name: string; value: string }[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {
    'user-agent': 'kube-probe/1.37',
    accept: '*/*',
    connection: 'close',
  };
  const values = Map.groupBy(asked, ({ name }) => name.toLowerCase());
  for (const [name, same] of values)
    headers[name] = same.length === 1 ? same[0]!.value : same.map(({ value }) => value);
  return headers;
}

async function probeExec(
  command: readonly string[],
  { node, pid, env }: ProbeTarget,
  timeoutMs: number,
): Promise<ProbeOutcome> {
  const args = [
    `--mount=/proc/${pid}/ns/mnt`,
    `--net=/proc/${pid}/ns/net`,
    `--wd=/proc/${pid}/cwd`,
    '--',
    ...command,
  ];
  const { code, stdout, stderr } = await runCommand(node.tools.nsenter, args, { env, timeoutMs });
  if (code === 0) return SUCCESS;
  return {
    kind: 'failure',
    message: `command exited with ${code}: ${(stderr || stdout).trim().slice(0, 300)}`,
  };
}
