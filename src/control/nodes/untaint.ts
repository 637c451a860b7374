// Takes the taint from nodes whose CNI agent is ready (cni.md §A.13.6). Whoever makes the nodes taints them, so that no
// pod starts on a node before its traffic can be captured; this control plane only takes the taint away.

import type { Scope } from '#base/scope.ts';
import type { KubeClient } from '#k8s/client.ts';
import type { Informer } from '#k8s/informer.ts';
import { NODES, type Node, type Pod } from '#k8s/objects.ts';
import { isNotFound } from '#k8s/status.ts';
import type { Logger } from '#telemetry/log.ts';
import { labelsOf } from '../ambient/labels.ts';
import { WorkQueue } from '../work-queue.ts';

export interface UntainterDeps {
  readonly client: Pick<KubeClient, 'patch'>;
  readonly nodes: Informer<Node>;
  readonly pods: Informer<Pod>;
  readonly log: Logger;
  /** Asked right before each write. */
  readonly isLeader: () => boolean;
}

export interface UntainterOptions {
  /** Where the CNI agents run. */
  readonly namespace: string;
  readonly taint: string;
}

export interface Untainter {
  /** Works until the scope closes, beginning with every node. */
  lead(term: Scope): void;
}

const AGENT_LABEL = 'k8s-app';
const AGENT = 'istio-cni-node';

export function createUntainter(deps: UntainterDeps, { namespace, taint }: UntainterOptions): Untainter {
  const { client, nodes, pods, log, isLeader } = deps;
  let queue: WorkQueue | undefined;

  const isReadyAgent = (pod: Pod): boolean =>
    pod.metadata.namespace === namespace &&
    labelsOf(pod)[AGENT_LABEL] === AGENT &&
    (pod.status?.conditions ?? []).some(({ type, status }) => type === 'Ready' && status === 'True');

  const isTainted = (node: Node | undefined): boolean =>
    (node?.spec?.taints ?? []).some(({ key }) => key === taint);

  const hasReadyAgent = (name: string): boolean => {
    for (const pod of pods.all()) if (pod.spec.nodeName === name && isReadyAgent(pod)) return true;
    return false;
  };

  async function work(name: string): Promise<void> {
    const node = nodes.get(name);
    const taints = node?.spec?.taints ?? [];
    if (!isTainted(node) || !hasReadyAgent(name) || !isLeader()) return;
    const left = taints.filter(({ key }) => key !== taint);
    try {
      await client.patch(NODES, name, 'json', [
        // Taints are one list: who changed it meanwhile must not be undone.
        { op: 'test', path: '/spec/taints', value: taints },
        { op: 'replace', path: '/spec/taints', value: left },
      ]);
    } catch (error) {
      if (isNotFound(error)) return;
      throw error;
    }
    log.info('the taint of a node is taken away: its CNI agent is ready', { node: name, taint });
  }

  nodes.addHandlers({
    upsert: (node) => {
      if (isTainted(node)) queue?.add(node.metadata.name);
    },
    remove: () => {},
  });
  pods.addHandlers({
    upsert: (pod) => {
      const { nodeName } = pod.spec;
      if (nodeName !== undefined && isReadyAgent(pod)) queue?.add(nodeName);
    },
    remove: () => {},
  });

  return {
    lead(term) {
      queue = new WorkQueue({ log, scope: term, work }, { retryInitialMs: 200, retryMaxMs: 30_000 });
      term.onClose(() => {
        queue = undefined;
      });
      for (const node of nodes.all()) if (isTainted(node)) queue.add(node.metadata.name);
    },
  };
}
