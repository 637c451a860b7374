// Changes of identity as successful no-ops, for programs that a person runs in a machine of one uid.
//
// An ordinary user's namespace maps one uid and denies setgroups (user_namespaces(7)). A program that finds itself root and
// wants to be somebody lesser (tcpdump does) takes the refusal for a failure and ends. A system call filter answers these
// calls with 0 and does nothing: there is nothing to give up, that root was the person all along.

import { MeshError } from '#base/errors.ts';
import { check, libc, pinnedMemory } from './libc.ts';

interface Calls {
  /** AUDIT_ARCH_*: numbers mean something on one architecture only. */
  readonly audit: number;
  /** setuid, setgid, setreuid, setregid, setgroups, setresuid, setresgid. */
  readonly numbers: readonly number[];
}

const ARCHITECTURES: Readonly<Record<string, Calls>> = {
  x64: { audit: 0xc000_003e, numbers: [105, 106, 113, 114, 116, 117, 119] },
  arm64: { audit: 0xc000_00b7, numbers: [146, 144, 145, 143, 159, 147, 149] },
};

const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2n;

// Classic BPF over struct seccomp_data: number at offset 0, architecture at 4 (seccomp(2)).
const LOAD_WORD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
const ALLOW = 0x7fff_0000;
/** SECCOMP_RET_ERRNO with errno 0: the call is not made and returns 0. */
const PRETEND = 0x0005_0000;

/** One instruction: code, jump if true, jump if false, constant. */
type Instruction = readonly [number, number, number, number];

export function identityFilter({ audit, numbers }: Calls): Instruction[] {
  return [
    [LOAD_WORD, 0, 0, 4],
    [JUMP_IF_EQUAL, 0, numbers.length + 1, audit],
    [LOAD_WORD, 0, 0, 0],
    ...numbers.map((number, index): Instruction => [JUMP_IF_EQUAL, numbers.length - index, 0, number]),
    [RETURN, 0, 0, ALLOW],
    [RETURN, 0, 0, PRETEND],
  ];
}

/** For the calling thread and everything it starts from now on; cannot be undone. */
export function pretendIdentityChanges(): void {
  const calls = ARCHITECTURES[process.arch];
  if (calls === undefined)
    throw new MeshError('KERNEL_FEATURE_MISSING', `no system call table for ${process.arch}`);
  const filter = identityFilter(calls);
  // struct sock_fprog (length, padding, pointer) with the instructions behind it.
  const { address, bytes } = pinnedMemory(16 + 8 * filter.length);
  bytes.fill(0);
  bytes.writeUInt16LE(filter.length, 0);
  bytes.writeBigUInt64LE(address + 16n, 8);
  filter.forEach(([code, ifTrue, ifFalse, constant], index) => {
    const at = 16 + 8 * index;
    bytes.writeUInt16LE(code, at);
    bytes.writeUInt8(ifTrue, at + 2);
    bytes.writeUInt8(ifFalse, at + 3);
    bytes.writeUInt32LE(constant, at + 4);
  });
  // Without it an ordinary user may not set a filter (seccomp(2)).
  check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n), 'prctl', 'giving up set-user-id programs');
  check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, address, 0n, 0n), 'prctl', 'setting the filter');
}
