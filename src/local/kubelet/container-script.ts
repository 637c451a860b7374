// The shell script that turns a fresh mount namespace into a container and then runs its program (pure text).
//
// The script stays as the program's parent: it writes the exit code down, so that a LOCAL that was started again learns how
// a container ended in its absence. It traps TERM (a handler, not "ignore": the program starts with the default action), and
// runs the program in the foreground, where a shell does not touch its signals.
//
// Descriptors given by the kubelet: 1 the program's stdout, 2 a file for the script's own complaints, 3 the exit file,
// 4 the program's stderr. A container on a terminal has none of 1 and 4, and the terminal's master as 5, kept for LOCAL's next life.

import { quote } from '#local/machine/node-root.ts';
import type { Tools } from '#local/machine/tools.ts';
import { TERMINAL_FD } from './container-io.ts';

export interface BindMount {
  /** A path of the node. */
  readonly source: string;
  /** A path of the container. */
  readonly target: string;
  readonly kind: 'dir' | 'file';
  readonly readOnly: boolean;
}

export interface ContainerPlan {
  readonly mounts: readonly BindMount[];
  /** Empty directories of the node; the container's own /run and /tmp are built on them. */
  readonly stageDirs: { readonly run: string; readonly tmp: string };
  /** Paths below /run or /tmp that every container needs (the project when it lives there). */
  readonly keepPaths: readonly string[];
  /** Hidden from the container: other pods' tokens and secrets. */
  readonly maskDirs: readonly string[];
  readonly workingDir: string;
  /** Path of the terminal that takes the place of all three streams. */
  readonly terminal?: string;
}

export const STARTED_MARK = 'started';

/** `/var/run` is a link to `/run` on every node. */
export function canonicalTarget(path: string): string {
  const clean = path.replace(/\/+/g, '/').replace(/(?<=.)\/$/, '');
  return clean === '/var/run' || clean.startsWith('/var/run/') ? clean.slice('/var'.length) : clean;
}

export function renderContainerScript(tools: Tools, plan: ContainerPlan): string {
  // -n: without it util-linux wants to write /run/mount, which just moved.
  const mount = `${tools.mount} -n`;
  const { run, tmp } = plan.stageDirs;
  const covers: readonly (readonly [string, string])[] = [
    ['/run', run],
    ['/tmp', tmp],
  ];
  const lines = ['set -e'];
  for (const [, stage] of covers) lines.push(`${mount} -t tmpfs -o mode=1777 container ${quote(stage)}`);
  const staged = (target: string): string => {
    const cover = covers.find(([top]) => target === top || target.startsWith(`${top}/`));
    return cover === undefined ? target : cover[1] + target.slice(cover[0].length);
  };
  const bind = ({ source, target, kind, readOnly }: BindMount): void => {
    const at = quote(staged(target));
    lines.push(
      kind === 'dir'
        ? `[ -d ${at} ] || mkdir -p ${at}`
        : `[ -e ${at} ] || { mkdir -p "$(dirname ${at})"; : > ${at}; }`,
      `${mount} --rbind${readOnly ? ' -o ro' : ''} ${quote(source)} ${at}`,
    );
  };
  for (const path of plan.keepPaths) {
    if (covers.some(([top]) => path.startsWith(`${top}/`)))
      bind({ source: path, target: path, kind: 'dir', readOnly: false });
  }
  // Outer targets first, or they would cover the inner ones. What a target covers and another mount still needs as its
  // source is held in a place of its own until then.
  const covered = plan.mounts.filter((binding) =>
    plan.mounts.some(
      (other) =>
        other !== binding &&
        staged(other.target) === other.target &&
        (binding.source === other.target || binding.source.startsWith(`${other.target}/`)),
    ),
  );
  const held = (binding: BindMount): string => `${run}/.source-${covered.indexOf(binding)}`;
  for (const binding of covered) {
    const at = quote(held(binding));
    lines.push(
      binding.kind === 'dir' ? `mkdir ${at}` : `: > ${at}`,
      `${mount} --rbind ${quote(binding.source)} ${at}`,
    );
  }
  for (const binding of [...plan.mounts].sort((a, b) => a.target.length - b.target.length))
    bind(covered.includes(binding) ? { ...binding, source: held(binding) } : binding);
  for (const binding of covered) {
    const at = quote(held(binding));
    lines.push(`${tools.umount} -n -l ${at}`, `${binding.kind === 'dir' ? 'rmdir' : 'rm'} ${at}`);
  }
  for (const [top, stage] of covers) lines.push(`${mount} --move ${quote(stage)} ${top}`);
  for (const dir of plan.maskDirs) lines.push(`${mount} -t tmpfs -o ro,mode=0 masked ${quote(dir)}`);
  lines.push(
    `cd ${quote(plan.workingDir)}`,
    'set +e',
    // A terminal sends its keys' signals to the shell, too.
    plan.terminal === undefined ? 'trap : TERM HUP INT' : 'trap : TERM HUP INT QUIT',
    `echo ${STARTED_MARK} >&3`,
    // Opened by the leader of the session it becomes the controlling terminal.
    ...(plan.terminal === undefined
      ? ['"$@" 2>&4 3>&- 4>&-']
      : [
          `exec 0<>${quote(plan.terminal)}`,
          // A process of its own from the start: for a plain command some shells move their own descriptors aside.
          `( exec "$@" >&0 2>&0 3>&- 4>&- ${TERMINAL_FD}>&- )`,
        ]),
    'echo $? >&3',
  );
  return `${lines.join('\n')}\n`;
}

export type ExitRecord =
  | { readonly kind: 'not-started' }
  | { readonly kind: 'no-code' }
  | { readonly kind: 'exited'; readonly code: number };

/** What the exit file of a container that is gone tells; without a code the script itself was killed. */
export function parseExitFile(text: string): ExitRecord {
  const [mark, code] = text.split('\n');
  if (mark !== STARTED_MARK) return { kind: 'not-started' };
  return code !== undefined && /^\d+$/.test(code)
    ? { kind: 'exited', code: Number(code) }
    : { kind: 'no-code' };
}
