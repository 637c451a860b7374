// From a pod's spec to what one container needs: command line, environment, mounts; or the reason why it cannot start yet.

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Container, Pod } from '#k8s/objects.ts';
import type { EmulatedNode } from '#local/machine/node.ts';
import { ADDRESSES, nodeAddresses } from '#local/machine/plan.ts';
import { DEFAULT_PATH } from '#local/machine/tools.ts';
import { formatHostPort } from '#net/host-port.ts';
import type { ContainerSpec } from './container.ts';
import { type BindMount, canonicalTarget } from './container-script.ts';
import { containerEnv, type EnvSource, expand } from './env.ts';
import { type ImageOptions, resolveImage } from './images.ts';
import { hostnameOf, podDirOf, type Sandbox } from './sandbox.ts';
import { terminationFile } from './termination-message.ts';
import { isNodeOwn } from './volumes.ts';

export interface PlanContext {
  readonly node: EmulatedNode;
  readonly images: ImageOptions;
  readonly keepPaths: readonly string[];
  readonly source: EnvSource;
  readonly sandbox: Sandbox;
  readonly allocatable: Readonly<Record<string, string>>;
  /** Volume name → path of the node. */
  readonly volumes: ReadonlyMap<string, string>;
}

export type PlanResult =
  | { readonly kind: 'spec'; readonly spec: ContainerSpec }
  /** `reason` is Kubernetes' own: ErrImagePull, CreateContainerConfigError. */
  | { readonly kind: 'held'; readonly reason: string; readonly message: string };

const API_HTTPS_PORT = 443;

export function planContainer(pod: Pod, container: Container, context: PlanContext): PlanResult {
  const { node, sandbox, source } = context;
  const command = resolveImage(container, context.images);
  if (command.kind === 'unknown-image')
    return { kind: 'held', reason: 'ErrImagePull', message: command.message };
  const facts = {
    podIps: sandbox.podIps,
    hostIps: nodeAddresses(node.plan),
    nodeName: node.plan.name,
    allocatable: context.allocatable,
  };
  const environment = containerEnv(pod, container, facts, source, {
    ...baseEnv(hostnameOf(pod, node.plan.name), ADDRESSES[node.plan.networks[0].family].apiService),
    ...(container.tty === true ? { TERM: 'xterm' } : {}),
    ...command.env,
  });
  if (environment.kind === 'missing')
    return { kind: 'held', reason: 'CreateContainerConfigError', message: environment.message };
  const expanded = (texts: readonly string[] | undefined): string[] =>
    (texts ?? []).map((text) => expand(text, environment.env));
  const final = resolveImage(
    { ...container, command: expanded(container.command), args: expanded(container.args) },
    context.images,
  );
  if (final.kind === 'unknown-image') return { kind: 'held', reason: 'ErrImagePull', message: final.message };
  const mounts = mountsOf(pod, container, context);
  if (typeof mounts === 'string')
    return { kind: 'held', reason: 'CreateContainerConfigError', message: mounts };

  const podDir = podDirOf(pod.metadata.uid ?? '');
  return {
    kind: 'spec',
    spec: {
      name: container.name,
      dir: containerDir(pod, container.name),
      argv: final.argv,
      env: environment.env,
      netnsPath: sandbox.netnsPath,
      terminal: container.tty === true,
      input: container.stdin !== true ? 'none' : container.stdinOnce === true ? 'once' : 'open',
      plan: {
        mounts,
        stageDirs: { run: `${podDir}/run`, tmp: `${podDir}/tmp` },
        keepPaths: context.keepPaths,
        maskDirs: ['/var/lib/kubelet'],
        workingDir: container.workingDir ?? command.workingDir ?? '/',
      },
    },
  };
}

/** As a path of the node. */
export function containerDir(pod: Pod, name: string): string {
  return `${podDirOf(pod.metadata.uid ?? '')}/containers/${name}`;
}

function baseEnv(hostname: string, apiAddress: string): Record<string, string> {
  return {
    PATH: DEFAULT_PATH,
    HOME: '/root',
    HOSTNAME: hostname,
    // One malloc arena instead of one per thread: half a megabyte less in each of a dozen processes.
    MALLOC_ARENA_MAX: '1',
    KUBERNETES_SERVICE_HOST: apiAddress,
    KUBERNETES_SERVICE_PORT: String(API_HTTPS_PORT),
    KUBERNETES_SERVICE_PORT_HTTPS: String(API_HTTPS_PORT),
    KUBERNETES_PORT: `tcp://${formatHostPort(apiAddress, API_HTTPS_PORT)}`,
  };
}

/** The mounts, or a sentence that says why one cannot be made. */
function mountsOf(pod: Pod, container: Container, context: PlanContext): BindMount[] | string {
  const { node, volumes } = context;
  const etc = `${podDirOf(pod.metadata.uid ?? '')}/etc`;
  const mounts: BindMount[] = ['resolv.conf', 'hosts', 'hostname'].map((name) => ({
    source: `${etc}/${name}`,
    target: `/etc/${name}`,
    kind: 'file',
    readOnly: false,
  }));
  const nowhere = (what: string): string =>
    `${what} does not exist and belongs to the host, where local mode makes nothing; choose a path below /run, /tmp, /var, /etc or a new top-level directory`;
  const canBe = (target: string): boolean =>
    /^\/(run|tmp)(\/|$)/.test(target) ||
    existsSync(join(node.rootPath, target)) ||
    isNodeOwn(node.rootPath, target);
  const { terminationMessagePath = '' } = container;
  if (terminationMessagePath !== '') {
    const target = canonicalTarget(terminationMessagePath);
    if (!canBe(target)) return nowhere(`terminationMessagePath ${terminationMessagePath}`);
    const source = terminationFile(containerDir(pod, container.name));
    mounts.push({ source, target, kind: 'file', readOnly: false });
  }
  for (const { name, mountPath, subPath = '', readOnly = false } of container.volumeMounts ?? []) {
    const volume = volumes.get(name);
    if (volume === undefined) return `volumeMount ${mountPath}: the pod has no volume "${name}"`;
    if (subPath.split('/').includes('..')) return `volumeMount ${mountPath}: subPath must not contain '..'`;
    const source = join(volume, subPath);
    const target = canonicalTarget(mountPath);
    const real = join(node.rootPath, source);
    if (!existsSync(real)) return `volumeMount ${mountPath}: ${subPath} does not exist in volume "${name}"`;
    if (!canBe(target)) return nowhere(`volumeMount ${mountPath}`);
    const claim = pod.spec.volumes?.find((each) => each.name === name)?.persistentVolumeClaim;
    const kind = statSync(real).isDirectory() ? 'dir' : 'file';
    mounts.push({ source, target, kind, readOnly: readOnly || claim?.readOnly === true });
  }
  return mounts;
}
