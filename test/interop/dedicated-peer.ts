// The field's ztunnel as a process that serves one workload from a state file: its settings, what it prints, its end. Where it runs
// and how it is reached are the rigs' matter.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface DedicatedOptions {
  /** Whom it serves. */
  readonly local: { readonly namespace: string; readonly name: string; readonly serviceAccount: string };
  readonly node: string;
  /** The text of its state file. */
  readonly state: string;
  /** For the state file. */
  readonly dir: string;
  readonly ca: { readonly port: number; readonly rootPath: string } | undefined;
  readonly env?: Readonly<Record<string, string>>;
}

export interface DedicatedPeer {
  /** Printed since the start, or since `forget`. */
  said(): string;
  forget(): void;
  readonly hasEnded: boolean;
  /** Resolves when it is gone. */
  kill(): Promise<void>;
}

export function startDedicated(
  spawn: (env: Readonly<Record<string, string>>) => ChildProcess,
  { local, node, state, dir, ca, env }: DedicatedOptions,
): DedicatedPeer {
  const statePath = join(dir, 'state.yaml');
  writeFileSync(statePath, state);
  const child = spawn({
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: `${local.namespace}/${local.name}/${local.serviceAccount}`,
    NODE_NAME: node,
    LOCAL_XDS_PATH: statePath,
    XDS_ADDRESS: '',
    // Without an authority nobody signs there: a tunnel fails before it is dialled, and its line says where it would have gone.
    CA_ADDRESS: ca === undefined ? 'https://127.0.0.1:1' : `https://localhost:${ca.port}`,
    ...(ca === undefined ? {} : { CA_ROOT_CA: ca.rootPath }),
    ...env,
  });
  let printed = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
  const isOver = (): boolean => child.exitCode !== null || child.signalCode !== null;
  return {
    said: () => printed,
    forget: () => {
      printed = '';
    },
    get hasEnded() {
      return isOver();
    },
    async kill() {
      if (isOver()) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}
