// The agent from label to ztunnel, in real namespaces: enrolment and removal, snapshot, several ztunnels, restarts, the
// plugin's way. Only the API server and ztunnel itself are stand-ins.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { MeshError } from '#base/errors.ts';
import { type CniAgent, createCniAgent } from '#cni/agent.ts';
import { runPlugin } from '#cni/plugin.ts';
import { createHostProbes } from '#cni/rules/host-probes.ts';
import { nftHostRules } from '#cni/rules/nft-host.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import type { KubeClient } from '#k8s/client.ts';
import { type Informer, type InformerHandlers, objectKey } from '#k8s/informer.ts';
import type { KubeObject, Namespace, PeerAuthentication, Pod } from '#k8s/objects.ts';
import { closeFd, netnsId, openNetns, sameNetns } from '#linux/netns.ts';
import { connectSeqpacket, type SeqpacketConnection } from '#linux/seqpacket.ts';
import { listenTcp, tcpSocket } from '#linux/socket.ts';
import { decodeWorkloadRequest, encodeAck, encodeHello, type ZdsRequest } from '#proto/zds.ts';
import { silentLogger } from '#telemetry/log.ts';
import { until } from '../lib/until.ts';

const PREFIX = `cvzds${process.pid}`;
const ANNOTATION = 'ambient.istio.io/redirection';
const sh = (command: string): string =>
  execFileSync('sh', ['-ec', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

class FakeInformer<T extends KubeObject> implements Informer<T> {
  readonly objects = new Map<string, T>();
  readonly #handlers: InformerHandlers<T>[] = [];
  readonly synced = Promise.resolve();
  readonly hasSynced = true;
  get(key: string): T | undefined {
    return this.objects.get(key);
  }
  all(): IterableIterator<T> {
    return this.objects.values();
  }
  addHandlers(handlers: InformerHandlers<T>): void {
    this.#handlers.push(handlers);
    for (const object of this.objects.values()) handlers.upsert(object, undefined);
  }
  put(object: T): void {
    const old = this.objects.get(objectKey(object));
    this.objects.set(objectKey(object), object);
    for (const handlers of this.#handlers) handlers.upsert(object, old);
  }
  drop(object: T): void {
    this.objects.delete(objectKey(object));
    for (const handlers of this.#handlers) handlers.remove(object);
  }
  close(): void {}
}

interface World {
  readonly dir: string;
  readonly pods: FakeInformer<Pod>;
  readonly namespaces: FakeInformer<Namespace>;
  readonly peerAuthentications: FakeInformer<PeerAuthentication>;
  readonly probeRulesets: string[];
  readonly agents: CniAgent[];
  readonly ztunnels: FakeZtunnel[];
  readonly made: string[];
}
let world: World;

beforeEach(() => {
  world = {
    dir: mkdtempSync(join(tmpdir(), 'culvert-cni-')),
    pods: new FakeInformer(),
    namespaces: new FakeInformer(),
    peerAuthentications: new FakeInformer(),
    probeRulesets: [],
    agents: [],
    ztunnels: [],
    made: [],
  };
  world.namespaces.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
});

afterEach(async () => {
  for (const ztunnel of world.ztunnels) ztunnel.connection.close();
  for (const agent of world.agents) await agent.stop();
  for (const uid of world.made) sh(`ip netns del cni-${uid} 2>/dev/null || true`);
  rmSync(world.dir, { recursive: true, force: true });
});

/** The API server's pod with a namespace on this node; names begin with this process's prefix. */
function makePod(
  name: string,
  labels: Record<string, string> = {},
  status: Pod['status'] = {},
  annotations: Record<string, string> = {},
): Pod {
  const uid = `${PREFIX}-${name}`;
  makeNetns(uid);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', uid, labels, annotations },
    spec: { containers: [], serviceAccountName: `sa-${name}` },
    status: { phase: 'Running', ...status },
  };
}

/** A connection from the pod to a server at a cable's other end, which says everything again. */
async function dialEcho(
  { metadata }: Pod,
  podIp: string,
  serverIp: string,
): Promise<{ say(text: string): Promise<string>; end(): void }> {
  const outside = `${PREFIX}-outside`;
  makeNetns(outside);
  sh(`ip -n cni-${metadata.uid} link add eth0 type veth peer name eth0 netns cni-${outside}
    ip -n cni-${metadata.uid} addr add ${podIp}/24 dev eth0; ip -n cni-${metadata.uid} link set eth0 up
    ip -n cni-${outside} addr add ${serverIp}/24 dev eth0; ip -n cni-${outside} link set eth0 up`);
  const from = openNetns(`/var/run/netns/cni-${metadata.uid}`);
  const to = openNetns(`/var/run/netns/cni-${outside}`);
  const { fd } = listenTcp({ ip: '0.0.0.0', port: 8080, netnsFd: to });
  const sockets = [new net.Socket({ fd: tcpSocket({ family: 4, netnsFd: from }) })];
  for (const netnsFd of [from, to]) closeFd(netnsFd);
  const server = net.createServer((accepted) => {
    sockets.push(accepted);
    accepted.on('error', () => {}).pipe(accepted);
  });
  server.listen({ fd });
  const [client] = sockets as [net.Socket];
  await once(client.on('error', () => {}).connect({ host: serverIp, port: 8080 }), 'connect');
  return {
    say: (text) =>
      new Promise((resolve) => {
        client.once('data', (chunk) => resolve(String(chunk)));
        client.once('close', () => resolve('closed'));
        client.write(text);
      }),
    end() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/** A connection in the pod's namespace that ztunnel's mark tells to be its own. */
async function carriedConnection({ metadata }: Pod): Promise<{ end(): void }> {
  const netnsFd = openNetns(`/var/run/netns/cni-${metadata.uid}`);
  const listener = listenTcp({ ip: '127.0.0.1', port: 8080, netnsFd });
  const server = net.createServer((socket) => socket.resume().on('error', () => {}));
  server.listen({ fd: listener.fd });
  const socket = new net.Socket({ fd: tcpSocket({ family: 4, netnsFd, mark: 0x539 }) });
  closeFd(netnsFd);
  await once(socket.connect({ host: '127.0.0.1', port: 8080 }), 'connect');
  return {
    end() {
      socket.destroy();
      server.close();
    },
  };
}

function makeNetns(uid: string): void {
  sh(`ip netns add cni-${uid}; ip -n cni-${uid} link set lo up`);
  world.made.push(uid);
}

const withIp = (ip: string): NonNullable<Pod['status']> => ({ podIP: ip, podIPs: [{ ip }] });
const AMBIENT = { 'istio.io/dataplane-mode': 'ambient' };
const redirects = (pod: Pod): boolean =>
  sh(`ip netns exec cni-${pod.metadata.uid} nft list ruleset`).includes('redirect to :15001');
const annotationOf = (pod: Pod): string | undefined =>
  world.pods.get(objectKey(pod))?.metadata.annotations?.[ANNOTATION];

/** The part of the API that the agent uses; what it patches comes back as a watch event. */
const client: Pick<KubeClient, 'get' | 'patch'> = {
  async get(resource, name, namespace) {
    const found =
      resource.plural === 'pods' ? world.pods.get(`${namespace}/${name}`) : world.namespaces.get(name);
    if (found === undefined)
      throw new MeshError('API_STATUS', `${name} not found`, {
        details: { status: 404, reason: 'NotFound' },
      });
    return found as never;
  },
  async patch(_resource, name, kind, body, options) {
    assert.equal(kind, 'merge');
    assert.equal(options?.subresource, 'status');
    const pod = world.pods.get(`${options?.namespace}/${name}`);
    if (pod === undefined)
      throw new MeshError('API_STATUS', `${name} not found`, {
        details: { status: 404, reason: 'NotFound' },
      });
    const { metadata } = body as { metadata: { uid: string; annotations: Record<string, string | null> } };
    assert.equal(metadata.uid, pod.metadata.uid);
    const annotations = { ...pod.metadata.annotations, ...metadata.annotations };
    for (const key in annotations) if (annotations[key] === null) delete annotations[key];
    const patched = { ...pod, metadata: { ...pod.metadata, annotations } } as Pod;
    world.pods.put(patched);
    return patched as never;
  },
};

async function startAgent(options: { resyncMs?: number } = {}): Promise<CniAgent> {
  const { dir, pods, namespaces, probeRulesets } = world;
  const agent = createCniAgent(
    {
      client,
      pods,
      namespaces,
      peerAuthentications: world.peerAuthentications,
      log: silentLogger,
      rules: nftPodRules,
      probes: createHostProbes(
        nftHostRules({ ipv6: false, kubeletUid: 0 }, async (text) => {
          probeRulesets.push(text);
        }),
      ),
    },
    {
      policy: { systemNamespace: 'istio-system', excludedNamespaces: new Set(['kube-system']) },
      netnsDir: '/var/run/netns',
      procDir: '/proc',
      zdsPath: join(dir, 'ztunnel/ztunnel.sock'),
      runDir: join(dir, 'run'),
      ipv6: false,
      dnsCapture: false,
      unenrolDrainMs: 5000,
      closeOlder: false,
      ...options,
    },
  );
  world.agents.push(agent);
  await agent.start();
  return agent;
}

interface FakeZtunnel {
  readonly connection: SeqpacketConnection;
  readonly seen: string[];
  readonly requests: ZdsRequest[];
  /** Which pod's namespace came with the request; undefined without a descriptor. */
  readonly namespaces: (string | undefined)[];
}

async function connectZtunnel(
  answer: (request: ZdsRequest) => { error: string | undefined } | 'silence' = () => ({ error: undefined }),
): Promise<FakeZtunnel> {
  const connection = await connectSeqpacket(join(world.dir, 'ztunnel/ztunnel.sock'));
  const ztunnel: FakeZtunnel = { connection, seen: [], requests: [], namespaces: [] };
  world.ztunnels.push(ztunnel);
  connection.onMessage((message, fds) => {
    assert.ok(message.length <= 1024);
    const request = decodeWorkloadRequest(message);
    assert.equal(fds.length, request.kind === 'add' ? 1 : 0);
    ztunnel.requests.push(request);
    ztunnel.seen.push(
      'uid' in request ? `${request.kind} ${request.uid.slice(PREFIX.length + 1)}` : request.kind,
    );
    ztunnel.namespaces.push(fds[0] === undefined ? undefined : ownerOf(fds[0]));
    for (const fd of fds) closeFd(fd);
    const ack = answer(request);
    if (ack !== 'silence') connection.send(encodeAck(ack)).catch(() => {});
  });
  await connection.send(encodeHello());
  return ztunnel;
}

function ownerOf(fd: number): string | undefined {
  return world.made.find((uid) => {
    if (!existsSync(`/var/run/netns/cni-${uid}`)) return false;
    const own = openNetns(`/var/run/netns/cni-${uid}`);
    try {
      return sameNetns(netnsId(own), netnsId(fd));
    } finally {
      closeFd(own);
    }
  });
}

test('a labelled pod gets rules, then ztunnel, then the annotation; the label gone, all is undone', async () => {
  await startAgent();
  const ztunnel = await connectZtunnel();
  await until('empty snapshot', () => ztunnel.seen.includes('snapshot-sent'));
  const web = makePod('web', AMBIENT, withIp('10.244.1.5'));
  world.pods.put(web);
  await until('annotated', () => annotationOf(web) === 'enabled');
  assert.deepEqual(ztunnel.seen, ['snapshot-sent', 'add web']);
  assert.deepEqual(ztunnel.requests[1], {
    kind: 'add',
    uid: web.metadata.uid,
    info: { name: 'web', namespace: 'shop', serviceAccount: 'sa-web' },
  });
  assert.equal(ztunnel.namespaces[1], web.metadata.uid);
  assert.ok(redirects(web));
  assert.match(world.probeRulesets.at(-1)!, /10\.244\.1\.5 comment/);

  const current = world.pods.get('shop/web')!;
  world.pods.put({ ...current, metadata: { ...current.metadata, labels: {} } });
  await until('ztunnel told', () => ztunnel.seen.includes('del web'));
  assert.equal(annotationOf(web), undefined);
  assert.equal(ztunnel.seen.length, 3);
  await until('rules gone', () => !redirects(web));
  assert.match(world.probeRulesets.at(-1)!, /delete element .* 10\.244\.1\.5/);
});

test('a namespace label enrols its pods; a pod may stay out; a finished pod leaves', async () => {
  await startAgent();
  const ztunnel = await connectZtunnel();
  const a = makePod('a', {}, withIp('10.244.1.1'));
  const b = makePod('b', { 'istio.io/dataplane-mode': 'none' }, withIp('10.244.1.2'));
  world.pods.put(a);
  world.pods.put(b);
  world.namespaces.put({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop', labels: AMBIENT } });
  await until('a enrolled', () => annotationOf(a) === 'enabled');
  assert.equal(annotationOf(b), undefined);
  assert.ok(!redirects(b));
  // As the API server reports the end of a job: without addresses.
  world.pods.put({ ...world.pods.get('shop/a')!, status: { phase: 'Succeeded' } });
  await until('del a', () => ztunnel.seen.includes('del a'));
  await until('probe address gone', () =>
    /delete element .* 10\.244\.1\.1/.test(world.probeRulesets.at(-1)!),
  );
});

test('a deleted pod is forgotten', async () => {
  await startAgent();
  const ztunnel = await connectZtunnel();
  const web = makePod('web', AMBIENT, withIp('10.244.1.5'));
  world.pods.put(web);
  await until('enrolled', () => annotationOf(web) === 'enabled');
  sh(`ip netns del cni-${web.metadata.uid}`);
  world.pods.drop(world.pods.get('shop/web')!);
  await until('del web', () => ztunnel.seen.includes('del web'));
});

test('without a ztunnel a pod is pending, and is completed when one connects', async () => {
  const agent = await startAgent();
  const web = makePod('web', AMBIENT, withIp('10.244.1.5'));
  world.pods.put(web);
  await until('pending', () => annotationOf(web) === 'pending');
  assert.deepEqual([agent.podCount('unprotected'), agent.podCount('captured')], [1, 0]);
  // It runs: it goes on as it was, and is not said to be in the mesh, until somebody can serve it.
  assert.ok(!redirects(web));
  await connectZtunnel();
  await until('enabled', () => annotationOf(web) === 'enabled');
  assert.ok(redirects(web));
  assert.deepEqual([agent.podCount('unprotected'), agent.podCount('captured')], [0, 1]);
});

test('a refusal of ztunnel leaves the pod pending; it is asked again', async () => {
  await startAgent();
  let refusals = 2;
  const ztunnel = await connectZtunnel((request) =>
    request.kind === 'add' && refusals-- > 0 ? { error: 'cannot bind' } : { error: undefined },
  );
  const web = makePod('web', AMBIENT, withIp('10.244.1.5'));
  world.pods.put(web);
  await until('pending', () => annotationOf(web) === 'pending');
  await until('enabled', () => annotationOf(web) === 'enabled');
  assert.equal(ztunnel.seen.filter((what) => what === 'add web').length, 3);
});

test('additions go to the newest ztunnel, deletions to all; the older one takes over when the newer ends', async () => {
  const agent = await startAgent();
  const old = await connectZtunnel();
  await until('first', () => agent.connectedZtunnels === 1 && old.seen.includes('snapshot-sent'));
  const young = await connectZtunnel();
  await until('second', () => agent.connectedZtunnels === 2 && young.seen.includes('snapshot-sent'));
  const a = makePod('a', AMBIENT, withIp('10.244.1.1'));
  world.pods.put(a);
  await until('a enrolled', () => annotationOf(a) === 'enabled');
  assert.deepEqual([old.seen, young.seen], [['snapshot-sent'], ['snapshot-sent', 'add a']]);
  young.connection.close();
  await until('gone', () => agent.connectedZtunnels === 1);
  const b = makePod('b', AMBIENT, withIp('10.244.1.2'));
  world.pods.put(b);
  await until('b enrolled', () => annotationOf(b) === 'enabled');
  assert.deepEqual(old.seen, ['snapshot-sent', 'add b']);
  const third = await connectZtunnel();
  await until('snapshot', () => third.seen.includes('snapshot-sent'));
  assert.deepEqual(third.seen.toSorted(), ['add a', 'add b', 'snapshot-sent']);
  assert.equal(third.seen.at(-1), 'snapshot-sent');
  world.pods.drop(world.pods.get('shop/a')!);
  await until('both told', () => old.seen.includes('del a') && third.seen.includes('del a'));
});

test('after a restart of the agent the first snapshot names every enrolled pod, and real state is restored', async () => {
  const first = await startAgent();
  await connectZtunnel();
  const kept = makePod('kept', AMBIENT, withIp('10.244.1.1'));
  const lost = makePod('lost', AMBIENT, withIp('10.244.1.2'));
  const gone = makePod('gone', AMBIENT, withIp('10.244.1.3'));
  for (const pod of [kept, lost, gone]) world.pods.put(pod);
  for (const pod of [kept, lost, gone]) await until('enrolled', () => annotationOf(pod) === 'enabled');
  await first.stop();
  assert.ok(redirects(kept), 'rules outlive the agent');

  // Meanwhile: one namespace lost its rules, one pod lost its label and its annotation, one namespace is not found.
  sh(`ip netns exec cni-${lost.metadata.uid} nft flush ruleset`);
  const unlabelled = makePod('unlabelled', {}, withIp('10.244.1.4'));
  sh(
    `ip netns exec cni-${kept.metadata.uid} nft list ruleset | ip netns exec cni-${unlabelled.metadata.uid} nft -f -`,
  );
  world.pods.objects.set('shop/unlabelled', unlabelled);
  // Captured and labelled, but its annotation was lost: what the namespace says counts.
  const silent = makePod('silent', AMBIENT, withIp('10.244.1.6'));
  sh(
    `ip netns exec cni-${kept.metadata.uid} nft list ruleset | ip netns exec cni-${silent.metadata.uid} nft -f -`,
  );
  world.pods.objects.set('shop/silent', silent);
  sh(`ip netns del cni-${gone.metadata.uid}`);
  const carried = await carriedConnection(unlabelled);

  await startAgent();
  assert.match(world.probeRulesets.at(-1)!, /10\.244\.1\.1 comment/);
  const ztunnel = await connectZtunnel();
  await until('snapshot', () => ztunnel.seen.includes('snapshot-sent'));
  const snapshot = ztunnel.seen.slice(0, ztunnel.seen.indexOf('snapshot-sent'));
  // A pod whose rules had to be restored may be told twice.
  assert.deepEqual([...new Set(snapshot)].toSorted(), [
    'add kept',
    'add lost',
    'add silent',
    // It leaves the mesh, but connections of it that are redirected go on meanwhile.
    'add unlabelled',
    'keep gone',
  ]);
  carried.end();
  await until('rules again', () => redirects(lost));
  await until('leftovers removed', () => !redirects(unlabelled));
  await until('ztunnel told', () => ztunnel.seen.includes('del unlabelled'));
  assert.equal(annotationOf(kept), 'enabled');
});

test('the periodic comparison notices rules that vanished and a sandbox that was made anew', async () => {
  await startAgent({ resyncMs: 50 });
  const ztunnel = await connectZtunnel();
  const web = makePod('web', AMBIENT, withIp('10.244.1.5'));
  world.pods.put(web);
  await until('enrolled', () => annotationOf(web) === 'enabled');
  sh(`ip netns exec cni-${web.metadata.uid} nft flush ruleset`);
  await until('rules again', () => redirects(web));
  sh(`ip netns del cni-${web.metadata.uid}`);
  makeNetns(web.metadata.uid!);
  await until('new namespace redirects', () => redirects(web));
  await until('new namespace announced', () => ztunnel.namespaces.at(-1) === web.metadata.uid);
});

test('rules taken out by hand, or a sandbox made anew without the plugin, are noticed at once', async () => {
  // The periodic comparison is a minute away.
  await startAgent();
  const ztunnel = await connectZtunnel();
  const web = makePod('web', AMBIENT, withIp('10.244.1.5'));
  world.pods.put(web);
  await until('enrolled', () => annotationOf(web) === 'enabled');
  sh(`ip netns exec cni-${web.metadata.uid} nft flush ruleset`);
  await until('rules again', () => redirects(web));

  const change = async (status: NonNullable<Pod['status']>): Promise<void> => {
    sh(`ip netns del cni-${web.metadata.uid}`);
    makeNetns(web.metadata.uid!);
    assert.ok(!redirects(web));
    const current = world.pods.get('shop/web')!;
    world.pods.put({ ...current, status: { ...current.status!, ...status } });
    await until('new namespace redirects', () => redirects(web));
    await until('new namespace announced', () => ztunnel.namespaces.at(-1) === web.metadata.uid);
  };
  await change(withIp('10.244.1.9'));
  await change({
    containerStatuses: [
      { name: 'main', image: '', ready: true, restartCount: 1, containerID: 'containerd://2' },
    ],
  });
});

test('after a reboot of the node its pods are captured before anything else, though they say that they are; what they opened is reset', async () => {
  // They came up without the plugin, in new sandboxes, and no ztunnel runs yet.
  const reboot = makePod('reboot', AMBIENT, withIp('10.244.1.5'), { [ANNOTATION]: 'enabled' });
  const late = makePod('late', AMBIENT, {}, { [ANNOTATION]: 'enabled' });
  for (const pod of [reboot, late]) world.pods.objects.set(objectKey(pod), pod);
  const connection = await dialEcho(reboot, '10.244.1.5', '10.244.1.7');
  try {
    assert.equal(await connection.say('before'), 'before');
    const agent = await startAgent();
    await until('captured', () => redirects(reboot));
    assert.ok(!redirects(late), 'it has no address, and so no sandbox, yet');
    world.pods.put({ ...late, status: withIp('10.244.1.6') });
    await until('captured', () => redirects(late));
    await until('both told to wait', () => agent.podCount('waiting') === 2);
    assert.equal(annotationOf(reboot), 'enabled', 'peers go on to speak HBONE, which fails closed');
    // A pod that joins keeps what it has open; this one was in the mesh, and nothing of it was to leave in plaintext.
    assert.equal(await connection.say('after'), 'closed');
    const ztunnel = await connectZtunnel();
    await until(
      'both served',
      () => ztunnel.seen.includes('add reboot') && ztunnel.seen.includes('add late'),
    );
  } finally {
    connection.end();
  }
});

test('a ztunnel that does not answer, or speaks out of turn, is cut off', async () => {
  const agent = await startAgent();
  const rude = await connectZtunnel();
  await until('snapshot', () => rude.seen.includes('snapshot-sent'));
  const closed = new Promise<void>((resolve) => rude.connection.onClose(() => resolve()));
  await rude.connection.send(encodeAck({ error: undefined }));
  await closed;
  await until('list empty', () => agent.connectedZtunnels === 0);
  const stranger = await connectSeqpacket(join(world.dir, 'ztunnel/ztunnel.sock'));
  const refused = new Promise<void>((resolve) => stranger.onClose(() => resolve()));
  stranger.onMessage(() => {});
  await stranger.send(Buffer.from('no hello'));
  await refused;
});

const callPlugin = (pod: Pod, uid = pod.metadata.uid, command = 'ADD'): ReturnType<typeof runPlugin> =>
  runPlugin({
    env: {
      CNI_COMMAND: command,
      CNI_NETNS: `/var/run/netns/cni-${pod.metadata.uid}`,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=${pod.metadata.name};K8S_POD_UID=${uid}`,
    },
    stdin: JSON.stringify({
      cniVersion: '1.0.0',
      name: 'culvert',
      type: 'culvert-cni',
      cni_agent_run_dir: join(world.dir, 'run'),
      prevResult: { cniVersion: '1.0.0', ips: [{ address: '10.244.1.9/32', interface: 1 }], routes: [] },
    }),
  });

test('the plugin enrols a new pod before it has an address in the API, and passes the result on', async () => {
  await startAgent();
  const ztunnel = await connectZtunnel();
  await until('snapshot', () => ztunnel.seen.includes('snapshot-sent'));
  const web = makePod('web', AMBIENT, { phase: 'Pending' });
  world.pods.put(web);
  const outcome = await callPlugin(web);
  assert.deepEqual(
    [outcome.exitCode, JSON.parse(outcome.stdout)],
    [0, { cniVersion: '1.0.0', ips: [{ address: '10.244.1.9/32', interface: 1 }], routes: [] }],
  );
  assert.ok(ztunnel.seen.includes('add web'));
  assert.ok(redirects(web));
  assert.equal(annotationOf(web), 'enabled');
  assert.match(world.probeRulesets.at(-1)!, /10\.244\.1\.9 comment/);
  // CHECK and STATUS agree (what they say when something is missing: src/cni/survey.test.ts).
  for (const command of ['CHECK', 'STATUS'])
    assert.deepEqual(await callPlugin(web, web.metadata.uid, command), { stdout: '', exitCode: 0 });
  // The status arrives later and changes nothing.
  world.pods.put({ ...world.pods.get('shop/web')!, status: { phase: 'Running', ...withIp('10.244.1.9') } });
  assert.equal(ztunnel.seen.filter((what) => what === 'add web').length, 1);
});

test('the plugin lets other pods pass, and stops a pod that cannot be enrolled', async () => {
  const agent = await startAgent();
  await connectZtunnel((request) => ({ error: request.kind === 'add' ? 'no room' : undefined }));
  await until('connected', () => agent.connectedZtunnels === 1);
  const plain = makePod('plain');
  world.pods.put(plain);
  assert.equal((await callPlugin(plain)).exitCode, 0);
  assert.ok(!redirects(plain));

  const web = makePod('web', AMBIENT, { phase: 'Pending' });
  world.pods.put(web);
  const refused = await callPlugin(web);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stdout, /ztunnel did not accept pod shop\/web: no room/);
  assert.equal(annotationOf(web), 'pending');

  const other = await callPlugin(plain, 'another-uid');
  assert.match(other.stdout, /another one by now/);

  await agent.stop();
  const down = await callPlugin(plain);
  assert.equal(down.exitCode, 1);
  assert.equal(JSON.parse(down.stdout).code, 11);
});
