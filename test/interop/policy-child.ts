// Inside a network namespace of its own: an authority, an application, and a real ztunnel for one workload, started anew
// for each set of policies. Every connection of the set is tried; prints a line of JSON for each, with both verdicts.
// Arguments: the peer's program, a folder to write to, and the numbers of the sets.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { join } from 'node:path';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { systemClock } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import { Scope } from '#base/scope.ts';
import { registerCertificateService } from '#control/ca/rpc.ts';
import { createHbonePool } from '#hbone/pool.ts';
import { authorize } from '#model/authorize.ts';
import { formatSpiffeId, type SpiffeId } from '#model/identity.ts';
import { workloadOf } from '#model/samples.ts';
import { createStore } from '#model/store.ts';
import { formatHostPort, type Port } from '#net/host-port.ts';
import { silentLogger } from '#telemetry/log.ts';
import { parseCsr } from '#tls/issue.ts';
import type { WorkloadSecret } from '#tls/secret.ts';
import { newAuthority, newSecret } from '../loopback/hbone-peers.ts';
import { localPolicy, toYaml } from './local-policies.ts';
import {
  type Attempt,
  DESTINATIONS,
  IDENTITIES,
  OWN_NAMESPACE,
  PORTS,
  type PolicySet,
  policySetOf,
  SOURCES,
} from './random-policies.ts';

const [peer, dir, ...seeds] = process.argv.slice(2) as [string, string, ...string[]];
const HBONE_PORT = 15_008;
const MARK = 1337;
const scope = new Scope('interop');
const OWN = {
  name: 'target',
  namespace: OWN_NAMESPACE,
  serviceAccount: 'target',
  trustDomain: 'cluster.local',
};

function prepareNetwork(): void {
  const addresses = [...DESTINATIONS, ...SOURCES.v4, ...SOURCES.v6];
  const lines = addresses.map((of) => `ip addr add ${of}/${of.includes(':') ? '128 nodad' : '32'} dev lo`);
  execFileSync('sh', ['-ec', ['ip link set lo up', ...lines].join('\n')]);
  // As the rules in a pod: what is not the proxy's own goes to its port for plaintext.
  const rule = `meta mark != ${MARK} tcp dport { ${PORTS.join(', ')} } redirect to :15006`;
  const chain = `chain output {\ntype nat hook output priority -100;\n${rule}\n}`;
  execFileSync('nft', ['-f', '-'], { input: `table inet interop {\n${chain}\n}\n` });
}

/** Whatever comes is greeted; the greeting is the sign that a connection got through. */
async function startApplications(): Promise<void> {
  for (const port of PORTS) {
    const server = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.end('hello');
    });
    server.listen(port, '::');
    await once(server, 'listening');
    scope.onClose(() => server.close());
  }
}

async function startAuthority(): Promise<{
  port: number;
  rootPath: string;
  secrets: Map<SpiffeId, WorkloadSecret>;
}> {
  const authority = await newAuthority();
  const own = formatSpiffeId(OWN);
  const serving = await authority.issue({ dnsNames: ['localhost'], server: true, validForMs: 3_600_000 });
  const server = http2.createSecureServer(
    { cert: serving.certPem, key: serving.keyPem! },
    connectNodeAdapter({
      routes: (router) =>
        registerCertificateService(router, async ({ csrPem, ttlSeconds }) => {
          const { publicKeySpki } = parseCsr(csrPem);
          const names = { uris: [own], sanCritical: true };
          const { certPem } = await authority.issue({
            ...names,
            publicKey: publicKeySpki,
            validForMs: ttlSeconds * 1000,
          });
          return [certPem, authority.certPem];
        }),
    }),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.onClose(() => server.close());
  const rootPath = join(dir, 'root.pem');
  writeFileSync(rootPath, authority.certPem);
  const secrets = new Map<SpiffeId, WorkloadSecret>();
  for (const id of IDENTITIES) secrets.set(id, await newSecret(authority, id));
  return { port: (server.address() as net.AddressInfo).port, rootPath, secrets };
}

async function startPeer(statePath: string, ca: { port: number; rootPath: string }): Promise<ChildProcess> {
  const child = spawn(peer, [], {
    env: {
      PATH: process.env.PATH,
      PROXY_MODE: 'dedicated',
      PROXY_WORKLOAD_INFO: `${OWN.namespace}/${OWN.name}/${OWN.serviceAccount}`,
      NODE_NAME: 'n1',
      LOCAL_XDS_PATH: statePath,
      XDS_ADDRESS: '',
      CA_ADDRESS: `https://localhost:${ca.port}`,
      CA_ROOT_CA: ca.rootPath,
      PACKET_MARK: String(MARK),
      ENABLE_ORIG_SRC: 'false',
      ISTIO_META_DNS_CAPTURE: 'false',
      RUST_LOG: 'info,access=off',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on('data', (text: Buffer) => {
      said += text.toString();
    });
  }
  for (let turn = 0; turn < 1000; turn++) {
    if (await isReady()) return child;
    if (child.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the peer does not get ready:\n${said.slice(-4000)}`);
}

async function isReady(): Promise<boolean> {
  try {
    return (await fetch('http://127.0.0.1:15021/healthz/ready')).ok;
  } catch {
    return false;
  }
}

async function stopPeer(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Our verdict, from the same facts. */
function ours({ policies, attached }: PolicySet, attempt: Attempt): { allowed: boolean; why: string } {
  const store = createStore({ localNode: 'n1' });
  const workload = workloadOf({
    ...OWN,
    ips: [...DESTINATIONS],
    node: 'n1',
    authorizationPolicies: [...attached],
  });
  store.apply({ addresses: [{ kind: 'workload', workload }], policies });
  const { verdict, explain } = authorize(store.policiesFor(workload), attempt);
  return { allowed: verdict === 'allow', why: explain };
}

async function theirs(attempt: Attempt, secrets: Map<SpiffeId, WorkloadSecret>): Promise<boolean> {
  const { sourceIp, identity, destination } = attempt;
  if (identity === undefined) return isGreeted(sourceIp, destination.ip, destination.port);
  const attemptScope = scope.child('attempt');
  const pool = createHbonePool({
    dial: async ({ ip, port }) => connected(sourceIp, ip, port),
    secret: async (id) => secrets.get(id)!,
    log: silentLogger,
    scope: attemptScope,
    clock: systemClock,
  });
  const key = {
    source: identity,
    expected: [formatSpiffeId(OWN)],
    destination: { ip: destination.ip, port: HBONE_PORT as Port },
    downstreamIp: sourceIp,
  };
  try {
    const authority = formatHostPort(destination.ip, destination.port);
    await pool.connect(key, authority, {});
    return true;
  } catch (error) {
    if (error instanceof MeshError && error.details.status === 401) return false;
    throw error;
  } finally {
    attemptScope.close();
  }
}

async function connected(localAddress: string, host: string, port: number): Promise<net.Socket> {
  const socket = net.connect({ host, port, localAddress, noDelay: true, allowHalfOpen: true });
  await once(socket, 'connect');
  socket.on('error', () => {});
  return socket;
}

async function isGreeted(localAddress: string, host: string, port: number): Promise<boolean> {
  const socket = await connected(localAddress, host, port);
  let said = '';
  socket.on('data', (text: Buffer) => {
    said += text.toString();
  });
  socket.end();
  await once(socket, 'close');
  return said === 'hello';
}

prepareNetwork();
await startApplications();
const authority = await startAuthority();
try {
  for (const seed of seeds) {
    const set = policySetOf(Number(seed));
    const statePath = join(dir, `${seed}.yaml`);
    const workload = {
      ...OWN,
      uid: 'Kubernetes//Pod/shop/target',
      workloadIps: DESTINATIONS,
      node: 'n1',
      protocol: 'HBONE',
      services: {},
      authorizationPolicies: set.attached,
    };
    const state = { workloads: [workload], policies: set.policies.map(localPolicy) };
    writeFileSync(statePath, toYaml(state));
    const child = await startPeer(statePath, authority);
    try {
      for (const attempt of set.attempts) {
        const peerAllows = await theirs(attempt, authority.secrets);
        process.stdout.write(`${JSON.stringify({ seed, attempt, peerAllows, ours: ours(set, attempt) })}\n`);
      }
    } finally {
      await stopPeer(child);
    }
  }
} finally {
  scope.close();
}
process.exit();
