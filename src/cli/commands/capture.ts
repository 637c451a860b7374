// `culvert capture`: what a pod says, beside what the wire carries. Local mesh only: it runs tcpdump on the nodes.

import { InvalidArgumentError } from 'commander';
import { MeshError } from '#base/errors.ts';
import { type ClusterFlags, withClusterOptions } from '../cluster-options.ts';
import { type AddCommand, type CliContext, durationOption, example, stateDirOption } from '../command.ts';

interface CaptureFlags extends ClusterFlags {
  readonly namespace?: string;
  readonly duration?: number;
  readonly count?: number;
  readonly stateDir: string;
}

export const addCapture: AddCommand = (program, context) => {
  const command = program
    .command('capture <pod>')
    .description('show what a pod sends and receives beside what its node puts on the wire (local mesh only)')
    .option('-n, --namespace <namespace>', "the pod's namespace")
    .option('--duration <duration>', 'how long (default: until Ctrl-C)', durationOption)
    .option('-c, --count <segments>', 'end after so many segments', countOption)
    .option(...stateDirOption(context));
  withClusterOptions(command)
    .addHelpText('after', example('culvert capture web -n shop', 'culvert capture web -n shop --duration 5s'))
    .action((pod: string, flags: CaptureFlags) => run(context, pod, flags));
};

function countOption(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError(`${JSON.stringify(text)} is no number.`);
  return Number(text);
}

async function run(context: CliContext, name: string, flags: CaptureFlags): Promise<void> {
  const [{ withCluster, isEmbedded }, { captureCommands, readSegments }, { renderSegment }, { styleFor }] =
    await Promise.all([
      import('../cluster.ts'),
      import('../capture/capture.ts'),
      import('../capture/render.ts'),
      import('../style.ts'),
    ]);
  const { node, target } = await withCluster(context, flags, async ({ client, namespace }) => {
    if (!(await isEmbedded(client)))
      throw new MeshError(
        'REFUSED',
        'capture works on the mesh of this machine only; on another cluster use a debug container: kubectl debug -it POD --image=… --target=…',
      );
    const { findPod } = await import('../find-pod.ts');
    const pod = await findPod(client, name, flags.namespace ?? namespace);
    if (pod.spec.hostNetwork === true)
      throw new MeshError(
        'REFUSED',
        `pod ${pod.metadata.name} uses its node's network: it has no wire of its own`,
      );
    const podIps = (pod.status?.podIPs ?? []).map(({ ip }) => ip);
    if (podIps.length === 0) throw new MeshError('REFUSED', `pod ${pod.metadata.name} has no address yet`);
    return {
      node: pod.spec.nodeName ?? '',
      target: {
        podUid: pod.metadata.uid ?? '',
        podIps,
        enrolled: pod.metadata.annotations?.['ambient.istio.io/redirection'] === 'enabled',
      },
    };
  });
  const style = styleFor(context.out.isTerminal, context.env);
  const commands = captureCommands(target);
  const running = await Promise.all(
    (['pod', 'wire'] as const).map(async (place) => ({
      place,
      process: await context.actions.nodeSpawn(node, commands[place], flags),
    })),
  );
  const stop = (): void => {
    for (const { process } of running) process.stop();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  const timer = flags.duration === undefined ? undefined : setTimeout(stop, flags.duration);
  let left = flags.count ?? Number.POSITIVE_INFINITY;
  context.err.write(
    target.enrolled
      ? `pod: the application's side, inside the pod; wire: the uplink of node ${node}\n`
      : `this pod is not in the mesh: both sides are plain. pod: inside the pod; wire: the uplink of node ${node}\n`,
  );
  try {
    await Promise.all(
      running.map(({ place, process }) =>
        readSegments(process, (segment) => {
          if (left <= 0) return;
          left -= 1;
          context.out.write(`${renderSegment(place, segment, style)}\n`);
          if (left <= 0) stop();
        }),
      ),
    );
  } finally {
    clearTimeout(timer);
    stop();
  }
}
