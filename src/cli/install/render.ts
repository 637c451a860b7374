// From settings to the objects of the mesh: the manifests of deploy/, with labels by which they are found again, images,
// and what was set. Reads files, asks no server.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError } from '#base/errors.ts';
import { parseManifests } from '#k8s/manifests.ts';
import type { Container, DaemonSet, Deployment, KubeObject } from '#k8s/objects.ts';
import type { InstallSettings, Profile, Program } from './settings.ts';

/** What install made carries these, and uninstall removes what carries them. */
export const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'culvert' } as const;
export const MANAGED_SELECTOR = 'app.kubernetes.io/managed-by=culvert';

export interface Component {
  readonly id: 'base' | Program;
  readonly title: string;
  readonly objects: readonly KubeObject[];
}

interface Part {
  readonly id: Component['id'];
  readonly title: string;
  /** A file of deploy/, or a folder of files. */
  readonly path: string;
  readonly profiles: readonly Profile[];
  /** The bundle `local/NAME`, and the first argument of an image's entry point. */
  readonly program?: string;
}

/** In the order in which they are installed. */
const PARTS: readonly Part[] = [
  { id: 'base', title: 'definitions of its kinds', path: 'crds', profiles: ['ambient', 'minimal'] },
  {
    id: 'istiod',
    title: 'control plane and certificate authority (istiod)',
    path: 'istiod.yaml',
    profiles: ['ambient', 'minimal'],
    program: 'control',
  },
  {
    id: 'istio-cni',
    title: 'CNI agent of every node (istio-cni)',
    path: 'istio-cni.yaml',
    profiles: ['ambient'],
    program: 'cni',
  },
  {
    id: 'ztunnel',
    title: 'node proxies (ztunnel)',
    path: 'ztunnel.yaml',
    profiles: ['ambient'],
    program: 'ztunnel',
  },
];

/** @throws MeshError MANIFEST_INVALID, CONFIG_INVALID when the manifests are missing */
export function renderMesh(projectDir: string, version: string, settings: InstallSettings): Component[] {
  return PARTS.filter(({ profiles }) => profiles.includes(settings.profile)).map((part) => ({
    id: part.id,
    title: part.title,
    objects: readManifests(join(projectDir, 'deploy', part.path)).map((object) =>
      labelled(isWorkload(object) ? adjusted(object, part, settings) : object, version),
    ),
  }));
}

export function readManifests(path: string): KubeObject[] {
  try {
    const files = path.endsWith('.yaml')
      ? [path]
      : readdirSync(path)
          .filter((name) => name.endsWith('.yaml'))
          .sort()
          .map((name) => join(path, name));
    return files.flatMap((file) => parseManifests(readFileSync(file, 'utf8'), file));
  } catch (error) {
    throw MeshError.from(error, 'CONFIG_INVALID', `the manifests in ${path} cannot be read`);
  }
}

export type Workload = Deployment | DaemonSet;

export const isWorkload = (object: KubeObject): object is Workload =>
  object.kind === 'Deployment' || object.kind === 'DaemonSet';

function labelled(object: KubeObject, version: string): KubeObject {
  const labels = {
    ...object.metadata.labels,
    'app.kubernetes.io/part-of': 'culvert',
    ...MANAGED_BY,
    'app.kubernetes.io/version': version,
  };
  return { ...object, metadata: { ...object.metadata, labels } };
}

function adjusted(object: Workload, part: Part, settings: InstallSettings): Workload {
  const copy = structuredClone(object);
  const pod = copy.spec.template.spec;
  for (const container of pod.containers) {
    if (settings.image !== undefined && part.program !== undefined) {
      container.image = settings.image;
      container.args = [part.program];
    }
    for (const [name, value] of part.id === 'base' ? [] : settings.env[part.id])
      setVariable(container, name, value);
  }
  if (part.id === 'ztunnel' && settings.drainSeconds !== undefined) {
    Object.assign(pod, { terminationGracePeriodSeconds: settings.drainSeconds });
    for (const container of pod.containers)
      setVariable(container, 'TERMINATION_GRACE_PERIOD_SECONDS', String(settings.drainSeconds));
  }
  for (const [volume, path] of [
    ['cni-bin', settings.cniBinDir],
    ['cni-net', settings.cniConfDir],
  ] as const) {
    const hostPath = pod.volumes?.find(({ name }) => name === volume)?.hostPath;
    if (hostPath !== undefined && path !== undefined) hostPath.path = path;
  }
  return copy;
}

function setVariable(container: Container, name: string, value: string): void {
  const env = (container.env ?? []).filter((variable) => variable.name !== name);
  container.env = [...env, { name, value }];
}
