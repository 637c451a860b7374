// What a pod asks of its node (CPU, memory and whatever else nodes count), and whether there is room for it (pure). The sums are
// those of Kubernetes: sidecars beside the containers, other init containers one after the other before them.

import type { Container, Node, Pod, PodSpec } from '#k8s/objects.ts';
import { parseQuantity } from '#local/kubelet/quantity.ts';

type Amounts = Map<string, number>;
type Quantities = Readonly<Record<string, string | number>>;

/** Binary fractions are none of thousandths: 0.1 and 0.2 must not make more than 0.3. CPU is counted in thousandths. */
const amountOf = (name: string, value: string | number): number => {
  const amount = parseQuantity(String(value)) ?? 0;
  return name === 'cpu' ? Math.ceil(Number((amount * 1000).toPrecision(12))) : Math.ceil(amount);
};

const amounts = (quantities: Quantities = {}): Amounts =>
  new Map(Object.entries(quantities).map(([name, value]) => [name, amountOf(name, value)]));

function combine(into: Amounts, from: Amounts, how: (a: number, b: number) => number): void {
  for (const [name, amount] of from) into.set(name, how(into.get(name) ?? 0, amount));
}
const sum = (a: number, b: number): number => a + b;

const requestsOf = ({ resources }: Container): Amounts => amounts(resources?.requests);

/** Whatever the pod needs at its hungriest moment. */
export function podRequests(spec: PodSpec): Amounts {
  const running: Amounts = new Map();
  for (const container of spec.containers) combine(running, requestsOf(container), sum);
  const sidecars: Amounts = new Map();
  const starting: Amounts = new Map();
  for (const container of spec.initContainers ?? []) {
    const now = requestsOf(container);
    if (container.restartPolicy === 'Always') {
      combine(running, now, sum);
      combine(sidecars, now, sum);
      combine(starting, sidecars, Math.max);
    } else {
      combine(now, sidecars, sum);
      combine(starting, now, Math.max);
    }
  }
  combine(running, starting, Math.max);
  // What is said of the pod as a whole counts in place of its containers' sum.
  for (const [name, amount] of amounts(spec.resources?.requests)) running.set(name, amount);
  combine(running, amounts(spec.overhead), sum);
  return running;
}

export interface Room {
  /** Each lack in the words of the field; none: the pod fits. */
  lacks(node: Node): string[];
  /** The share of its CPU and memory that the node would have given away with the pod on it, in whole percent. */
  loadWith(node: Node): number;
}

/** What the scheduler takes a container without requests for when it compares nodes; it is no reason to refuse one. */
const ASSUMED = new Map([
  ['cpu', 100],
  ['memory', 200 * 1024 * 1024],
]);

interface Taken {
  readonly pods: Pod[];
  readonly requests: Amounts;
}
const nothing = (): Taken => ({ pods: [], requests: new Map() });

/** `placed`: all pods that have a node and have not ended. */
export function roomFor(pod: Pod, placed: readonly Pod[]): Room {
  const wanted = podRequests(pod.spec);
  const taken = new Map<string, Taken>();
  for (const other of placed) {
    const nodeName = other.spec.nodeName ?? '';
    const held = taken.get(nodeName) ?? nothing();
    taken.set(nodeName, held);
    held.pods.push(other);
    combine(held.requests, podRequests(other.spec), sum);
  }
  const on = (node: Node): Taken => taken.get(node.metadata.name) ?? nothing();
  return {
    lacks(node) {
      const { allocatable } = node.status ?? {};
      // A node that has not said what it has is not judged by it.
      if (allocatable === undefined) return [];
      const room = amounts(allocatable);
      const held = on(node);
      // Pods of the emulated nodes also have no more addresses than that.
      const isFull = held.pods.length >= (room.get('pods') ?? Number.POSITIVE_INFINITY);
      const short = [...wanted].filter(
        ([name, amount]) => amount > 0 && amount > (room.get(name) ?? 0) - (held.requests.get(name) ?? 0),
      );
      return [...(isFull ? ['Too many pods'] : []), ...short.map(([name]) => `Insufficient ${name}`)];
    },
    loadWith(node) {
      const room = amounts(node.status?.allocatable);
      const pods = [...on(node).pods, pod];
      const shares = [...ASSUMED].flatMap(([name, assumed]) => {
        const all = room.get(name) ?? 0;
        const used = pods.reduce((total, { spec }) => total + (podRequests(spec).get(name) || assumed), 0);
        return all === 0 ? [] : [Math.min(1, used / all)];
      });
      return Math.floor((100 * shares.reduce(sum, 0)) / Math.max(1, shares.length));
    },
  };
}
