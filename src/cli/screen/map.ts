// The map of nodes, pods and identities as text. Pure: objects of the API in, lines out.

import type { Node, Pod } from '#k8s/objects.ts';
import { DEFAULT_TRUST_DOMAIN, formatSpiffeId } from '#model/identity.ts';
import type { Style } from '../style.ts';

const ENROLLED_ANNOTATION = 'ambient.istio.io/redirection';

export function isEnrolled(pod: Pod): boolean {
  return pod.metadata.annotations?.[ENROLLED_ANNOTATION] === 'enabled';
}

export function isReady(pod: Pod): boolean {
  return pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
}

/** The application pods of each node; the mesh's own programs are summed up in the node's line. */
export function renderMap(nodes: readonly Node[], pods: readonly Pod[], style: Style): string[] {
  const lines: string[] = [];
  for (const node of [...nodes].sort((a, b) => a.metadata.name.localeCompare(b.metadata.name))) {
    const here = pods.filter((pod) => pod.spec.nodeName === node.metadata.name);
    const own = here.filter((pod) => pod.metadata.namespace === 'istio-system').map(programOf);
    const address = node.status?.addresses?.find(({ type }) => type === 'InternalIP')?.address ?? '?';
    lines.push(
      `  ${style.bold(`node ${node.metadata.name}`)} ${style.dim(address)}  ${style.dim(own.sort().join(', '))}`,
    );
    const applications = here.filter((pod) => pod.metadata.namespace !== 'istio-system');
    applications.sort((a, b) => fullName(a).localeCompare(fullName(b)));
    applications.forEach((pod, index) => {
      const branch = index === applications.length - 1 ? '└─' : '├─';
      const state = isEnrolled(pod) ? style.accent(identityOf(pod)) : style.dim('not in the mesh');
      lines.push(
        `   ${style.dim(branch)} ${fullName(pod).padEnd(34)} ${style.dim((pod.status?.podIP ?? '-').padEnd(14))} ${isReady(pod) ? '' : style.bad('not ready ')}${state}`,
      );
    });
  }
  return lines;
}

function fullName(pod: Pod): string {
  return `${pod.metadata.namespace}/${pod.metadata.name}`;
}

function programOf(pod: Pod): string {
  return pod.metadata.labels?.app ?? pod.metadata.labels?.['k8s-app'] ?? pod.metadata.name;
}

function identityOf(pod: Pod): string {
  return formatSpiffeId({
    trustDomain: DEFAULT_TRUST_DOMAIN,
    namespace: pod.metadata.namespace ?? 'default',
    serviceAccount: pod.spec.serviceAccountName ?? 'default',
  });
}
