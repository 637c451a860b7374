// The volumes of a pod as directories of its node. Written again whenever a source changes; a source that is missing holds
// the pod back with a reason.

import { existsSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ConfigMap, Pod, Secret, Volume } from '#k8s/objects.ts';
import { type FileSet, writeAtomically } from './atomic-dir.ts';
import { fieldValue, type PodFacts } from './env.ts';
import type { ObjectSource } from './object-source.ts';
import type { PodTokens } from './tokens.ts';

export interface VolumeContext {
  /** The node's `/`, as LOCAL sees it. */
  readonly nodeRoot: string;
  /** The pod's directory, as a path of the node. */
  readonly podDir: string;
  readonly facts: PodFacts;
  readonly source: ObjectSource;
  readonly tokens: PodTokens;
}

export type VolumesResult =
  /** Volume name → path of the node. */
  | { readonly kind: 'ready'; readonly paths: ReadonlyMap<string, string> }
  | { readonly kind: 'waiting'; readonly message: string };

/** Makes or refreshes every volume. @throws MeshError when the API refuses a token. */
export async function syncVolumes(pod: Pod, context: VolumeContext): Promise<VolumesResult> {
  const paths = new Map<string, string>();
  for (const volume of pod.spec.volumes ?? []) {
    const result = await syncVolume(pod, volume, context);
    if (result.kind === 'waiting')
      return {
        kind: 'waiting',
        message: `MountVolume.SetUp failed for volume "${volume.name}": ${result.message}`,
      };
    paths.set(volume.name, result.path);
  }
  return { kind: 'ready', paths };
}

type VolumeResult =
  | { readonly kind: 'ready'; readonly path: string }
  | { readonly kind: 'waiting'; readonly message: string };

async function syncVolume(pod: Pod, volume: Volume, context: VolumeContext): Promise<VolumeResult> {
  if (volume.hostPath !== undefined) return hostPath(volume.hostPath, context.nodeRoot);
  const path = `${context.podDir}/volumes/${volume.name}`;
  const dir = join(context.nodeRoot, path);
  if (volume.emptyDir !== undefined) {
    await mkdir(dir, { recursive: true });
    return { kind: 'ready', path };
  }
  const files = new Map<string, string | Uint8Array>();
  const problem = await collectFiles(pod, volume, context, files);
  if (problem !== undefined) return { kind: 'waiting', message: problem };
  await writeAtomically(dir, files satisfies FileSet);
  return { kind: 'ready', path };
}

/** Fills `files`; returns what is missing. */
async function collectFiles(
  pod: Pod,
  volume: Volume,
  { source, tokens, facts }: VolumeContext,
  files: Map<string, string | Uint8Array>,
): Promise<string | undefined> {
  const namespace = pod.metadata.namespace ?? 'default';
  if (volume.configMap !== undefined)
    return addConfigMap(source.configMap(namespace, volume.configMap.name), volume.configMap, files);
  if (volume.secret !== undefined) {
    const { secretName: name, ...rest } = volume.secret;
    return addSecret(source.secret(namespace, name), { name, ...rest }, files);
  }
  if (volume.projected === undefined) return 'this kind of volume does not exist in local mode';
  for (const part of volume.projected.sources) {
    let problem: string | undefined;
    if (part.configMap !== undefined)
      problem = addConfigMap(source.configMap(namespace, part.configMap.name), part.configMap, files);
    if (part.secret !== undefined)
      problem = addSecret(source.secret(namespace, part.secret.name), part.secret, files);
    if (part.serviceAccountToken !== undefined)
      files.set(part.serviceAccountToken.path, await tokens.get(pod, part.serviceAccountToken));
    for (const item of part.downwardAPI?.items ?? []) {
      const value = fieldValue(pod, item.fieldRef.fieldPath, facts);
      if (value === undefined) problem = `field ${item.fieldRef.fieldPath} is not supported`;
      else files.set(item.path, value);
    }
    if (problem !== undefined) return problem;
  }
  return undefined;
}

interface KeyedSource {
  readonly name: string;
  readonly optional?: boolean;
  readonly items?: readonly { readonly key: string; readonly path: string }[];
}

function addConfigMap(
  found: ConfigMap | undefined,
  wanted: KeyedSource,
  files: Map<string, string | Uint8Array>,
): string | undefined {
  if (found === undefined)
    return wanted.optional === true ? undefined : `configmap "${wanted.name}" not found`;
  return addItems('configmap', wanted, found.data ?? {}, (value) => value, files);
}

function addSecret(
  found: Secret | undefined,
  wanted: KeyedSource,
  files: Map<string, string | Uint8Array>,
): string | undefined {
  if (found === undefined) return wanted.optional === true ? undefined : `secret "${wanted.name}" not found`;
  return addItems('secret', wanted, found.data ?? {}, (value) => Buffer.from(value, 'base64'), files);
}

function addItems(
  what: string,
  wanted: KeyedSource,
  data: Readonly<Record<string, string>>,
  decode: (value: string) => string | Uint8Array,
  files: Map<string, string | Uint8Array>,
): string | undefined {
  const items = wanted.items ?? Object.keys(data).map((key) => ({ key, path: key }));
  for (const { key, path } of items) {
    const value = data[key];
    if (value !== undefined) files.set(path, decode(value));
    else if (wanted.optional !== true) return `${what} "${wanted.name}" has no key "${key}"`;
  }
  return undefined;
}

async function hostPath(
  { path, type = '' }: { readonly path: string; readonly type?: string },
  nodeRoot: string,
): Promise<VolumeResult> {
  // `/var/run` links to `/run` of the node; seen from here it would lead into the machine's own /run.
  const nodePath = path.replace(/^\/var\/run(?=\/|$)/, '/run');
  const real = join(nodeRoot, nodePath);
  if (!existsSync(real)) {
    if (!isNodeOwn(nodeRoot, nodePath))
      return {
        kind: 'waiting',
        message: `${path} does not exist and belongs to the host, where local mode makes nothing`,
      };
    switch (type) {
      case '':
      case 'DirectoryOrCreate':
        await mkdir(real, { recursive: true, mode: 0o755 });
        break;
      case 'FileOrCreate':
        await mkdir(dirname(real), { recursive: true, mode: 0o755 });
        await writeFile(real, '', { flag: 'a' });
        break;
      default:
        return {
          kind: 'waiting',
          message: `hostPath type check failed: ${path} is not a ${type} of this node`,
        };
    }
  }
  const stat = statSync(real);
  if (type.startsWith('Directory') && !stat.isDirectory())
    return { kind: 'waiting', message: `hostPath type check failed: ${path} is not a directory` };
  return { kind: 'ready', path: nodePath };
}

/** Whether a path that does not exist yet would be made on the node's own file system and not on the host's. */
export function isNodeOwn(nodeRoot: string, nodePath: string): boolean {
  let at = join(nodeRoot, nodePath);
  while (!existsSync(at)) at = dirname(at);
  return statSync(at).dev === statSync(`${nodeRoot}/`).dev;
}
