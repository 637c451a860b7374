// The machine's first process: a shell that reaps orphans, starts LOCAL, and starts it again when it dies. A shell
// because Node as pid 1 leaves zombies. Only the text of the commands is made here; FRONT runs them.

import type { MachineConfig } from './messages.ts';
import { EXIT_FATAL, EXIT_STOPPED } from './messages.ts';
import { LOCAL_FLAGS, NODE_FLAGS } from './plan.ts';
import type { Tools } from './tools.ts';

/** After so many deaths, each within QUICK_DEATH_S of its start, the machine gives up. */
const QUICK_DEATHS = 5;
const QUICK_DEATH_S = 10;
export const EXIT_KEEPS_DYING = 71;

/**
 * The inherited listener and the IPC channel stay open in the shell, so every LOCAL it starts has them.
 * SIGTERM to pid 1 does nothing (no handler): the machine ends by LOCAL's exit code 0 or with its `unshare`.
 */
export const PID_ONE_SCRIPT = `
quick=0
while :; do
  began=$(date +%s)
  "$@" &
  wait $!
  code=$?
  case $code in ${EXIT_STOPPED} | ${EXIT_FATAL}) exit $code ;; esac
  echo "pid 1: LOCAL ended with code $code; starting it again" >&2
  if [ $(($(date +%s) - began)) -lt ${QUICK_DEATH_S} ]; then quick=$((quick + 1)); else quick=0; fi
  [ $quick -lt ${QUICK_DEATHS} ] || exit ${EXIT_KEEPS_DYING}
  sleep 0.1
done
`;

/**
 * Everything in them dies with `unshare` (--kill-child). Without the rights of root a user namespace around them gives
 * these rights inside: the one difference between the two ways to run the machine.
 */
export function newNamespaces(inUserNamespace: boolean): string[] {
  return [
    ...(inUserNamespace ? ['--user', '--map-root-user'] : []),
    '--net',
    '--mount',
    '--pid',
    '--fork',
    '--kill-child',
    '--mount-proc',
  ];
}

/** Arguments of `unshare` for the whole machine. */
export function machineArguments(tools: Tools, config: MachineConfig, inUserNamespace: boolean): string[] {
  return [
    ...newNamespaces(inUserNamespace),
    tools.sh,
    '-c',
    PID_ONE_SCRIPT,
    'machine',
    config.node,
    ...NODE_FLAGS,
    ...LOCAL_FLAGS,
    `${config.root}/dist/local.mjs`,
    JSON.stringify(config),
  ];
}
