import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnoseNamespaces, maskedProcPaths, type RightsFacts, readRightsFacts } from './rights.ts';

const ORDINARY: RightsFacts = {
  uid: 1000,
  isAdmin: false,
  settings: { 'user.max_user_namespaces': '63000' },
  inContainer: false,
  isFiltered: false,
  isProcMasked: false,
  hasUserNamespaces: true,
};
const EPERM = 'unshare: unshare failed: Operation not permitted';

/** What the program says → what the person reads, by the system it happens on. */
const CASES: readonly {
  readonly system: string;
  readonly said: string;
  readonly facts: Partial<RightsFacts>;
  readonly code?: string;
  readonly words: readonly RegExp[];
}[] = [
  {
    system: 'Debian with its switch turned off',
    said: EPERM,
    facts: { settings: { 'kernel.unprivileged_userns_clone': '0' } },
    words: [
      /kernel\.unprivileged_userns_clone=0/,
      /sudo sysctl -w kernel\.unprivileged_userns_clone=1/,
      /as root/,
    ],
  },
  {
    system: 'Ubuntu 24.04, where the namespace is made and then has no rights',
    said: 'RTNETLINK answers: Operation not permitted',
    facts: { settings: { 'kernel.apparmor_restrict_unprivileged_userns': '1' } },
    words: [/AppArmor/, /sudo sysctl -w kernel\.apparmor_restrict_unprivileged_userns=0/],
  },
  {
    system: 'Ubuntu 24.04, older unshare',
    said: 'unshare: write failed /proc/self/uid_map: Operation not permitted',
    facts: { settings: { 'kernel.apparmor_restrict_unprivileged_userns': '1' } },
    words: [/AppArmor/],
  },
  {
    system: 'user namespaces limited to none',
    said: 'unshare: unshare failed: No space left on device',
    facts: { settings: { 'user.max_user_namespaces': '0' } },
    words: [/user\.max_user_namespaces=0/, /sudo sysctl -w user\.max_user_namespaces=15000/],
  },
  {
    system: 'root, network namespaces limited to none',
    said: 'unshare: unshare failed: No space left on device',
    facts: { uid: 0, isAdmin: true, settings: { 'user.max_net_namespaces': '0' } },
    words: [/user\.max_net_namespaces=0/, /with: sysctl -w/],
  },
  {
    system: 'a limit above none is reached',
    said: 'unshare: unshare failed: No space left on device',
    facts: {},
    words: [/limit on namespaces is reached/],
  },
  {
    system: 'a container with the usual system call filter',
    said: EPERM,
    facts: { inContainer: true, isFiltered: true },
    words: [/container/, /docker run .*seccomp=unconfined/],
  },
  {
    system: 'a container without a filter, but with a masked /proc',
    said: 'unshare: mount /proc failed: Operation not permitted',
    facts: { inContainer: true, isProcMasked: true },
    words: [/\/proc are masked/, /systempaths=unconfined/],
  },
  {
    system: 'a kernel without user namespaces',
    said: 'unshare: unshare failed: Invalid argument',
    facts: { hasUserNamespaces: false },
    words: [/CONFIG_USER_NS/, /as root/],
  },
  {
    system: 'forbidden by something unknown: its words are shown',
    said: EPERM,
    facts: {},
    words: [/Operation not permitted/, /as root/],
  },
  {
    system: 'the kernel has no veth',
    said: 'RTNETLINK answers: Operation not supported',
    facts: {},
    code: 'KERNEL_FEATURE_MISSING',
    words: [/modprobe -a veth/],
  },
];

for (const { system, said, facts, code = 'NAMESPACES_FORBIDDEN', words } of CASES) {
  test(`the remedy: ${system}`, () => {
    const error = diagnoseNamespaces(said, { ...ORDINARY, ...facts });
    assert.equal(error.code, code);
    for (const word of words) assert.match(error.message, word);
  });
}

test('a mount below /proc masks it, except for the mount point made for one', () => {
  const line = (path: string): string => `30 22 0:5 / ${path} ro,relatime - proc proc rw`;
  assert.deepEqual(
    maskedProcPaths(
      ['/proc', '/proc/sys/fs/binfmt_misc', '/proc/kcore', '/proc/sys', '/process'].map(line).join('\n'),
    ),
    ['/proc/kcore', '/proc/sys'],
  );
});

test('the facts of this system are read', () => {
  const facts = readRightsFacts(process.getuid?.() ?? 0);
  assert.match(facts.settings['user.max_user_namespaces'] ?? '', /^\d+$/);
  assert.equal(
    readRightsFacts(1000).isAdmin,
    false,
    'an ordinary user is none, whatever capabilities it has',
  );
});
