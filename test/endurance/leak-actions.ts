// What the leak hunt does to the mesh: each action ends when both pods report again that they are in the mesh.

import { execFileSync } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { MeshError } from '#base/errors.ts';
import { PODS, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import { forgetFlows } from '#linux/conntrack.ts';
import { closeFd, inNetns, openNetns } from '#linux/netns.ts';
import { listTcpSockets, type TcpSocket } from '#linux/tcp-sockets.ts';
import { isAlive, type Mesh, until } from '../e2e/harness.ts';
import { type Direction, type LeakTraffic, type Mood, PORT } from './leak-traffic.ts';
import { askAdmin } from './process-sample.ts';

export const NAMESPACE = 'leak-hunt';
const LABEL = 'istio.io/dataplane-mode';
const ANNOTATION = 'ambient.istio.io/redirection';
const LIMIT_MS = 60_000;
type Program = 'ztunnel' | 'cni';
const DAEMON_SET: Readonly<Record<Program, string>> = {
  ztunnel: 'app=ztunnel',
  cni: 'k8s-app=istio-cni-node',
};

/** Answers with what it hears. Its last word in the command line tells one from the other. */
const ECHO = `require('node:net').createServer(s=>s.on('error',()=>{}).pipe(s)).listen(${PORT},'::')`;

export interface Place {
  readonly name: string;
  readonly node: string;
  netnsFd: number;
  uid: string;
  ips: readonly string[];
}

export class LeakWorld {
  readonly mesh: Mesh;
  readonly traffic: LeakTraffic;
  readonly places: readonly [Place, Place];
  /** Restarted in place once: the kubelet lets a container wait that ends again and again, so then its pod is replaced. */
  readonly #killed = new Set<string>();

  constructor(mesh: Mesh, traffic: LeakTraffic) {
    this.mesh = mesh;
    this.traffic = traffic;
    const place = (name: string, node: string): Place => ({
      name,
      node,
      netnsFd: -1,
      uid: '',
      ips: [],
    });
    this.places = [place('left', 'n1'), place('right', 'n2')];
  }

  async start(): Promise<void> {
    // Who calls `right` in plaintext is refused; `left` takes both, as a mesh does by default.
    await this.mesh.apply(`
apiVersion: v1
kind: Namespace
metadata: { name: ${NAMESPACE}, labels: { ${LABEL}: ambient } }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: ${NAMESPACE} }
spec: { selector: { matchLabels: { app: right } }, mtls: { mode: STRICT } }
`);
    for (const place of this.places) await this.create(place);
    for (const place of this.places) await this.join(place);
  }

  close(): void {
    for (const { netnsFd } of this.places) if (netnsFd >= 0) closeFd(netnsFd);
  }

  other = (place: Place): Place => this.places.find((candidate) => candidate !== place)!;

  /** In both directions: who has left speaks and hears plaintext. */
  mood(mood: Mood): void {
    for (const from of this.places) this.traffic.set(this.direction(from), mood);
  }

  direction(from: Place): Direction {
    const to = this.other(from);
    return { name: `${from.name} → ${to.name}`, netnsFd: from.netnsFd, ips: to.ips };
  }

  async create(place: Place): Promise<void> {
    const command = [process.execPath, '-e', ECHO, `${NAMESPACE}-${place.name}`];
    await this.mesh.apply(`
apiVersion: v1
kind: Pod
metadata: { name: ${place.name}, namespace: ${NAMESPACE}, labels: { app: ${place.name} } }
spec:
  nodeSelector: { kubernetes.io/hostname: ${place.node} }
  terminationGracePeriodSeconds: 1
  containers:
    - name: main
      image: local/shell
      command: ${JSON.stringify(command)}
`);
  }

  async pod({ name }: Place): Promise<Pod | undefined> {
    try {
      return await this.mesh.client.get<Pod>(PODS, name, NAMESPACE);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** Resolves when the pod runs and reports that it is in the mesh, and its peer's ztunnel has heard of it. */
  async join(place: Place): Promise<void> {
    let pod: Pod | undefined;
    await until(
      async () => {
        pod = await this.pod(place);
        return pod?.status?.phase === 'Running' && pod.metadata.annotations?.[ANNOTATION] === 'enabled';
      },
      `${place.name} to report that it is enrolled`,
      LIMIT_MS,
    );
    const { uid = '' } = pod!.metadata;
    if (place.uid !== uid) await this.#take(place, pod!);
    const { node } = this.other(place);
    await until(
      () => this.#isKnown(node, place),
      `the ztunnel of ${node} to know that ${place.name} is enrolled`,
      LIMIT_MS,
    );
  }

  async #take(place: Place, pod: Pod): Promise<void> {
    const ips = pod.status?.podIPs?.map(({ ip }) => ip) ?? [];
    const former = place.netnsFd;
    let found: number | undefined;
    await until(
      () => {
        found = this.#netnsOf(place, ips);
        return found !== undefined;
      },
      `a process of ${place.name} at ${ips.join(', ')}`,
    );
    Object.assign(place, { uid: pod.metadata.uid, ips, netnsFd: found });
    if (former >= 0) closeFd(former);
  }

  /** By its processes: what started the container has the same words, and one of the pod's predecessor may still end. */
  #netnsOf({ name }: Place, ips: readonly string[]): number | undefined {
    for (const { pid, commandLine } of this.mesh.processes()) {
      if (!commandLine.endsWith(` ${NAMESPACE}-${name}`)) continue;
      try {
        const fd = openNetns(`/proc/${pid}/ns/net`);
        const held = Object.values(inNetns(fd, () => networkInterfaces())).flatMap((own) => own ?? []);
        if (held.some(({ address }) => ips.includes(address))) return fd;
        closeFd(fd);
      } catch (error) {
        if (!(error instanceof MeshError && error.code === 'NETNS_GONE')) throw error;
      }
    }
    return undefined;
  }

  async #isKnown(node: string, { name, ips }: Place): Promise<boolean> {
    try {
      const dump = await askAdmin(this.mesh.pidOf('ztunnel', node), '/config_dump');
      const { workloads } = JSON.parse(dump) as {
        workloads: { name: string; protocol: string; workloadIps: string[] }[];
      };
      return workloads.some(
        (found) =>
          found.name === name &&
          found.protocol === 'HBONE' &&
          ips.every((ip) => found.workloadIps.includes(ip)),
      );
    } catch {
      return false; // it is being started
    }
  }

  /** `kill -9`, and up again by itself. */
  async kill(program: Program, node: string): Promise<void> {
    const pid = this.mesh.pidOf(program, node);
    const pod = await this.#daemon(program, node);
    process.kill(pid, 'SIGKILL');
    const { uid = '', name } = pod.metadata;
    if (this.#killed.has(uid)) await this.#replace(name, 0);
    this.#killed.add(uid);
    await until(() => !isAlive(pid), `${program} to die`);
  }

  /** An orderly end, and another pod in its place. */
  async restart(program: Program, node: string): Promise<void> {
    await this.#replace((await this.#daemon(program, node)).metadata.name, 2);
  }

  async #replace(name: string, gracePeriodSeconds: number): Promise<void> {
    await this.mesh.client.delete(PODS, name, { namespace: 'istio-system', gracePeriodSeconds });
  }

  async #daemon(program: Program, node: string): Promise<Pod> {
    const { items } = await this.mesh.client.list<Pod>(PODS, {
      namespace: 'istio-system',
      labelSelector: DAEMON_SET[program],
    });
    const pod = items.find(
      ({ spec, metadata }) => spec.nodeName === node && metadata.deletionTimestamp === undefined,
    );
    if (pod === undefined) throw new Error(`no ${program} on ${node}`);
    return pod;
  }

  /** The one process of the program, and no former one beside it. */
  async settled(program: Program | 'control', node?: string): Promise<void> {
    await until(
      () => {
        try {
          return this.mesh.pidOf(program, node) > 0;
        } catch {
          return false;
        }
      },
      `one ${program}${node === undefined ? '' : ` on ${node}`}`,
      LIMIT_MS,
    );
  }

  async label(place: Place, mode: 'none' | null): Promise<void> {
    await this.mesh.client.patch(
      PODS,
      place.name,
      'merge',
      { metadata: { labels: { [LABEL]: mode } } },
      { namespace: NAMESPACE },
    );
  }

  async hasLeft(place: Place): Promise<void> {
    await until(
      async () => (await this.pod(place))?.metadata.annotations?.[ANNOTATION] === undefined,
      `${place.name} to leave the mesh`,
      LIMIT_MS,
    );
    await until(() => !this.rules(place).includes('istio'), `the rules of ${place.name} to go`, LIMIT_MS);
  }

  async remove(place: Place): Promise<void> {
    await this.mesh.client.delete(PODS, place.name, { namespace: NAMESPACE, gracePeriodSeconds: 0 });
    await until(
      async () => (await this.pod(place))?.metadata.uid !== place.uid,
      `${place.name} to go`,
      LIMIT_MS,
    );
  }

  rules = (place: Place): string => this.inPod(place, 'nft', 'list', 'ruleset');

  inPod({ netnsFd }: Place, ...command: string[]): string {
    return execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${netnsFd}`, '--', ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  }
}

const isTalk = ({ state, localPort, remotePort }: TcpSocket): boolean =>
  state !== 'listening' && (localPort === PORT || remotePort === PORT);

/** In the order of a round; each is told which pod it is about. */
export const ACTIONS: Readonly<Record<string, (world: LeakWorld, place: Place) => Promise<void>>> = {
  'kill ztunnel': (world, { node }) => world.kill('ztunnel', node),
  'restart ztunnel': (world, { node }) => world.restart('ztunnel', node),
  'kill the agent': (world, { node }) => world.kill('cni', node),
  'restart the agent': (world, { node }) => world.restart('cni', node),
  async 'kill the agent and ztunnel'(world, { node }) {
    await world.kill('cni', node);
    await world.kill('ztunnel', node);
  },
  async 'forget connections'(_world, place) {
    forgetFlows(place.netnsFd, () => true);
  },
  /** Open connections talk on while the pod leaves. */
  async 'un-enrol and enrol'(world, place) {
    world.mood('silent');
    await world.label(place, 'none');
    await world.hasLeft(place);
    world.mood('plain');
    // The other pod refuses plaintext.
    await world.traffic.flows(world.direction(world.places[1]).name, LIMIT_MS);
    world.mood('silent');
    await world.label(place, null);
  },
  async 'kill the agent while a pod leaves'(world, place) {
    world.mood('silent');
    await world.label(place, 'none');
    await until(
      async () => (await world.pod(place))?.metadata.annotations?.[ANNOTATION] === undefined,
      'the annotation to go',
    );
    await world.kill('cni', place.node);
    await world.hasLeft(place);
    await world.label(place, null);
  },
  /**
   * A privileged hand in the pod's namespace: whoever can do this reads the traffic anyway. Judged from the moment the agent has mended it.
   * Before a pod is deleted in the round: what was open to that one ends only when its tunnel is found dead.
   */
  async 'flush the rules by hand'(world, place) {
    world.mood('silent');
    world.traffic.closeHeld();
    await until(
      () => !listTcpSockets(place.netnsFd).some(isTalk),
      `the connections of ${place.name} to end`,
      LIMIT_MS,
    );
    world.inPod(place, 'nft', 'flush', 'ruleset');
    await until(() => /redirect to :15001/.test(world.rules(place)), 'the rules to be restored', 90_000);
  },
  async 'delete and make anew'(world, place) {
    world.mood('silent');
    await world.remove(place);
    await world.create(place);
  },
  async 'make anew while the agent restarts'(world, place) {
    world.mood('silent');
    await world.remove(place);
    await world.kill('cni', place.node);
    await world.create(place);
  },
};
