// The volumes of a pod as directories of its node. Written again whenever a source changes; a source that is missing holds
// the pod back with a reason.

import { existsSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ConfigMap, DownwardFile, KeyToPath, Node, Pod, Secret, Volume } from '#k8s/objects.ts';
import { NODE_VOLUMES_DIR } from '#k8s/storage.ts';
import { type FileEntry, writeAtomically } from './atomic-dir.ts';
import { claimVolume } from './claim-volume.ts';
import { fieldValue, type PodFacts, resourceValue } from './env.ts';
import type { ObjectSource } from './object-source.ts';
import type { PodTokens } from './tokens.ts';

const FILE_MODE = 0o644;

export interface VolumeContext {
  /** The node's `/`, as LOCAL sees it. */
  readonly nodeRoot: string;
  /** The pod's directory, as a path of the node. */
  readonly podDir: string;
  readonly facts: PodFacts;
  /** Its name and labels. */
  readonly node: Pick<Node, 'metadata'>;
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
  if (volume.persistentVolumeClaim !== undefined) {
    const { claimName } = volume.persistentVolumeClaim;
    const found = claimVolume(pod, claimName, context.source, context.node);
    return found.kind === 'path' ? hostPath(found, context.nodeRoot) : found;
  }
  const path = `${context.podDir}/volumes/${volume.name}`;
  const dir = join(context.nodeRoot, path);
  if (volume.emptyDir !== undefined) {
    await mkdir(dir, { recursive: true });
    return { kind: 'ready', path };
  }
  const files = new Map<string, FileEntry>();
  const problem = await collectFiles(pod, volume, context, files);
  if (problem !== undefined) return { kind: 'waiting', message: problem };
  await writeAtomically(dir, files);
  return { kind: 'ready', path };
}

/** Fills `files`; returns what is missing. */
async function collectFiles(
  pod: Pod,
  volume: Volume,
  context: VolumeContext,
  files: Map<string, FileEntry>,
): Promise<string | undefined> {
  const { source, tokens } = context;
  const namespace = pod.metadata.namespace ?? 'default';
  const { configMap, secret, downwardAPI, projected } = volume;
  if (configMap !== undefined)
    return addConfigMap(source.configMap(namespace, configMap.name), configMap, configMap.defaultMode, files);
  if (secret !== undefined) {
    const { secretName: name, ...rest } = secret;
    return addSecret(source.secret(namespace, name), { name, ...rest }, secret.defaultMode, files);
  }
  if (downwardAPI !== undefined)
    return addDownward(pod, downwardAPI.items, context, downwardAPI.defaultMode, files);
  if (projected === undefined) return 'this kind of volume does not exist in local mode';
  const { defaultMode } = projected;
  for (const part of projected.sources) {
    let problem: string | undefined;
    if (part.configMap !== undefined)
      problem = addConfigMap(
        source.configMap(namespace, part.configMap.name),
        part.configMap,
        defaultMode,
        files,
      );
    if (part.secret !== undefined)
      problem = addSecret(source.secret(namespace, part.secret.name), part.secret, defaultMode, files);
    if (part.serviceAccountToken !== undefined)
      files.set(part.serviceAccountToken.path, {
        content: await tokens.get(pod, part.serviceAccountToken),
        mode: defaultMode ?? FILE_MODE,
      });
    problem ??= addDownward(pod, part.downwardAPI?.items, context, defaultMode, files);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function addDownward(
  pod: Pod,
  items: readonly DownwardFile[] | undefined,
  { facts }: VolumeContext,
  defaultMode: number | undefined,
  files: Map<string, FileEntry>,
): string | undefined {
  for (const { path, mode, fieldRef, resourceFieldRef } of items ?? []) {
    const container = pod.spec.containers.find(({ name }) => name === resourceFieldRef?.containerName);
    const content =
      fieldRef !== undefined
        ? fieldValue(pod, fieldRef.fieldPath, facts)
        : resourceFieldRef === undefined
          ? undefined
          : resourceValue(container, resourceFieldRef, facts);
    if (content === undefined)
      return `field ${fieldRef?.fieldPath ?? resourceFieldRef?.resource} of ${path} is not supported`;
    files.set(path, { content, mode: mode ?? defaultMode ?? FILE_MODE });
  }
  return undefined;
}

interface KeyedSource {
  readonly name: string;
  readonly optional?: boolean;
  readonly items?: readonly KeyToPath[];
}

function addConfigMap(
  found: ConfigMap | undefined,
  wanted: KeyedSource,
  defaultMode: number | undefined,
  files: Map<string, FileEntry>,
): string | undefined {
  if (found === undefined)
    return wanted.optional === true ? undefined : `configmap "${wanted.name}" not found`;
  const data = new Map<string, string | Uint8Array>(Object.entries(found.data ?? {}));
  for (const [key, value] of Object.entries(found.binaryData ?? {}))
    data.set(key, Buffer.from(value, 'base64'));
  return addItems('configmap', wanted, data, defaultMode, files);
}

function addSecret(
  found: Secret | undefined,
  wanted: KeyedSource,
  defaultMode: number | undefined,
  files: Map<string, FileEntry>,
): string | undefined {
  if (found === undefined) return wanted.optional === true ? undefined : `secret "${wanted.name}" not found`;
  const data = Object.entries(found.data ?? {}).map(
    ([key, value]) => [key, Buffer.from(value, 'base64')] as const,
  );
  return addItems('secret', wanted, new Map(data), defaultMode, files);
}

function addItems(
  what: string,
  wanted: KeyedSource,
  data: ReadonlyMap<string, string | Uint8Array>,
  defaultMode: number | undefined,
  files: Map<string, FileEntry>,
): string | undefined {
  const items: readonly KeyToPath[] = wanted.items ?? [...data.keys()].map((key) => ({ key, path: key }));
  for (const { key, path, mode } of items) {
    const content = data.get(key);
    if (content !== undefined) files.set(path, { content, mode: mode ?? defaultMode ?? FILE_MODE });
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
  // On the host, but made for the node.
  if (nodePath.startsWith(`${NODE_VOLUMES_DIR}/`)) return true;
  let at = join(nodeRoot, nodePath);
  while (!existsSync(at)) at = dirname(at);
  return statSync(at).dev === statSync(`${nodeRoot}/`).dev;
}
