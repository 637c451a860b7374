// In a network namespace of its own: a real ztunnel (PEER_ZTUNNEL) on our xDS server, which says what the ztunnel asked
// for and holds. Prints one line of JSON.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ResourceSet } from '#control/ambient/resource-set.ts';
import { formatSpiffeId } from '#model/identity.ts';
import { policyOf, workloadOf } from '#model/samples.ts';
import type { WorkloadUid } from '#model/workload.ts';
import { ip } from '#net/ip.ts';
import { AUTHORIZATION_TYPE_URL, encodeAuthorization } from '#proto/authorization.ts';
import { ADDRESS_TYPE_URL, encodeAddress } from '#proto/workload.ts';
import { silentLogger } from '#telemetry/log.ts';
import { createAuthority } from '#tls/issue.ts';
import { startXdsServer, type XdsServer } from '#xds/server.ts';
import { untilTelling } from '../lib/until.ts';

const authority = await createAuthority({ organization: 'test', validDays: 1 });
const issued = await authority.issue({ dnsNames: ['localhost'], server: true, validForMs: 3_600_000 });
const addresses = new ResourceSet(ADDRESS_TYPE_URL);
const policies = new ResourceSet(AUTHORIZATION_TYPE_URL);
const put = (name: string, address: string): void => {
  const workload = workloadOf({
    uid: `uid-${name}` as WorkloadUid,
    name,
    namespace: 'shop',
    ips: [ip(address)],
  });
  addresses.set(workload.uid, encodeAddress({ kind: 'workload', workload }));
  addresses.announce();
};
for (let index = 0; index < 500; index++) put(`w${index}`, `10.1.${index >> 8}.${index & 255}`);
policies.set('shop/p', encodeAuthorization(policyOf({ namespace: 'shop', name: 'p' })));
policies.announce();

const sent: { readonly type: string; readonly resources: number }[] = [];
const start = (port: number): Promise<XdsServer> =>
  startXdsServer(
    {
      sources: [addresses, policies],
      log: silentLogger,
      authenticate: async () => ({
        identity: formatSpiffeId({ trustDomain: 'cluster.local', namespace: '', serviceAccount: 'ztunnel' }),
        namespace: '',
        serviceAccount: 'ztunnel',
      }),
      observe: { sent: (type, resources) => sent.push({ type, resources }) },
    },
    {
      listen: { host: '127.0.0.1', port },
      tls: { certPem: issued.certPem, keyPem: issued.keyPem! },
      identityCheck: false,
      farewellMs: 50,
    },
  );
let server = await start(0);
const { port } = server;
const dir = mkdtempSync(join(tmpdir(), 'culvert-interop-'));
const root = join(dir, 'root.pem');
writeFileSync(root, authority.certPem);
const peer = spawn(process.env.PEER_ZTUNNEL!, [], {
  env: {
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: 'shop/w1/default',
    NODE_NAME: 'n1',
    XDS_ADDRESS: `https://localhost:${port}`,
    XDS_ROOT_CA: root,
    CA_ADDRESS: 'https://127.0.0.1:1',
    ISTIO_META_DNS_CAPTURE: 'false',
    ...(process.env.XDS_ON_DEMAND === undefined ? {} : { XDS_ON_DEMAND: process.env.XDS_ON_DEMAND }),
  },
  stdio: ['ignore', 'ignore', 'pipe'],
});
let said = '';
peer.stderr.on('data', (chunk: Buffer) => {
  said = (said + chunk.toString()).slice(-3000);
});

interface Dump {
  readonly workloads: readonly { readonly uid: string; readonly workloadIps: readonly string[] }[];
  readonly policies: readonly unknown[];
}
const dump = async (): Promise<Dump | undefined> => {
  try {
    return (await (await fetch('http://127.0.0.1:15000/config_dump')).json()) as Dump;
  } catch {
    return undefined;
  }
};
const until = untilTelling(() => said);
const allAcknowledged = (): boolean => {
  const [client] = server.clients();
  return (
    client?.subscriptions.length === 2 &&
    client.subscriptions.every(({ sentNonce, ackedNonce, rejected }) => {
      return sentNonce !== '' && sentNonce === ackedNonce && rejected === undefined;
    })
  );
};

try {
  const onDemand = process.env.XDS_ON_DEMAND === 'true';
  await until('both types are acknowledged', allAcknowledged);
  const first = server.clients()[0]!;
  let resumed: typeof sent = [];
  if (!onDemand) {
    await until('it holds everything', async () => (await dump())?.workloads.length === 500);
    put('w7', '10.9.9.9');
    await until('a change', async () => {
      const workloads = (await dump())?.workloads ?? [];
      return workloads.some(({ uid, workloadIps }) => uid === 'uid-w7' && workloadIps.includes('10.9.9.9'));
    });
    await server.close();
    addresses.delete('uid-w8');
    addresses.announce();
    sent.length = 0;
    server = await start(port);
    await until('it has come back', allAcknowledged);
    resumed = [...sent];
    await until('what vanished is gone', async () => (await dump())?.workloads.length === 499);
  }
  console.log(
    JSON.stringify({
      node: first.node,
      subscriptions: first.subscriptions.map(({ typeUrl, wildcard }) => [typeUrl, wildcard]),
      policies: (await dump())?.policies.length,
      resumed,
    }),
  );
} finally {
  peer.kill('SIGKILL');
  await server.close();
  rmSync(dir, { recursive: true, force: true });
}
