// Our agent's server of ZDS and a node proxy as a program, over the real socket with real namespaces: what the agent may count
// on (cni.md A.12, ztunnel.md §9). Ours always; with PEER_ZTUNNEL, a release build of the real one goes through the same.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { type MeshError, reasonOf } from '#base/errors.ts';
import { nftPodRules } from '#cni/rules/nft-pod-rules.ts';
import { createZdsServer, type ZdsPod, type ZdsServer } from '#cni/zds-server.ts';
import { closeFd, openNetns } from '#linux/netns.ts';
import { connectSeqpacket, listenSeqpacket } from '#linux/seqpacket.ts';
import { listenTcp } from '#linux/socket.ts';
import { listTcpSockets } from '#linux/tcp-sockets.ts';
import { workloadOf } from '#model/samples.ts';
import { ip } from '#net/ip.ts';
import { decodeWorkloadRequest } from '#proto/zds.ts';
import { createLogger } from '#telemetry/log.ts';
import { PEER_ZTUNNEL, WITHOUT_PEER } from '../lib/peer-program.ts';
import { untilTelling } from '../lib/until.ts';
import { run } from '../netns/lib/dns-world.ts';
import { dialFrom, getIn, listenIn, serverOf } from '../netns/lib/in-namespace.ts';
import { type NodeProxy, startNodeProxy } from '../netns/lib/peer-ztunnel.ts';

const KINDS = [
  { kind: 'ours', program: `${join(import.meta.dirname, '../../bin/culvert')} ztunnel`, skip: false },
  {
    kind: 'the real one',
    program: PEER_ZTUNNEL ?? '',
    skip: WITHOUT_PEER,
  },
] as const;
const MARK = 0x539;
const DNS_PORT = 15_053;
/** Out-, inbound, tunnels, and the DNS of the pod. */
const PORTS = [15_001, 15_006, 15_008, DNS_PORT];
const READY = '200 ready\n';
const NOT_READY = /^500 .*workload proxy manager/;

type Enrolled = ZdsPod & { readonly netnsFd: number; readonly netns: string };

/** The one pod whose connections are carried, and a server outside the mesh at the other end of its cable. */
const TALKER = workloadOf({ name: 'talker', namespace: 'shop', node: 'n1', ips: [ip('10.9.0.1')] });
const OUTSIDE = '10.9.0.2';

/** What listens in a pod, as the kernel tells one socket from another. */
function listeners({ netnsFd }: Enrolled): { readonly ports: number[]; readonly sockets: string[] } {
  const found = listTcpSockets(netnsFd).filter(({ state, mark }) => state === 'listening' && mark === MARK);
  return {
    ports: [...new Set(found.map(({ localPort }) => localPort))].sort((a, b) => a - b),
    sockets: found.map(({ handle }) => handle.id.toString('hex')).sort(),
  };
}
const isLeft = (pod: Enrolled): boolean => listeners(pod).ports.length === 0;

interface Talk {
  readonly isOpen: boolean;
  /** Resolves with what comes back, or `ended`. */
  say(text: string): Promise<string>;
  end(): void;
}

class Rig {
  readonly #t: TestContext;
  readonly dir = mkdtempSync(join(tmpdir(), 'culvert-zds-'));
  readonly path = join(this.dir, 'ztunnel.sock');
  /** As the agent knows them. */
  readonly pods = new Map<string, ZdsPod>();
  readonly said: string[] = [];
  readonly until = untilTelling(() => [...this.said, ...(this.proxy?.output ?? [])].join('\n'));
  proxy: NodeProxy | undefined;
  #namespaces = 0;
  #echoPort = 0;

  constructor(t: TestContext) {
    this.#t = t;
    t.after(() => rmSync(this.dir, { recursive: true, force: true }));
  }

  #newNamespace(): string {
    const netns = `cvzi${process.pid}n${this.#namespaces++}`;
    this.#t.after(() => run(`ip netns del ${netns} 2>/dev/null || true`));
    run(`ip netns add ${netns}; ip -n ${netns} link set lo up`);
    return netns;
  }

  /** A pod with a namespace of its own; the agent does not know it yet. */
  newPod(name: string): Enrolled {
    const netns = this.#newNamespace();
    const netnsFd = openNetns(`/var/run/netns/${netns}`);
    this.#t.after(() => closeFd(netnsFd));
    const info = { name, namespace: 'shop', serviceAccount: 'default' };
    return { uid: `uid-${name}`, info, netnsFd, netns };
  }

  /** One with our rules and a cable to a server that says everything again. */
  async newTalker(): Promise<Enrolled> {
    const pod = this.newPod(TALKER.name);
    const outside = this.#newNamespace();
    run(`ip -n ${pod.netns} link add eth0 type veth peer name eth0 netns ${outside}
      ip -n ${pod.netns} addr add ${TALKER.ips[0]}/24 dev eth0; ip -n ${pod.netns} link set eth0 up
      ip -n ${outside} addr add ${OUTSIDE}/24 dev eth0; ip -n ${outside} link set eth0 up`);
    await nftPodRules.apply(pod.netnsFd, {
      ipv6: true,
      dnsCapture: true,
      bypassInbound: false,
      virtualInterfaces: [],
    });
    const server = serverOf((socket) => socket.pipe(socket));
    this.#t.after(() => server.close());
    this.#echoPort = await listenIn(outside, server, OUTSIDE);
    return pod;
  }

  /** A connection of the talker's, which the proxy must carry: the rules let no other through. */
  async talk({ netns }: Enrolled): Promise<Talk> {
    const socket = dialFrom(netns, OUTSIDE, this.#echoPort).on('error', () => {});
    this.#t.after(() => socket.destroy());
    let isOpen = true;
    // Of the two, the real one ends what it cuts, and ours resets it.
    const ended = new Promise<string>((resolve) => {
      for (const event of ['end', 'close'])
        socket.once(event, () => {
          isOpen = false;
          resolve('ended');
        });
    });
    await once(socket, 'connect');
    return {
      get isOpen() {
        return isOpen;
      },
      say: (text) => {
        socket.write(text);
        return Promise.race([once(socket, 'data').then(String, () => ended), ended]);
      },
      end: () => socket.end(),
    };
  }

  /** The agent has enrolled it: the next snapshot names it. */
  know(...pods: readonly ZdsPod[]): void {
    for (const pod of pods) this.pods.set(pod.uid, pod);
  }

  startAgent(path = this.path): ZdsServer {
    const { pods, said } = this;
    const log = createLogger('agent', { format: 'plain', level: 'debug', write: (line) => said.push(line) });
    const server = createZdsServer(
      { pods: { uids: () => [...pods.keys()], get: (uid) => pods.get(uid) }, log },
      // The machine may be busy.
      { path, timeoutMs: 60_000 },
    );
    this.#t.after(() => server.close());
    return server;
  }

  startProxy(program: string): NodeProxy {
    const proxy = startNodeProxy({ program, zdsPath: this.path, workloads: [TALKER] });
    this.#t.after(() => proxy.close());
    this.proxy = proxy;
    return proxy;
  }

  /** Agent and proxy, which has taken the snapshot. */
  async start(program: string, ...pods: readonly ZdsPod[]): Promise<ZdsServer> {
    this.know(...pods);
    const agent = this.startAgent();
    this.startProxy(program);
    await this.until('ready', async () => (await this.health()) === READY);
    return agent;
  }

  /** Status and body of the proxy's readiness; empty while nobody answers. */
  async health(): Promise<string> {
    const answer = await getIn(this.proxy!.netns, 15_021, '/healthz/ready');
    return answer === undefined ? '' : `${answer.status} ${answer.body}`;
  }

  /** Stands between the two and lets the end of the snapshot through only when told. */
  holdSnapshot(agentPath: string): { readonly passed: string[]; readonly isHeld: boolean; release(): void } {
    const passed: string[] = [];
    let isHeld = false;
    const released = Promise.withResolvers<void>();
    const fail = (error: unknown): void => void this.said.push(`between the two: ${reasonOf(error)}`);
    const listener = listenSeqpacket(this.path, (proxy) => {
      const join = async (): Promise<void> => {
        const agent = await connectSeqpacket(agentPath);
        this.#t.after(() => agent.close());
        proxy.onClose(() => agent.close());
        agent.onClose(() => proxy.close());
        proxy.onMessage((message) => agent.send(message).catch(fail));
        const forward = async (message: Uint8Array, fds: readonly number[]): Promise<void> => {
          const { kind } = decodeWorkloadRequest(message);
          if (kind === 'snapshot-sent') {
            isHeld = true;
            await released.promise;
          }
          passed.push(kind);
          await proxy.send(message, fds[0]);
          for (const fd of fds) closeFd(fd);
        };
        agent.onMessage((message, fds) => forward(message, fds).catch(fail));
      };
      join().catch(fail);
    });
    this.#t.after(() => listener.close());
    return {
      passed,
      get isHeld() {
        return isHeld;
      },
      release: released.resolve,
    };
  }
}

/** Why the proxy does not take the pod. */
async function refusalOf(agent: ZdsServer, pod: ZdsPod & { readonly netnsFd: number }): Promise<string> {
  const refused = await agent.add(pod).then(
    () => assert.fail('taken'),
    (error: MeshError) => error,
  );
  assert.equal(refused.code, 'CNI_REFUSED');
  return refused.message;
}

/** A pod that was refused is tried again by the proxy itself, which says meanwhile that not all is well. */
async function saysNotReady(rig: Rig, agent: ZdsServer, kind: string): Promise<void> {
  // The field's looks at this only after a message that goes well (docs/DIFFERENCES.md).
  if (kind === 'ours') assert.match(await rig.health(), NOT_READY);
  else assert.equal(await rig.health(), READY);
  await agent.del('uid-nobody');
  assert.match(await rig.health(), NOT_READY);
}

for (const { kind, program, skip } of KINDS) {
  test(`${kind}: takes what is enrolled, and is ready after the snapshot, not before`, {
    skip,
  }, async (t) => {
    const rig = new Rig(t);
    const pods = [rig.newPod('a'), rig.newPod('b')] as const;
    rig.know(...pods);
    const agentPath = join(rig.dir, 'agent.sock');
    rig.startAgent(agentPath);
    const between = rig.holdSnapshot(agentPath);
    rig.startProxy(program);
    await rig.until('the end of the snapshot', () => between.isHeld);
    // Both were acknowledged, or the agent would not have come to the end.
    assert.deepEqual(between.passed, ['add', 'add']);
    for (const pod of pods) assert.deepEqual(listeners(pod).ports, PORTS);
    const health = await rig.until('an answer', async () => (await rig.health()) || undefined);
    assert.match(health, NOT_READY);
    between.release();
    await rig.until('ready', async () => (await rig.health()) === READY);
  });

  test(`${kind}: an addition resolves with its listeners bound; again is nothing new; another namespace replaces`, {
    skip,
  }, async (t) => {
    const rig = new Rig(t);
    const other = rig.newPod('other');
    const agent = await rig.start(program, other);
    const before = listeners(other);
    const pod = rig.newPod('late');
    rig.know(pod);
    await agent.add(pod);
    const first = listeners(pod);
    assert.deepEqual(first.ports, PORTS);
    assert.equal(await rig.health(), READY);
    await agent.add(pod);
    assert.deepEqual(listeners(pod), first);

    const moved = rig.newPod('late');
    rig.know(moved);
    await agent.add(moved);
    assert.deepEqual(listeners(moved).ports, PORTS);
    await rig.until('the old namespace to be left', () => isLeft(pod));
    assert.deepEqual(listeners(other), before);
    assert.equal(agent.connectedCount, 1);
  });

  test(`${kind}: a removal takes listeners and connections away; of one unknown it is none`, {
    skip,
  }, async (t) => {
    const rig = new Rig(t);
    const [gone, stays] = [await rig.newTalker(), rig.newPod('stays')] as const;
    const agent = await rig.start(program, gone, stays);
    const before = listeners(stays);
    const held = await rig.talk(gone);
    assert.equal(await held.say('carried'), 'carried');
    rig.pods.delete(gone.uid);
    await agent.del(gone.uid);
    await rig.until('its connection to be cut', () => !held.isOpen);
    await rig.until('the namespace to be left', () => isLeft(gone));
    await agent.del('uid-nobody');
    await agent.del(gone.uid);
    assert.deepEqual(
      rig.said.filter((line) => line.includes('removal')),
      [],
    );
    assert.deepEqual(listeners(stays), before);
    assert.equal(await rig.health(), READY);
    // Back again, in the same namespace.
    await agent.add(gone);
    assert.deepEqual(listeners(gone).ports, PORTS);
    assert.equal(await (await rig.talk(gone)).say('again'), 'again');
  });

  test(`${kind}: serves on without the agent; the next one's snapshot says what is kept`, {
    skip,
  }, async (t) => {
    const rig = new Rig(t);
    const [kept, named, left] = [await rig.newTalker(), rig.newPod('named'), rig.newPod('left')] as const;
    const agent = await rig.start(program, kept, named, left);
    const before = [kept, named, left].map(listeners);
    const held = await rig.talk(kept);
    assert.equal(await held.say('before'), 'before');
    agent.close();
    await rig.until('readiness to be taken back', async () => NOT_READY.test(await rig.health()));
    assert.deepEqual([kept, named, left].map(listeners), before);
    assert.equal(await held.say('meanwhile'), 'meanwhile');
    assert.equal(await (await rig.talk(kept)).say('new'), 'new');

    rig.pods.clear();
    rig.know({ ...kept, netnsFd: undefined }, named);
    const next = rig.startAgent();
    await rig.until('ready again', async () => (await rig.health()) === READY);
    await rig.until('the one that is not named to be left', () => isLeft(left));
    assert.deepEqual([kept, named].map(listeners), before.slice(0, 2));
    assert.equal(await held.say('after'), 'after');
    // As before with the new one: it knows the kept pod's namespace again by and by.
    await next.add(kept);
    assert.deepEqual(listeners(kept), before[0]);
  });

  test(`${kind}: SIGTERM: listeners close at once, what is open is carried to its end, then status 0`, {
    skip,
  }, async (t) => {
    const rig = new Rig(t);
    const pods = [await rig.newTalker(), rig.newPod('other')] as const;
    await rig.start(program, ...pods);
    const held = await rig.talk(pods[0]);
    assert.equal(await held.say('before'), 'before');
    const { signal, ended, output } = rig.proxy!;
    signal('SIGTERM');
    // Ours answers the pod's DNS until the end (docs/DIFFERENCES.md).
    const left = kind === 'ours' ? [DNS_PORT] : [];
    await rig.until('the listeners to be closed', () =>
      pods.every((pod) => isDeepStrictEqual(listeners(pod).ports, left)),
    );
    await rig.until('the agent to see it', () =>
      rig.said.some((line) => line.includes('ztunnel disconnected')),
    );
    assert.equal(await held.say('meanwhile'), 'meanwhile');
    held.end();
    assert.equal(await ended, 0, output.join('\n'));
  });

  test(`${kind}: what is no namespace is refused, the others are served on, a removal ends the matter`, {
    skip,
  }, async (t) => {
    const rig = new Rig(t);
    const pod = rig.newPod('fine');
    const agent = await rig.start(program, pod);
    const before = listeners(pod);
    const file = openSync(import.meta.filename, 'r');
    t.after(() => closeSync(file));
    const info = { name: 'odd', namespace: 'shop', serviceAccount: 'default' };
    const refusal = await refusalOf(agent, { uid: 'uid-odd', info, netnsFd: file });
    t.diagnostic(refusal);
    assert.match(refusal, /EINVAL|Invalid argument/);
    await saysNotReady(rig, agent, kind);
    assert.equal(agent.connectedCount, 1);
    assert.deepEqual(listeners(pod), before);
    await agent.del('uid-odd');
    assert.equal(await rig.health(), READY);
  });

  for (const taken of [15_008, 15_001])
    test(`${kind}: port ${taken} taken in the pod is refused by name and leaves nothing; free, it is added`, {
      skip,
    }, async (t) => {
      const rig = new Rig(t);
      const pod = rig.newPod('fine');
      const agent = await rig.start(program, pod);
      const before = listeners(pod);
      const late = rig.newPod('late');
      const server = net.createServer();
      const { fd } = listenTcp({ ip: '::', port: taken, netnsFd: late.netnsFd });
      server.listen({ fd });
      await once(server, 'listening');
      t.after(() => server.close());
      rig.know(late);
      const refusal = await refusalOf(agent, late);
      t.diagnostic(refusal);
      assert.ok(refusal.includes(String(taken)), refusal);
      await rig.until('what it had bound to be gone', () => isLeft(late));
      await saysNotReady(rig, agent, kind);
      assert.deepEqual(listeners(pod), before);

      server.close();
      await once(server, 'close');
      await agent.add(late);
      assert.deepEqual(listeners(late).ports, PORTS);
      assert.equal(await rig.health(), READY);
      assert.deepEqual(listeners(pod), before);
    });
}
