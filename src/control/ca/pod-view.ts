// Pods as the authority needs them: by name, and which service accounts run on which node (control-plane.md §5.3).
// Completed pods count like in the field; failed ones do not.

import type { KubeClient } from '#k8s/client.ts';
import { type Informer, objectKey } from '#k8s/informer.ts';
import { PODS, type Pod } from '#k8s/objects.ts';

export interface PodFacts {
  readonly uid: string;
  readonly serviceAccount: string;
  readonly node: string;
}

export interface PodView {
  pod(namespace: string, name: string): PodFacts | undefined;
  runsOn(node: string, namespace: string, serviceAccount: string): boolean;
}

/** Current as of the last event of the informer. */
export function informedPodView(informer: Informer<Pod>): PodView {
  const pods = new Map<string, PodFacts>();
  const accounts = new Map<string, number>();
  const count = (key: string, by: 1 | -1): void => {
    const now = (accounts.get(key) ?? 0) + by;
    if (now === 0) accounts.delete(key);
    else accounts.set(key, now);
  };
  const remove = (pod: Pod): void => {
    const key = objectKey(pod);
    const old = pods.get(key);
    if (old === undefined) return;
    pods.delete(key);
    count(accountKey(old.node, pod.metadata.namespace ?? '', old.serviceAccount), -1);
  };
  informer.addHandlers({
    upsert(pod) {
      remove(pod);
      if (pod.status?.phase === 'Failed') return;
      const facts = factsOf(pod);
      pods.set(objectKey(pod), facts);
      count(accountKey(facts.node, pod.metadata.namespace ?? '', facts.serviceAccount), 1);
    },
    remove,
  });
  return {
    pod: (namespace, name) => pods.get(`${namespace}/${name}`),
    runsOn: (node, namespace, serviceAccount) =>
      node !== '' && accounts.has(accountKey(node, namespace, serviceAccount)),
  };
}

/** Current as of now, for one question: the informer may be a moment behind a pod that was just scheduled. */
export async function freshPodView(
  client: Pick<KubeClient, 'list'>,
  namespaces: readonly string[],
): Promise<PodView> {
  const lists = await Promise.all(
    [...new Set(namespaces)].map((namespace) => client.list(PODS, { namespace })),
  );
  const pods = lists.flatMap((list) => list.items).filter((pod) => pod.status?.phase !== 'Failed');
  const byKey = new Map(pods.map((pod) => [objectKey(pod), factsOf(pod)]));
  return {
    pod: (namespace, name) => byKey.get(`${namespace}/${name}`),
    runsOn: (node, namespace, serviceAccount) =>
      node !== '' &&
      pods.some(
        (pod) =>
          pod.metadata.namespace === namespace &&
          pod.spec.nodeName === node &&
          pod.spec.serviceAccountName === serviceAccount,
      ),
  };
}

function factsOf(pod: Pod): PodFacts {
  return {
    uid: pod.metadata.uid ?? '',
    serviceAccount: pod.spec.serviceAccountName ?? '',
    node: pod.spec.nodeName ?? '',
  };
}

// None of the three may hold a slash.
const accountKey = (node: string, namespace: string, serviceAccount: string): string =>
  `${node}/${namespace}/${serviceAccount}`;
