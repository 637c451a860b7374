// Things to try, as lines that can be pasted: in the shop, in a mesh without it, in an empty cluster.

import type { Style } from '../style.ts';

export interface NextStepsFacts {
  readonly kubeconfigPath: string;
  /** How the person calls the launcher from where they stand. */
  readonly culvert: string;
  readonly examplesDir: string;
}

export type Stage = 'bare' | 'mesh' | 'shop';

export function renderNextSteps(
  { kubeconfigPath, culvert, examplesDir }: NextStepsFacts,
  stage: Stage,
  style: Style,
): string[] {
  const step = (number: number, title: string, ...commands: string[]): string[] => [
    `  ${style.bold(`${number}. ${title}`)}`,
    ...commands.map((command) => `       ${style.accent(command)}`),
  ];
  const kubeconfig = `       ${style.accent(`export KUBECONFIG=${kubeconfigPath}`)}`;
  if (stage !== 'shop')
    return [
      style.bold('Next, in another terminal'),
      kubeconfig,
      ...step(
        1,
        stage === 'bare' ? 'Install the mesh, and start two services' : 'Start two services',
        ...(stage === 'bare' ? [`${culvert} install --set profile=ambient`] : []),
        `kubectl apply -f ${examplesDir}/my-app/my-app.yaml`,
      ),
      ...step(
        2,
        'Take them into the mesh; no pod restarts',
        'kubectl label namespace my-app istio.io/dataplane-mode=ambient',
      ),
    ];
  return [
    style.bold('Three things to try, in another terminal'),
    kubeconfig,
    ...step(
      1,
      'Take the shop out of the mesh and back in; no pod restarts',
      'kubectl label namespace shop istio.io/dataplane-mode-',
      'kubectl label namespace shop istio.io/dataplane-mode=ambient',
    ),
    ...step(
      2,
      'Refuse the orders, and read here which rule did it',
      `kubectl apply -f ${examplesDir}/shop/deny-orders.yaml`,
      `kubectl delete -f ${examplesDir}/shop/deny-orders.yaml`,
    ),
    ...step(
      3,
      'Look at the wire between the nodes: TLS on 15008, nothing to read',
      `${culvert} node exec n1 -- tcpdump -nAi any port 15008 or port 8080`,
    ),
  ];
}
