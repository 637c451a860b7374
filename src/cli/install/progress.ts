// Installing with words: one line a step, and why something is not ready yet.

import type { KubeClient } from '#k8s/client.ts';
import type { CliContext } from '../command.ts';
import { createSteps } from '../screen/steps.ts';
import { styleFor } from '../style.ts';
import { applyMesh, removeLeftOver, waitForComponents } from './install.ts';
import type { WaitOptions } from './readiness.ts';
import { type Component, isWorkload } from './render.ts';

export async function installMesh(
  { out, err, env }: CliContext,
  client: KubeClient,
  components: readonly Component[],
  options: Pick<WaitOptions, 'limitMs'>,
): Promise<void> {
  const style = styleFor(out.isTerminal, env);
  const steps = createSteps({ ...out, style, monotonicMs: () => performance.now() });
  const wait: WaitOptions = {
    limitMs: options.limitMs,
    onWaiting: (explanation) =>
      err.write(`${out.isTerminal ? '\r\u001b[K' : ''}    waiting: ${explanation}\n`),
  };
  const objects = components.reduce((count, component) => count + component.objects.length, 0);
  await steps.run(`apply ${objects} objects`, () => applyMesh(client, components));
  for (const component of components)
    if (component.objects.some(isWorkload))
      await steps.run(component.title, () => waitForComponents(client, [component], wait));
  const removed = await removeLeftOver(client, components, wait);
  if (removed.length > 0) steps.note(`removed what is left over: ${removed.join(', ')}`);
}
