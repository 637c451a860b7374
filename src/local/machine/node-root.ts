// The file system of an emulated node, as the text of one shell script that its keeper runs (pure; nothing is run here).
//
// A tmpfs becomes the root of a mount namespace of its own. Host directories are bound into it; /run, /tmp, /var, /etc,
// /opt and /root are the node's own. So a hostPath volume is simply a path of the node, mount points can be made without touching the
// host, and what one node's agents write (/opt/cni/bin, /etc/cni/net.d, /var/run/ztunnel) the other node never sees.
// The tree is built before pivot_root while all mounts are private, and becomes shared after it: containers are slaves of
// it and see pod namespaces pinned later at /run/netns. The machine itself needs no mount: it reaches a node's files through
// /proc/KEEPER/root.

import { dirname } from 'node:path';
import { NODE_VOLUMES_DIR } from '#k8s/storage.ts';
import type { Tools } from './tools.ts';

/**
 * Never taken from the host. `/opt` is rebuilt entry by entry because CNI plugins live in /opt/cni; `/root` is the home of
 * every container, and the host's is either closed to the user of the machine or none of a pod's business.
 */
const PRIVATE_DIRS = ['run', 'tmp', 'var', 'etc', 'proc', 'sys', 'dev', 'opt', 'root', 'lost+found'];
/** Devices that programs use; disks and consoles of the host are none of a pod's business. */
const DEVICES = [
  'null',
  'zero',
  'full',
  'random',
  'urandom',
  'tty',
  'ptmx',
  'console',
  'kmsg',
  'fuse',
  'kvm',
];
export const KEEPER_READY = 'node root ready';

export interface NodeRootPlan {
  /** An existing directory of the host where the tmpfs is mounted while the root is built; unused afterwards. */
  readonly buildDir: string;
  /** Paths that programs of the node need wherever they are: the project, the Node binary. */
  readonly keepPaths: readonly string[];
  /** An existing directory of the host for what a node keeps over restarts of the machine (subdirectories `net.d`, `bin`, `volumes`). */
  readonly keptDir: string;
}

export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** One of the directories that every node has for itself, which the host's must not cover. */
export function isNodesOwn(dir: string): boolean {
  return PRIVATE_DIRS.includes(dir.slice(1));
}

/** Paths inside a private directory must be bound one by one; the others come with their top-level directory. */
export function hiddenPaths(paths: readonly string[]): string[] {
  return paths.filter((path) => PRIVATE_DIRS.includes(path.split('/')[1] ?? ''));
}

export function keepPathsFor(root: string, node: string, others: readonly string[] = []): string[] {
  const wanted = [...new Set([root, dirname(node), ...others])];
  // What lies in another one comes with it.
  return wanted.filter((path) => !wanted.some((other) => other !== path && path.startsWith(`${other}/`)));
}

export function renderNodeRoot(tools: Tools, plan: NodeRootPlan): string {
  // -n: no table of mounts below /run is wanted, here or on the host.
  const mount = `${tools.mount} -n`;
  const umount = `${tools.umount} -n`;
  const root = quote(plan.buildDir);
  const keep = hiddenPaths(plan.keepPaths).map(
    (path) => `mkdir -p ${root}${quote(path)}\n${mount} --rbind ${quote(path)} ${root}${quote(path)}`,
  );
  return `set -eu
${mount} -t tmpfs -o mode=755 culvert-node ${root}
for dir in /*; do
  name=\${dir#/}
  case $name in ${PRIVATE_DIRS.map((name) => `'${name}'`).join(' | ')}) continue ;; esac
  if [ -L "$dir" ]; then cp -P "$dir" ${root}/"$name"
  elif [ -d "$dir" ]; then mkdir ${root}/"$name"; ${mount} --rbind "$dir" ${root}/"$name"
  fi
done
cd ${root}
mkdir -p run/netns run/lock tmp var/lib/kubelet var/log var/tmp etc/cni/net.d opt/cni/bin proc sys dev host-etc .old
mkdir -m 700 root
chmod 1777 tmp var/tmp
ln -s /run var/run
${mount} --rbind /etc host-etc
for dir in /opt/*; do
  name=\${dir#/opt/}
  case $name in cni) continue ;; esac
  if [ -d "$dir" ] && [ ! -L "$dir" ]; then mkdir opt/"$name"; ${mount} --rbind "$dir" opt/"$name"; fi
done
${keep.join('\n')}
# A host directory that holds the build directory brought a copy of this very tree with it.
if [ -d ${quote(`.${plan.buildDir}`)}/proc ]; then ${umount} -R -l ${quote(`.${plan.buildDir}`)}; fi
# A node's CNI configuration outlives a restart, as on a disk: until the agent runs again, pods fail closed.
${mount} --bind ${quote(`${plan.keptDir}/net.d`)} etc/cni/net.d
${mount} --bind ${quote(`${plan.keptDir}/bin`)} opt/cni/bin
mkdir -p .${NODE_VOLUMES_DIR}
${mount} --bind ${quote(`${plan.keptDir}/volumes`)} .${NODE_VOLUMES_DIR}
# Of its own, so that a container's termination message has a place in it that is none on the host.
${mount} -t tmpfs -o mode=755 node-dev dev
for entry in /dev/*; do
  name=\${entry#/dev/}
  if [ -L "$entry" ]; then cp -P "$entry" dev/"$name"
  elif [ -d "$entry" ]; then mkdir dev/"$name"; ${mount} --rbind "$entry" dev/"$name"
  else case $name in ${DEVICES.join(' | ')}) : > dev/"$name"; ${mount} --bind "$entry" dev/"$name" ;; esac
  fi
done
: > dev/termination-log
${mount} --rbind /sys sys
${mount} -t proc proc proc
${tools.pivot_root} . .old
${umount} -l /.old
rmdir /.old
${mount} --make-rshared /
echo '${KEEPER_READY}'
exec ${tools.sleep} infinity >/dev/null 2>&1
`;
}
