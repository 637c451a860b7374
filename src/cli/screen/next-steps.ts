// Three things to try, as lines that can be pasted.

import type { Style } from '../style.ts';

export interface NextStepsFacts {
  readonly kubeconfigPath: string;
  /** How the person calls the launcher from where they stand. */
  readonly culvert: string;
  readonly examplesDir: string;
}

export function renderNextSteps(
  { kubeconfigPath, culvert, examplesDir }: NextStepsFacts,
  style: Style,
): string[] {
  const step = (number: number, title: string, ...commands: string[]): string[] => [
    `  ${style.bold(`${number}. ${title}`)}`,
    ...commands.map((command) => `       ${style.accent(command)}`),
  ];
  return [
    style.bold('Three things to try, in another terminal'),
    `       ${style.accent(`export KUBECONFIG=${kubeconfigPath}`)}`,
    ...step(
      1,
      'Take the shop out of the mesh and back in; no pod restarts',
      'kubectl label namespace shop istio.io/dataplane-mode-',
      'kubectl label namespace shop istio.io/dataplane-mode=ambient',
    ),
    ...step(
      2,
      'Refuse the orders, and read here which rule did it',
      `kubectl apply -f ${examplesDir}/deny-orders.yaml`,
      `kubectl delete -f ${examplesDir}/deny-orders.yaml`,
    ),
    ...step(
      3,
      'Look at the wire between the nodes: TLS on 15008, nothing to read',
      `${culvert} node exec n1 -- tcpdump -nAi any port 15008 or port 8080`,
    ),
  ];
}
