// May this user make the machine's namespaces, and if not: which setting forbids it, and what lifts it. Reads facts of the
// system; the judgement over them is pure, because most of these systems are not the one at hand.

import { existsSync, readFileSync } from 'node:fs';
import { MeshError } from '#base/errors.ts';

/** Settings that an administrator may have turned against ordinary users, as names of `sysctl`. */
const SETTINGS = [
  // Debian's switch; absent elsewhere.
  'kernel.unprivileged_userns_clone',
  'kernel.apparmor_restrict_unprivileged_userns',
  'user.max_user_namespaces',
  'user.max_mnt_namespaces',
  'user.max_net_namespaces',
  'user.max_pid_namespaces',
] as const;

type Setting = (typeof SETTINGS)[number];

export interface RightsFacts {
  readonly uid: number;
  /** CAP_SYS_ADMIN and CAP_NET_ADMIN: namespaces can be made without a user namespace around them. */
  readonly isAdmin: boolean;
  readonly settings: Readonly<Partial<Record<Setting, string>>>;
  /** This process itself runs in a container. */
  readonly inContainer: boolean;
  /** A system call filter is active, as container runtimes set one. */
  readonly isFiltered: boolean;
  /** Parts of /proc are covered: the kernel then refuses a /proc of one's own (`mount_too_revealing`). */
  readonly isProcMasked: boolean;
  /** The kernel was built with user namespaces. */
  readonly hasUserNamespaces: boolean;
}

const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;

export function readRightsFacts(uid: number): RightsFacts {
  const status = readText('/proc/self/status') ?? '';
  const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const has = (capability: bigint): boolean => ((capabilities >> capability) & 1n) === 1n;
  const settings: Partial<Record<Setting, string>> = {};
  for (const name of SETTINGS) {
    const value = readText(`/proc/sys/${name.replace('.', '/')}`)?.trim();
    if (value !== undefined) settings[name] = value;
  }
  return {
    uid,
    isAdmin: uid === 0 && has(CAP_SYS_ADMIN) && has(CAP_NET_ADMIN),
    settings,
    inContainer: existsSync('/.dockerenv') || existsSync('/run/.containerenv'),
    isFiltered: /^Seccomp:\s*2/m.test(status),
    isProcMasked: maskedProcPaths(readText('/proc/self/mountinfo') ?? '').length > 0,
    hasUserNamespaces: existsSync('/proc/self/ns/user'),
  };
}

/** What is mounted over parts of /proc; binfmt_misc is a mount point made for it and covers nothing. */
export function maskedProcPaths(mountinfo: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith('/proc/') && !path.startsWith('/proc/sys/fs/binfmt_misc'));
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // this kernel has no such setting
  }
}

const AS_ROOT = 'run it as root';

/** Why a try of the machine's namespaces failed with these words (stderr of unshare, ip, nft), with the remedy. */
export function diagnoseNamespaces(said: string, facts: RightsFacts): MeshError {
  const forbidden = (why: string, remedy: string): MeshError =>
    new MeshError('NAMESPACES_FORBIDDEN', `${why}; ${remedy}`, { details: { said } });
  if (/mount \/proc failed/i.test(said)) {
    return facts.isProcMasked
      ? forbidden(
          'parts of /proc are masked here, so the machine cannot have a /proc of its own',
          containerRemedy('--security-opt systempaths=unconfined'),
        )
      : forbidden(`the machine cannot have a /proc of its own (${said})`, AS_ROOT);
  }
  if (/unshare failed|uid_map|gid_map|setgroups|not permitted|No space left/i.test(said))
    return forbiddenNamespaces(said, facts, forbidden);
  return new MeshError(
    'KERNEL_FEATURE_MISSING',
    `the kernel lacks what the emulated nodes need (${said}); load the modules: sudo modprobe -a veth bridge nf_tables`,
  );
}

function forbiddenNamespaces(
  said: string,
  { isAdmin, settings, inContainer, isFiltered, hasUserNamespaces }: RightsFacts,
  forbidden: (why: string, remedy: string) => MeshError,
): MeshError {
  const exhausted = SETTINGS.find((name) => name.startsWith('user.max_') && settings[name] === '0');
  if (exhausted !== undefined)
    return forbidden(
      `the setting ${exhausted}=0 forbids namespaces`,
      permanently(exhausted, '15000', isAdmin),
    );
  if (/No space left/i.test(said)) {
    return forbidden(
      `a limit on namespaces is reached (${said})`,
      'end other machines or containers of this user, or raise the settings user.max_*_namespaces (sysctl user)',
    );
  }
  if (isAdmin) {
    return forbidden(
      `root may not make namespaces here (${said})`,
      inContainer ? containerRemedy('--privileged') : 'a security module or system call filter is in the way',
    );
  }
  if (!hasUserNamespaces) return forbidden('this kernel has no user namespaces (CONFIG_USER_NS)', AS_ROOT);
  if (settings['kernel.unprivileged_userns_clone'] === '0') {
    return forbidden(
      'the setting kernel.unprivileged_userns_clone=0 keeps ordinary users from making namespaces',
      permanently('kernel.unprivileged_userns_clone', '1', isAdmin),
    );
  }
  if (settings['kernel.apparmor_restrict_unprivileged_userns'] === '1') {
    return forbidden(
      'AppArmor takes all rights from namespaces of ordinary users (kernel.apparmor_restrict_unprivileged_userns=1)',
      permanently('kernel.apparmor_restrict_unprivileged_userns', '0', isAdmin),
    );
  }
  if (inContainer || isFiltered) {
    return forbidden(
      `this container may not make namespaces (${said})`,
      containerRemedy(
        '--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined',
      ),
    );
  }
  return forbidden(`this user may not make namespaces (${said})`, AS_ROOT);
}

function permanently(setting: string, value: string, isAdmin: boolean): string {
  const sudo = isAdmin ? '' : 'sudo ';
  return `lift it with: ${sudo}sysctl -w ${setting}=${value} (to keep it: echo ${setting}=${value} | ${sudo}tee /etc/sysctl.d/90-culvert.conf)${isAdmin ? '' : `, or ${AS_ROOT}`}`;
}

function containerRemedy(options: string): string {
  return `start the container with: docker run ${options} (podman takes the same), or use the machine itself`;
}
