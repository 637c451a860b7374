import assert from 'node:assert/strict';
import { test } from 'node:test';
import { containerOf } from './cgroup.ts';

// Paths as runtimes write them (cni.md A.5, step 5); the expectations are read off by eye.

const UID = '0d6d4bd8-b5a4-4d05-8e4a-3f2b7c0f5a11';
const ID = '5f8e0c2f3f1b4a79';

const cases: readonly [what: string, file: string, podUid: string | undefined, containerId?: string][] = [
  [
    'containerd, systemd, version 2',
    `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID.replaceAll('-', '_')}.slice/cri-containerd-${ID}.scope\n`,
    UID,
    ID,
  ],
  ['containerd, cgroupfs', `0::/kubepods/besteffort/pod${UID}/${ID}\n`, UID, ID],
  [
    'version 1, every hierarchy alike',
    `12:memory:/kubepods/burstable/pod${UID}/${ID}\n3:cpu,cpuacct:/kubepods/burstable/pod${UID}/${ID}\n1:name=systemd:/kubepods/burstable/pod${UID}/${ID}\n`,
    UID,
    ID,
  ],
  ['capital letters', `0::/kubepods/pod${UID.toUpperCase()}/${ID}`, UID, ID],
  [
    'CRI-O with the UID',
    `0::/kubepods.slice/kubepods-pod${UID.replaceAll('-', '_')}.slice/crio-${ID}.scope`,
    UID,
    ID,
  ],
  ['CRI-O without it', `0::/system.slice/crio-${ID}.scope`, '', ID],
  ['a colon in the path', `0::/odd:name/kubepods/pod${UID}/${ID}`, UID, ID],
  ['no pod', '0::/system.slice/sshd.service\n', undefined],
  ['the pod itself, without a container', `0::/kubepods/pod${UID}`, undefined],
  ['an empty file', '', undefined],
  ['a line with too few parts', `0::/kubepods/pod${UID}/${ID}\ngarbage`, undefined],
  ['two containers', `2:cpu:/kubepods/pod${UID}/${ID}\n1:memory:/kubepods/pod${UID}/another`, undefined],
  ['two pods', `2:cpu:/kubepods/pod${UID}/${ID}\n1:memory:/kubepods/pod1${UID.slice(1)}/${ID}`, undefined],
];

for (const [what, file, podUid, containerId] of cases)
  test(`cgroup: ${what}`, () =>
    assert.deepEqual(containerOf(file), podUid === undefined ? undefined : { podUid, containerId }));
