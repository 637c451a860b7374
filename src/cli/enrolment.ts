// Into the mesh and out of it: the label, and what it will mean for each pod. The decisions are pure; docs/CNI.md §1 has the
// rules.

import { sleep } from '#base/clock.ts';
import { MeshError } from '#base/errors.ts';
import type { KubeClient } from '#k8s/client.ts';
import { NAMESPACES, type Namespace, PODS, type Pod } from '#k8s/objects.ts';
import { SYSTEM_NAMESPACE } from './cluster-options.ts';
import { MODE_LABEL } from './install/installed.ts';

const POLL_MS = 100;
/** The agents' own rule (EXCLUDE_NAMESPACES), and the mesh cannot carry itself. */
const NEVER: readonly string[] = ['kube-system', SYSTEM_NAMESPACE];
const REDIRECTION = 'ambient.istio.io/redirection';

export type Target =
  | { readonly kind: 'namespace'; readonly name: string }
  | { readonly kind: 'pod'; readonly name: string; readonly namespace: string };

/** `NAME`, `namespace/NAME`, `pod/NAME`. @throws MeshError CONFIG_INVALID */
export function parseTarget(text: string, namespace: string): Target {
  const [, kind = 'namespace', name = ''] = /^(?:([a-z]+)\/)?([^/]+)$/.exec(text) ?? [];
  if (['namespace', 'namespaces', 'ns'].includes(kind) && name !== '') return { kind: 'namespace', name };
  if (['pod', 'pods', 'po'].includes(kind)) return { kind: 'pod', name, namespace };
  throw new MeshError('CONFIG_INVALID', `${text}: expected a namespace, namespace/NAME or pod/NAME`);
}

export type Verdict =
  | { readonly carried: true }
  | { readonly carried: false; readonly because: string; readonly isWished: boolean };

/** Whether the mesh carries a pod, given the labels as they will be. `isWished`: somebody chose so. */
export function judgePod(pod: Pod, namespaceMode: string | undefined): Verdict {
  const own = pod.metadata.labels?.[MODE_LABEL];
  const out = (because: string, isWished = false): Verdict => ({ carried: false, because, isWished });
  if (own === 'none') return out('its own label says none', true);
  if (own !== 'ambient' && namespaceMode !== 'ambient')
    return out('neither it nor its namespace has the label', true);
  if (pod.spec.hostNetwork === true) return out("it uses its node's network, which is never captured");
  if (pod.metadata.annotations?.['sidecar.istio.io/status'] !== undefined)
    return out('it has a sidecar, which carries its traffic already');
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return out('it has ended', true);
  return { carried: true };
}

/** @throws MeshError REFUSED for namespaces that are never enrolled */
export function checkTarget(target: Target): void {
  const namespace = target.kind === 'namespace' ? target.name : target.namespace;
  if (NEVER.includes(namespace))
    throw new MeshError(
      'REFUSED',
      `namespace ${namespace} holds what the mesh itself stands on and is never enrolled`,
    );
}

/** The label as it will be. A pod leaves an enrolled namespace only by saying `none`. */
export function wantedMode(
  target: Target,
  enrol: boolean,
  namespaceMode: string | undefined,
): 'ambient' | 'none' | null {
  if (enrol) return 'ambient';
  return target.kind === 'pod' && namespaceMode === 'ambient' ? 'none' : null;
}

export interface Subject {
  readonly target: Target;
  readonly namespace: Namespace;
  readonly pods: readonly Pod[];
}

export async function readSubject(client: KubeClient, target: Target): Promise<Subject> {
  if (target.kind === 'namespace') {
    const [namespace, { items }] = await Promise.all([
      client.get(NAMESPACES, target.name),
      client.list(PODS, { namespace: target.name }),
    ]);
    return { target, namespace, pods: items };
  }
  const [namespace, pod] = await Promise.all([
    client.get(NAMESPACES, target.namespace),
    client.get(PODS, target.name, target.namespace),
  ]);
  return { target, namespace, pods: [pod] };
}

export async function setMode(client: KubeClient, target: Target, mode: string | null): Promise<void> {
  const body = { metadata: { labels: { [MODE_LABEL]: mode } } };
  if (target.kind === 'namespace') await client.patch(NAMESPACES, target.name, 'merge', body);
  else await client.patch(PODS, target.name, 'merge', body, { namespace: target.namespace });
}

export interface PodOutcome {
  readonly pod: Pod;
  readonly verdict: Verdict;
  /** What the node's agent has made of it. */
  readonly redirected: boolean;
}

const isRedirected = (pod: Pod): boolean => pod.metadata.annotations?.[REDIRECTION] === 'enabled';

/** Waits until the nodes' agents have done what the labels ask for. @throws MeshError NOT_READY naming the pods */
export async function waitForOutcome(
  client: KubeClient,
  target: Target,
  limitMs: number,
): Promise<PodOutcome[]> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const outcomes = outcomesOf(await readSubject(client, target));
    const late = outcomes.filter(({ verdict, redirected }) => verdict.carried !== redirected);
    if (late.length === 0) return outcomes;
    if (performance.now() > deadline)
      throw new MeshError(
        'NOT_READY',
        `${late.map(({ pod }) => `pod ${pod.metadata.name}`).join(', ')} ${late.length === 1 ? 'is' : 'are'} not ${late[0]?.verdict.carried === true ? 'in' : 'out of'} the mesh after ${limitMs / 1000} s; look with: kubectl logs -n ${SYSTEM_NAMESPACE} daemonset/istio-cni-node`,
      );
    await sleep(POLL_MS);
  }
}

export function outcomesOf({ namespace, pods }: Subject): PodOutcome[] {
  const mode = namespace.metadata.labels?.[MODE_LABEL];
  return pods
    .filter(({ metadata }) => metadata.deletionTimestamp === undefined)
    .map((pod) => ({ pod, verdict: judgePod(pod, mode), redirected: isRedirected(pod) }));
}
