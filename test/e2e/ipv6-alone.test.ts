// A cluster with IPv6 alone: the whole mesh in it, with no IPv4 address anywhere but the loopback's.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { get } from 'node:http';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { NODES, PODS, SERVICES } from '#k8s/objects.ts';
import { isReady } from '../../src/cli/screen/map.ts';
import { now, podNamed, runInPod, scriptPod, startsWith, waitForRecord } from './evidence/evidence.ts';
import { evidence as probesUnderStrict } from './evidence/r6-probes-under-strict.ts';
import { startMesh, until } from './harness.ts';
import { returned } from './lib/kill.ts';
import { sharedMesh } from './lib/shared-mesh.ts';

const skip = !existsSync('/proc/sys/net/ipv6/conf') && 'not run: this kernel has no IPv6';
const theMesh = sharedMesh(async () =>
  skip === false ? startMesh({ flags: ['--ip-family', 'ipv6'] }) : undefined,
);

test('nodes, pods and services have one address, of IPv6', { skip }, async () => {
  const { client, inNode, kubectl } = theMesh();
  const nodes = (await client.list(NODES)).items.flatMap(({ status, spec }) => [
    ...(status?.addresses ?? []).filter(({ type }) => type === 'InternalIP').map(({ address }) => address),
    ...(spec?.podCIDRs ?? []),
  ]);
  assert.deepEqual(nodes.sort(), [
    'fd00:10:244:1::/64',
    'fd00:10:244:2::/64',
    'fd00:172:31::11',
    'fd00:172:31::12',
  ]);
  const pods = (await client.list(PODS)).items.map(({ status }) =>
    (status?.podIPs ?? []).map(({ ip }) => ip),
  );
  assert.ok(pods.length >= 10);
  for (const ips of pods) {
    assert.equal(ips.length, 1);
    assert.match(ips[0] ?? '', /^fd00:/);
  }
  for (const { metadata, spec } of (await client.list(SERVICES)).items)
    assert.match(spec.clusterIP ?? '', /^fd00:10:96::/, metadata.name);

  const catalog = await podNamed(theMesh(), 'shop', 'catalog');
  const addresses = [
    await inNode('n1', 'ip', '-4', '-o', 'addr'),
    await kubectl('exec', '-n', 'shop', catalog.metadata.name, '--', 'ip', '-4', '-o', 'addr'),
  ].flatMap((text) => text.trim().split('\n'));
  for (const line of addresses) assert.match(line, /^$|127\.0\.0\.1/);
});

test('the shop talks by mTLS through tunnels over IPv6', { skip }, async () => {
  await waitForRecord(
    theMesh(),
    'n2',
    '',
    'a tunnel between the nodes',
    (fields) =>
      fields.get('direction') === 'inbound' &&
      /^\[fd00:10:244:2::\d+\]:15008$/.test(fields.get('dst.addr') ?? '') &&
      startsWith(fields.get('dst.hbone_addr'), '[fd00:10:244:2:') &&
      fields.get('src.identity') === 'spiffe://cluster.local/ns/shop/sa/web' &&
      fields.get('dst.identity') === 'spiffe://cluster.local/ns/shop/sa/catalog',
  );
});

test('names are answered with AAAA records, by ztunnel for a captured pod and by the cluster for others', {
  skip,
}, async () => {
  const mesh = theMesh();
  const { spec } = await mesh.client.get(SERVICES, 'catalog', 'shop');
  const name = 'catalog.shop.svc.cluster.local';
  const script = `const dns=require('node:dns').promises;(async()=>{
    const say=async(p)=>console.log(JSON.stringify(await p.catch(e=>e.code)));
    await say(dns.resolve6('${name}',{ttl:true}));await say(dns.resolve4('${name}'));await say(dns.lookup('${name}'))})()`;
  for (const [namespace, ttl] of [
    ['shop', 30],
    ['default', 5],
  ] as const) {
    const answer = [
      [{ address: spec.clusterIP, ttl }],
      'ENODATA',
      { address: spec.clusterIP, family: 6 },
    ].map((each) => JSON.stringify(each));
    let output = '';
    await until(
      async () => {
        output = await runInPod(mesh, { name: 'asker6', namespace, node: 'n1', script });
        return output.trim() === answer.join('\n');
      },
      `the answers in ${namespace} (expected ${answer.join(' ')}, last: ${output})`,
    );
  }
});

test('probes pass under STRICT, plaintext is refused, a policy must open 15008', {
  skip,
}, async (context) => {
  await probesUnderStrict.show(theMesh(), (text) => context.diagnostic(text));
});

test('node ports and load balancers answer on ::1 of the host', {
  skip:
    skip ||
    (!Object.values(networkInterfaces()).some((each) => each?.some(({ address }) => address === '::1')) &&
      'not run: the loopback interface of this host has no ::1'),
}, async () => {
  const mesh = theMesh();
  const script = `require('node:http').createServer((q,r)=>r.end('seen '+q.socket.remoteAddress)).listen(8080)`;
  await mesh.apply(scriptPod({ name: 'plain6', namespace: 'default', node: 'n2', script }));
  await mesh.apply(`
apiVersion: v1
kind: Service
metadata: { name: plain6, namespace: default }
spec: { type: LoadBalancer, selector: { app: plain6 }, ports: [{ port: 18080, targetPort: 8080 }] }
`);
  await until(async () => isReady(await mesh.client.get(PODS, 'plain6', 'default')), 'the pod');
  await until(async () => {
    const { status } = await mesh.client.get(SERVICES, 'plain6', 'default');
    return status?.loadBalancer?.ingress?.[0]?.ip === '::1';
  }, 'the address of the load balancer');
  const { spec } = await mesh.client.get(SERVICES, 'plain6', 'default');
  for (const port of [18_080, spec.ports?.[0]?.nodePort ?? 0]) {
    let answer = '';
    await until(async () => {
      answer = await ask(port);
      return answer === 'seen fd00:172:31::11';
    }, `an answer on [::1]:${port} (last: ${answer})`);
  }
});

/** The body, or the error's code. */
function ask(port: number): Promise<string> {
  return new Promise((resolve) => {
    get({ host: '::1', port, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
      response.on('error', (error) => resolve(error.message));
    }).on('error', (error) => resolve(error.message));
  });
}

test('a cluster keeps its family: LOCAL started again serves the same addresses', { skip }, async () => {
  const mesh = theMesh();
  const since = now();
  const before = mesh.pidOf('local');
  process.kill(before, 'SIGKILL');
  await returned(mesh, 'local', before);
  await until(async () => {
    try {
      const { items } = await mesh.client.list(PODS, { namespace: 'shop' });
      return items.length > 0 && items.every(isReady);
    } catch {
      return false; // the API server is not back yet
    }
  }, 'the shop to be ready still');
  await waitForRecord(mesh, 'n2', since, 'a request after that', (fields) => fields.has('src.identity'));
});
